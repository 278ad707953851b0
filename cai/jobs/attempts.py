"""The attempts of a job's command: after a crash again, from where it was, a few times.

A worker that ends, or has lost the job, abandons it: no outcome is told then. Start from
`Attempts.bring_to_end`.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from cai.errors import CaiError, ConfigError
from cai.jobs.calls import ServerCalls
from cai.jobs.lease import leased
from cai.jobs.logs import JobLog, last_line, log_path
from cai.jobs.patience import insist
from cai.jobs.place import Command
from cai.jobs.runner import Ended, Stop, run_child
from cai.jobs.spec import JobRecord, Progress
from cai.jobs.store import JobStore
from cai.settings import Settings

logger = logging.getLogger(__name__)

Outcome = dict[str, Any]
"""`state`, and `result` and `error` where there are: JSON, as DBOS keeps it between steps."""

BACK_OFF_S: Final = 5.0
"""Seconds before the second attempt; twice as long before each further one."""

_LONGEST_PAUSE_S = 120.0
_LOOK_EVERY_S = 1.0
_CUT_OFF_FACTOR = 10  # a worker's death and an absent server count a tenth of a failure
_ASK_EVERY_S = 1.0
_TURN_S = 86_400.0  # another job may have the engine's device for as long as it trains
_BAD_INPUT = 2  # the exit code of a command that would fail again


class Attempts:
    """Runs commands of jobs for one worker."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        worker: str,
        *,
        server: ServerCalls | None,
        back_off_s: float = BACK_OFF_S,
    ) -> None:
        self._store = store
        self._settings = settings
        self._worker = worker
        self._server = server
        self._back_off_s = back_off_s
        self._num_running = 0
        self._lock = threading.Lock()
        self.leaving: Stop | None = None

    @property
    def num_running(self) -> int:
        """Children at work."""
        return self._num_running

    def leave(self, why: Stop) -> None:
        """Stop every child: the worker ends, or has lost its jobs to others. No job ends by it."""
        self.leaving = why

    def bring_to_end(
        self, record: JobRecord, command: Callable[[], Command], *, stage: str
    ) -> dict[str, Any]:
        """`{"printed": …}` of the attempt that ended well, or the outcome of the job."""
        with self.counted():
            return self._bring_to_end(record, command, stage)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Be among those at work, whom `leave` stops and a worker that ends waits for."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def ask_server(
        self,
        id: str,
        call: Callable[[], object],
        *,
        busy_s: float,
        is_busy: Callable[[], bool] = lambda: True,
    ) -> Stop | None:
        """Make `call`, for as long as the server is busy or away; `cancelled` when the job is.

        For inside `counted`. Raises as `insist`.
        """
        is_told = False

        def on_wait(why: str) -> None:
            nonlocal is_told
            if is_told:  # it is asked every few seconds, for a day perhaps
                return
            is_told = True
            logger.info("job=%s waits: %s", id, why)
            self._store.note(id, self._worker, "waiting", {"error": why})
            self._progress(id, Progress(stage="waiting"))

        asking, pause_s = self._asking(id), self._back_off_s
        stop = insist(
            call,
            should_stop=asking,
            on_wait=on_wait,
            busy_s=busy_s,
            is_busy=is_busy,
            pause_s=pause_s,
        )
        if stop in ("stopping", "lost"):
            self._abandon(id, stop)
        return stop

    def _bring_to_end(
        self, record: JobRecord, command: Callable[[], Command], stage: str
    ) -> dict[str, Any]:
        limit, num_failed = self._settings.job_attempts, 0
        while True:
            if record.is_over or record.is_cancelling:
                return {"state": record.state if record.is_over else "cancelled"}
            if record.attempts > limit * _CUT_OFF_FACTOR:
                return failed(self._given_up(record, record.attempts - 1))
            ended = self._attempt(record, command(), stage)
            if ended.stop == "cancelled":
                return {"state": "cancelled"}
            if ended.code == 0:
                return {"printed": _json(ended.printed)}
            why = self._why(record) or f"it ended with exit code {ended.code}"
            is_away = self._server_is_away()
            if ended.code == _BAD_INPUT and not is_away:
                return failed(why)
            num_failed += not is_away
            if num_failed >= limit:
                return failed(self._given_up(record, record.attempts))
            self._pause(record, why, max(1, num_failed))
            record = self._store.begin_attempt(record.id, self._worker)

    def _attempt(self, record: JobRecord, command: Command, stage: str) -> Ended:
        env = {**os.environ, **self._places(), **command.env}
        path = self._log(record.id)
        with self._device(record) as stop, JobLog(path, env=env) as log:
            if stop is not None:
                return Ended(0, stop, b"")
            self._progress(record.id, Progress(stage=stage))
            log.write(f"# attempt {record.attempts}: {stage}\n".encode())
            ended = run_child(
                record.id,
                command.argv,
                env,
                log=log,
                output=path.with_suffix(".out"),
                should_stop=self._asking(record.id),
                on_progress=lambda now: self._progress(
                    record.id, now.model_copy(update={"stage": stage})
                ),
            )
        if ended.stop in ("stopping", "lost"):
            self._abandon(record.id, ended.stop)
        return ended

    def _places(self) -> dict[str, str]:
        """Where the child finds what the worker works on, wherever it looks for settings."""
        settings = self._settings
        places = {
            "CAI_HOME": str(settings.home.absolute()),
            "CAI_CONSTITUTIONS": str(settings.constitutions.absolute()),
            "CAI_DATABASE_URL": self._store.database.url.render_as_string(hide_password=False),
        }
        return places if settings.url is None else {**places, "CAI_URL": settings.url}

    def _asking(self, id: str) -> Callable[[], Stop | None]:
        """Whether the job is to stop; the database is asked now and then."""
        asked_at = 0.0

        def ask() -> Stop | None:
            nonlocal asked_at
            if self.leaving is not None:
                return self.leaving
            if time.monotonic() - asked_at < _ASK_EVERY_S:
                return None
            asked_at = time.monotonic()
            with suppress(CaiError):  # a database that is away for a moment stops nothing
                record = self._store.get(id)
                if record.is_cancelling or record.is_over:
                    return "cancelled"
                if record.worker != self._worker:
                    return "lost"
            return None

        return ask

    def _progress(self, id: str, progress: Progress) -> None:
        with suppress(CaiError):
            self._store.progress(id, self._worker, progress)

    def _server_is_away(self) -> bool:
        """Whether a failure may be the server's: then it says nothing of the job."""
        return self._server is not None and not self._server.is_ready()

    def _pause(self, record: JobRecord, why: str, num_failed: int) -> None:
        """Wait before the next attempt, unless the job is stopped meanwhile.

        A server that is away is waited for, as long as a pause may be.
        """
        seconds = min(self._back_off_s * 2 ** (num_failed - 1), _LONGEST_PAUSE_S)
        self._store.note(record.id, self._worker, "retrying", {"in_s": seconds, "error": why})
        began, ask = time.monotonic(), self._asking(record.id)
        while (waited := time.monotonic() - began) < _LONGEST_PAUSE_S:
            if waited >= seconds and not self._server_is_away():
                return
            stop = ask()
            if stop in ("stopping", "lost"):
                self._abandon(record.id, stop)
            if stop is not None:
                return
            time.sleep(min(0.25, seconds) if waited < seconds else _LOOK_EVERY_S)

    def _abandon(self, id: str, why: Stop) -> NoReturn:
        if why == "stopping":
            with suppress(CaiError):
                self._store.release(id, self._worker)
        self._count(-1)
        park()

    def _count(self, change: int) -> None:
        with self._lock:
            self._num_running += change

    @contextmanager
    def _device(self, record: JobRecord) -> Iterator[Stop | None]:
        """The engine asleep meanwhile, for a job that shares its device.

        Gives what stopped the job before it had its turn.
        """
        if not record.spec.is_shared:
            yield None
            return
        if self._server is None:
            raise ConfigError("placement: shared needs a server to share with; set CAI_URL")
        server, id = self._server, record.id
        try:
            with ExitStack() as lease:
                yield self.ask_server(
                    id, lambda: lease.enter_context(leased(server, id)), busy_s=_TURN_S
                )
        finally:
            self.wake(record.id)

    def wake(self, id: str) -> None:
        """A server that is away wakes with its start, so that no job fails by this."""
        if self._server is None:
            return
        try:
            self._server.wake(id)
        except CaiError as exc:
            logger.warning("job=%s the engine was not woken: %s", id, exc.message)

    def _given_up(self, record: JobRecord, attempts: int) -> str:
        return f"given up after {attempts} attempts: {self._why(record) or 'it left no word'}"

    def _why(self, record: JobRecord) -> str:
        """What the command said last, as `cai` says what went wrong."""
        return last_line(self._log(record.id)).removeprefix("cai: ")

    def _log(self, id: str) -> Path:
        return log_path(self._settings.home, id)


def park() -> NoReturn:
    """Never return: a step that returned or raised would be the end of the job for DBOS."""
    while True:
        threading.Event().wait()


def done(result: Mapping[str, Any]) -> Outcome:
    """The outcome of what went well."""
    return {"state": "done", "result": dict(result)}


def failed(error: str, result: Mapping[str, Any] | None = None) -> Outcome:
    """The outcome of what did not, with what there is nevertheless."""
    outcome: Outcome = {"state": "failed", "error": error}
    return outcome if result is None else {**outcome, "result": dict(result)}


def _json(printed: bytes) -> Any:
    try:
        return json.loads(printed)
    except ValueError:
        return None
