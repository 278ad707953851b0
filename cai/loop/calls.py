"""What a loop asks of the server: files, jobs and policies. Speaks HTTP through what it is given.

Once the server has answered, it may be away for a while. Start from `LoopServer`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from cai.errors import CaiError, ConflictError, EngineDeadError, OverloadedError
from cai.jobs.spec import ACTIVE, State

POLL_S: Final = 1.0
"""Seconds between two looks at a job, and between two tries while the server is away."""

_AWAY = (EngineDeadError, OverloadedError)

T = TypeVar("T")


class Client(Protocol):
    """One server by HTTP: `cai.cli.server_client.ServerClient`. Raises CaiError."""

    url: str

    def get(self, path: str) -> Any:
        """The JSON of `GET path`."""
        ...

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, once: str | None = None
    ) -> Any:
        """The JSON of `POST path`; `once` is its Idempotency-Key."""
        ...

    def upload(self, file: Path) -> Any:
        """The record of the file that the server keeps."""
        ...


class SeenProgress(BaseModel):
    """How far a job is; `total` is unknown at first."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    stage: str = ""
    done: int | None = None
    total: int | None = None
    note: str = ""


class SeenJob(BaseModel):
    """A job as the server shows it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    state: State
    progress: SeenProgress = SeenProgress()
    result: dict[str, Any] | None = None
    error: str | None = None


class LoopServer:
    """The calls, with patience. Blocking."""

    def __init__(
        self,
        client: Client,
        *,
        patience_s: float,
        worker_timeout_s: float,
        on_away: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self._client = client
        self._patience_s = patience_s
        self._worker_timeout_s = worker_timeout_s
        self._on_away = on_away
        self._has_answered = False

    @property
    def url(self) -> str:
        """The server's address."""
        return self._client.url

    def live(self) -> str:
        """The policy that answers as `live`."""
        model = self._ask(lambda: self._client.get("/v1/models/live"))
        try:
            return str(model["cai"]["policy"])
        except (KeyError, TypeError):
            raise CaiError(f"{self.url} is no server of this service; check --url") from None

    def upload(self, file: Path) -> str:
        """The id of the uploaded file."""
        return str(self._ask(lambda: self._client.upload(file))["id"])

    def submit(self, body: Mapping[str, Any], *, once: str) -> str:
        """The id of the job; the same key gives the same job."""
        return self._job(self._ask(lambda: self._client.post("/v1/jobs", body, once=once))).id

    def wait(self, id: str, on_look: Callable[[SeenJob], None]) -> SeenJob:
        """The job once it is over. Raises ConflictError when there is no worker to run it."""
        idle_since = time.monotonic()
        while True:
            seen = self._job(self._ask(lambda: self._client.get(f"/v1/jobs/{quote(id, safe='')}")))
            on_look(seen)
            if seen.state not in ACTIVE:
                return seen
            if seen.state == "running" or self._is_working(idle_since):
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since >= self._worker_timeout_s:
                raise ConflictError(
                    f"the job '{id}' has waited for {self._worker_timeout_s:g} s and no worker is "
                    "at work; start one with 'cai worker', and run the same command again"
                )
            time.sleep(POLL_S)

    def state_of(self, policy: str) -> str:
        """The state of a registered policy."""
        path = f"/v1/policies/{quote(policy, safe='')}"
        return str(self._ask(lambda: self._client.get(path))["state"])

    def make_live(self, policy: str, *, reason: str) -> None:
        """Have it verified and promoted. Raises what the server says unless it is live then."""
        path = f"/v1/policies/{quote(policy, safe='')}/promote"
        try:
            self._ask(lambda: self._client.post(path, {"reason": reason}))
        except ConflictError:
            if self.state_of(policy) != "live":
                raise

    def _is_working(self, idle_since: float) -> bool:
        """Whether some job runs; asked only when it matters."""
        if time.monotonic() - idle_since < self._worker_timeout_s:
            return False
        return bool(self._ask(lambda: self._client.get("/v1/jobs?state=running&limit=1"))["data"])

    def _job(self, answer: Any) -> SeenJob:
        try:
            return SeenJob.model_validate(answer)
        except ValidationError:
            raise CaiError(f"{self.url} showed no job where there should be one") from None

    def _ask(self, call: Callable[[], T]) -> T:
        """The answer, asked for again while the server is away: every call here bears it."""
        until = time.monotonic() + (self._patience_s if self._has_answered else 0.0)
        is_told = False
        while True:
            try:
                answer = call()
            except _AWAY as exc:
                if time.monotonic() >= until:
                    raise
                if not is_told:
                    self._on_away(exc.message)
                is_told = True
                time.sleep(POLL_S)
            else:
                self._has_answered = True
                return answer
