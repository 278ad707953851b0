"""Which workers live: each tells regularly that it does, and others take over from the dead.

On one machine a process is asked for in /proc, so a death is seen at once; of another machine only
the silence is seen, after `LEASE_S`. Start from `Worker.register` and `WorkerStore.dead`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import delete, insert, select, update

from cai.db import Database
from cai.engine.ownership import is_alive, own_mark
from cai.jobs.spec import now
from cai.tables import job_workers

LEASE_S = 60.0
"""Seconds of silence after which a worker on another machine counts as dead."""

_KEPT_S = 3600.0  # a dead worker's line, for what DBOS may not have handed over yet


class WorkerLine(NamedTuple):
    """What the table has of one worker."""

    id: str
    machine: str
    mark: str
    seen_at: float
    has_ended: bool


class WorkerStore:
    """The workers of one database."""

    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._lease_s = lease_s

    def register(self, id: str) -> None:
        """This process is the worker `id` from now on."""
        line = {"id": id, "machine": machine(), "mark": own_mark(), "started_at": now()}
        with self._database.begin() as connection:
            connection.execute(
                insert(job_workers).values(**line, seen_at=time.time(), has_ended=False)
            )

    def heartbeat(self, id: str) -> bool:
        """Say that the worker lives; False when others have taken it for dead."""
        with self._database.begin() as connection:
            lives = job_workers.c.has_ended.is_(False)
            told = connection.execute(
                update(job_workers).where(job_workers.c.id == id, lives).values(seen_at=time.time())
            )
        return told.rowcount == 1

    def end(self, id: str) -> None:
        """The worker is gone: its jobs are for others."""
        with self._database.begin() as connection:
            connection.execute(
                update(job_workers).where(job_workers.c.id == id).values(has_ended=True)
            )

    def dead(self) -> list[str]:
        """Workers that are gone, marked as such: one that only was silent learns of it."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(
                    job_workers.c.id,
                    job_workers.c.machine,
                    job_workers.c.mark,
                    job_workers.c.seen_at,
                    job_workers.c.has_ended,
                )
            ).all()
        lines = [WorkerLine(*row) for row in rows]
        return [
            line.id
            for line in lines
            if line.has_ended or (not self._lives(line) and self._declare_dead(line))
        ]

    def forget(self) -> None:
        """Drop the lines of workers that have long been dead."""
        with self._database.begin() as connection:
            connection.execute(
                delete(job_workers).where(
                    job_workers.c.has_ended.is_(True),
                    job_workers.c.seen_at < time.time() - _KEPT_S,
                )
            )

    def _declare_dead(self, line: WorkerLine) -> bool:
        """Whether it was still silent."""
        with self._database.begin() as connection:
            is_silent = (job_workers.c.id == line.id) & (job_workers.c.seen_at == line.seen_at)
            told = connection.execute(update(job_workers).where(is_silent).values(has_ended=True))
        return told.rowcount == 1

    def _lives(self, line: WorkerLine) -> bool:
        if line.machine == machine():
            return is_alive(line.mark)
        return time.time() - line.seen_at < self._lease_s


def machine() -> str:
    """This boot of this machine, and its process numbers' namespace."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}:{own_mark().rpartition(':')[2]}"
