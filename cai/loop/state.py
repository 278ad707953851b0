"""What is known of a loop, so that the same command goes on: HOME/loops/<digest>/state.json.

Written whole before anything is asked of the server and after each answer. Start from `Notebook`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cai.dataset.lock import RunLock
from cai.errors import ConflictError, DataError
from cai.files import digest_json, read_json, replace_json
from cai.jobs.spec import State as JobState

STATE = "state.json"
CONFIG = "config.yaml"

_DIGITS = 16  # of the digest, in the folder's name
_CUT = 7  # sha256:

Outcome = Literal["live", "rejected"]
Figures = dict[str, Any]


class _Notes(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JobNote(_Notes):
    """One job of a round; the request is noted before it is sent."""

    body: dict[str, Any]
    attempt: int = 1
    """Counts the submissions: a job that failed is submitted anew."""
    take: int = 1
    """Counts the names of what it makes: what is there already is not made again."""
    id: str | None = None
    state: JobState | None = None
    """How it ended; None while it has not, as far as is known."""
    result: dict[str, Any] = {}
    error: str | None = None


class RoundNote(_Notes):
    """One round."""

    number: int
    started_from: str
    """The policy that was live."""
    jobs: dict[str, JobNote] = {}
    policy: str | None = None
    """The policy that came of it."""
    outcome: Outcome | None = None
    before: Figures = {}
    """Rates of the policy that it began from."""
    after: Figures = {}
    """Rates of the policy that came of it."""
    reasons: list[str] = []
    """Why that was rejected."""
    seconds: float = 0.0
    """That the loop worked on the round, waiting included."""

    @property
    def num_pairs(self) -> int:
        """Judged pairs of its datasets."""
        return sum(_pairs(job) for key, job in self.jobs.items() if key.startswith("dataset-"))

    @property
    def num_human(self) -> int:
        """Pairs by people."""
        return _pairs(self.jobs["feedback"]) if "feedback" in self.jobs else 0


class LoopNotes(_Notes):
    """The whole loop."""

    format: Literal[1] = 1
    id: str
    """Part of every name that it gives; another one after `--fresh`."""
    settled: dict[str, Any]
    url: str
    """The server that it was begun on."""
    file: str | None = None
    """Id of the uploaded prompts."""
    has_begun: bool = False
    """Whether the policy to begin from is live."""
    figures: dict[str, Figures] = {}
    """What was measured, by policy."""
    rounds: list[RoundNote] = []

    @property
    def feedback_seen(self) -> int:
        """The place up to which the rounds that went live have learnt what people said."""
        told = [
            one.jobs["feedback"].result.get("last", 0)
            for one in self.rounds
            if one.outcome == "live" and "feedback" in one.jobs
        ]
        return max(told, default=0)


class Notebook:
    """The notes of one loop on disk, held by one process. A context manager."""

    def __init__(self, home: Path, settled: Mapping[str, Any]) -> None:
        self._settled = dict(settled)
        self.folder = home / "loops" / digest_json(self._settled)[_CUT : _CUT + _DIGITS]
        self._lock: RunLock | None = None
        self._seen_at = time.monotonic()

    def __enter__(self) -> Self:
        """Raises ConflictError while another process runs the same loop."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = RunLock.take(self.folder)
        except ConflictError:
            raise ConflictError(
                f"{self.folder}: another process runs this loop; wait for it, or stop it"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def open(self, url: str, *, fresh: bool) -> LoopNotes:
        """The notes from before, or new ones. Raises DataError where they cannot be read."""
        path = self.folder / STATE
        if fresh or not path.exists():
            notes = LoopNotes(id=secrets.token_hex(4), settled=self._settled, url=url)
            self.save(notes)
            return notes
        try:
            return LoopNotes.model_validate(read_json(path))
        except ValidationError:
            raise DataError(f"{path}: not the state of a loop; start over with --fresh") from None

    def save(self, notes: LoopNotes, now: RoundNote | None = None) -> None:
        """Write the notes; the time since the last writing counts for the round `now`."""
        moment = time.monotonic()
        if now is not None:
            now.seconds = round(now.seconds + moment - self._seen_at, 3)
        self._seen_at = moment
        replace_json(self.folder / STATE, notes.model_dump(mode="json"))


def _pairs(job: JobNote) -> int:
    return int(job.result.get("counts", {}).get("pairs", 0))
