"""The loop of `cai worker`: takes queued jobs, and takes over those of workers that died.

DBOS hands out the jobs and remembers finished steps; it does not see that a worker died, so each
worker looks at the others' signs of life and gives the jobs of the dead back to the queue. Start
from `run_worker`.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn

from cai.db import open_database
from cai.errors import CaiError
from cai.jobs.attempts import BACK_OFF_S, Attempts
from cai.jobs.calls import ServerCalls
from cai.jobs.place import Workplace
from cai.jobs.queue import QUEUE, JobQueue, dbos_config
from cai.jobs.runner import GRACE_S, Stop
from cai.jobs.store import JobStore
from cai.jobs.tasks import Tasks
from cai.jobs.workers import LEASE_S, WorkerStore
from cai.jobs.workflows import install
from cai.settings import Settings

from dbos import DBOS  # isort: skip  # after `queue`, which says what to install where it is not

logger = logging.getLogger(__name__)

BEAT_S: Final = 2.0
"""Seconds between two signs of life, and between two looks at the others."""
POLL_S: Final = 1.0
"""Seconds between two looks into the queue."""


def run_worker(
    settings: Settings,
    *,
    until_idle: bool = False,
    on_ready: Callable[[str], None] = lambda _id: None,
    beat_s: float = BEAT_S,
    poll_s: float = POLL_S,
    back_off_s: float = BACK_OFF_S,
) -> NoReturn:
    """Work until SIGTERM or SIGINT, then end the process: 0, or 1 when the jobs were lost.

    `until_idle` ends it too once no job is queued or runs. Jobs at work are stopped so that they
    go on where they were, and are left to other workers.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    worker = _Worker(settings, back_off_s=back_off_s)
    worker.launch(poll_s)
    on_ready(worker.id)
    why: Stop = "stopping"
    while not stopping.wait(beat_s):
        if not worker.beat():
            why = "lost"
            break
        if until_idle and worker.is_idle():
            break
    worker.leave(why)


class _Worker:
    def __init__(self, settings: Settings, *, back_off_s: float) -> None:
        self._settings = settings
        self._database = open_database(settings)
        JobQueue(self._database).close()  # its tables
        self._workers = WorkerStore(self._database)
        self._store = JobStore(self._database)
        self.id = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
        server = ServerCalls.from_environment(settings.url) if settings.url else None
        self._attempts = Attempts(
            self._store, settings, self.id, server=server, back_off_s=back_off_s
        )
        place = Workplace.of(settings, self._database)
        self._tasks = Tasks(self._store, place, self.id, attempts=self._attempts, server=server)
        self._seen_at = time.monotonic()

    def launch(self, poll_s: float) -> None:
        """Be known as alive, then take jobs."""
        self._workers.register(self.id)
        install(self._tasks)
        DBOS(config=dbos_config(self._database, self.id))
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._settings.worker_jobs,
            polling_interval_sec=poll_s,
            on_conflict="always_update",
        )
        logger.info("worker=%s started", self.id)

    def beat(self) -> bool:
        """Tell that we live, and take over from the dead; False when we count as dead ourselves."""
        try:
            if not self._workers.heartbeat(self.id):
                return False
            self._seen_at = time.monotonic()
            self._recover()
        except CaiError as exc:
            logger.warning("worker=%s cannot reach the database: %s", self.id, exc.message)
        return time.monotonic() - self._seen_at < LEASE_S / 2

    def is_idle(self) -> bool:
        """Whether no job is queued or runs."""
        return self._store.num_active() == 0

    def leave(self, why: Stop) -> NoReturn:
        """Stop the children, give their jobs back, and end the process at once.

        At once, because steps that were cut off wait for ever in DBOS's threads: a step that ended
        would be the end of its job.
        """
        self._attempts.leave(why)
        until = time.monotonic() + GRACE_S + 5.0
        while self._attempts.num_running and time.monotonic() < until:
            time.sleep(0.05)
        try:
            if why == "stopping":
                self._workers.end(self.id)
        except CaiError as exc:
            logger.warning("worker=%s ends without a word: %s", self.id, exc.message)
        logger.info("worker=%s %s", self.id, why)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if why == "stopping" else 1)

    def _recover(self) -> None:
        """Give back the jobs of dead workers.

        The only way to is DBOS's own, which is not public; it changes a job only while a worker in
        the list has it, so that several may do it at once, and again.
        """
        dead = self._workers.dead()
        if dead and (handles := DBOS._recover_pending_workflows(dead)):
            logger.info("worker=%s recovered=%d", self.id, len(handles))
        self._workers.forget()


def _host() -> str:
    name = "".join(c for c in socket.gethostname().lower() if c.isascii() and c.isalnum())
    return name[:32] or "worker"
