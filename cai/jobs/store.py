"""Jobs and their events in the database: what clients ask for, and what workers tell.

The records are our own and not DBOS's, whose rows know neither actor, progress nor result, and
change with its version. DBOS decides who runs what when; both are written in one transaction when a
job is submitted. What a worker writes counts only while the job is its own. Start from `JobStore`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cai.db import Database
from cai.errors import ConflictError, InputError, NotFoundError
from cai.jobs.spec import (
    ACTIVE,
    JobEvent,
    JobRecord,
    JobSpec,
    Progress,
    RequestKey,
    State,
    check_name,
    now,
)
from cai.tables import job_events, jobs

Enqueue = Callable[[Connection, str, int], None]
"""Puts a job's id, with its priority, into the queue within the given transaction."""

_HIDDEN = ("seq", "target", "request_key", "request_digest")


class JobStore:
    """The jobs of one database. Calls block: a server makes them in threads."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def submit(
        self,
        spec: JobSpec,
        *,
        actor: str,
        enqueue: Enqueue,
        id: str | None = None,
        target: str | None = None,
        request: RequestKey | None = None,
    ) -> JobRecord:
        """Record a job and queue it, both or neither.

        Raises ConflictError while another job writes to the same target, InputError when the
        request's key came with another body before.
        """
        if request is not None and (known := self.by_request(request)) is not None:
            return known
        id = id or new_id(spec.kind)
        try:
            with self.database.begin() as connection:
                connection.execute(insert(jobs).values(_row(id, spec, actor, target, request)))
                _tell(connection, id, "submitted", {"actor": actor})
                enqueue(connection, id, spec.priority)
        except IntegrityError:
            if request is not None and (known := self.by_request(request)) is not None:
                return known  # sent twice at once
            self._raise_taken(target)
            raise
        return self.get(id)

    def by_request(self, request: RequestKey) -> JobRecord | None:
        """The job of a request that came before. Raises InputError where its body was another."""
        with self.database.read() as connection:
            query = select(jobs).where(jobs.c.request_key == request.key)
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        if row["request_digest"] != request.digest:
            raise InputError(
                "this Idempotency-Key came with another job before; use a new key",
                param="Idempotency-Key",
            )
        return _record(row)

    def get(self, id: str) -> JobRecord:
        """One job. Raises NotFoundError."""
        check_name(id, "job", "job")
        with self.database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == id)).mappings().first()
        if row is None:
            raise NotFoundError(f"no job '{id}'; see 'cai jobs list'", param="job")
        return _record(row)

    def page(
        self, *, state: State | None = None, after: str | None = None, limit: int = 100
    ) -> list[JobRecord]:
        """Jobs, newest first, those that were submitted before the job `after`."""
        query = select(jobs).order_by(jobs.c.seq.desc()).limit(limit)
        if state is not None:
            query = query.where(jobs.c.state == state)
        if after is not None:
            self.get(after)
            before = select(jobs.c.seq).where(jobs.c.id == after).scalar_subquery()
            query = query.where(jobs.c.seq < before)
        return self._all(query)

    def num_active(self) -> int:
        """How many jobs are queued or run."""
        query = select(func.count()).select_from(jobs).where(jobs.c.state.in_(ACTIVE))
        with self.database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def events(self, id: str, *, after: int = 0) -> list[JobEvent]:
        """What happened to a job after the event `after`, in order."""
        query = (
            select(job_events)
            .where(job_events.c.job_id == id, job_events.c.seq > after)
            .order_by(job_events.c.seq)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [JobEvent.model_validate(dict(row)) for row in rows]

    def cancel(self, id: str, *, actor: str) -> JobRecord:
        """Cancel a job: a queued one at once, of a running one the processes are stopped first.

        Raises ConflictError for one that is over or being cancelled already.
        """
        found = self.get(id)
        with self.database.begin() as connection:
            if _change(connection, id, ("queued",), state="cancelled", ended_at=now()):
                _tell(connection, id, "cancelled", {"actor": actor})
            elif _change(
                connection, id, ("running",), jobs.c.is_cancelling.is_(False), is_cancelling=True
            ):
                _tell(connection, id, "cancelling", {"actor": actor})
            else:
                row = connection.execute(select(jobs).where(jobs.c.id == id)).mappings().one()
                found = _record(row)
                how = "being cancelled" if found.is_cancelling else found.state
                raise ConflictError(f"the job '{id}' is {how} already", param="job")
        return self.get(id)

    def begin_attempt(self, id: str, worker: str) -> JobRecord:
        """The job as this worker's own. An ended one is returned as it is."""
        with self.database.begin() as connection:
            begun = _change(
                connection,
                id,
                ACTIVE,
                state="running",
                worker=worker,
                attempts=jobs.c.attempts + 1,
            )
            if begun:
                first = jobs.c.started_at.is_(None)
                connection.execute(
                    update(jobs).where(jobs.c.id == id, first).values(started_at=now())
                )
                row = connection.execute(select(jobs).where(jobs.c.id == id)).mappings().one()
                data = {"attempt": row["attempts"], "worker": worker}
                _tell(connection, id, "started", data)
        return self.get(id)

    def release(self, id: str, worker: str) -> None:
        """Give a job back unfinished, without counting the attempt: the worker is stopping."""
        with self.database.begin() as connection:
            released = _change(
                connection,
                id,
                ("running",),
                jobs.c.worker == worker,
                state="queued",
                attempts=jobs.c.attempts - 1,
            )
            if released:
                _tell(connection, id, "released", {"worker": worker})

    def progress(self, id: str, worker: str, progress: Progress) -> bool:
        """Say how far the job is; False when it is no longer this worker's."""
        data = progress.model_dump(mode="json")
        with self.database.begin() as connection:
            is_mine = _change(connection, id, ("running",), jobs.c.worker == worker, progress=data)
            if is_mine:
                _tell(connection, id, "progress", data)
        return is_mine

    def note(self, id: str, worker: str, type: str, data: dict[str, Any]) -> bool:
        """An event of a job that is this worker's; False when it is no longer."""
        with self.database.begin() as connection:
            is_mine = _change(connection, id, ("running",), jobs.c.worker == worker, worker=worker)
            if is_mine:
                _tell(connection, id, type, data)
        return is_mine

    def finish(
        self,
        id: str,
        state: State,
        *,
        result: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """End a job; False when it was over already. The first end counts."""
        values = {"state": state, "result": result, "error": error, "ended_at": now()}
        with self.database.begin() as connection:
            is_ended = _change(connection, id, ACTIVE, is_cancelling=False, **values)
            if is_ended:
                told = {"result": result, "error": error}
                _tell(connection, id, state, {k: v for k, v in told.items() if v is not None})
        return is_ended

    def _all(self, query: Select[Any]) -> list[JobRecord]:
        with self.database.read() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def _raise_taken(self, target: str | None) -> None:
        active = select(jobs).where(jobs.c.target == target, jobs.c.state.in_(ACTIVE))
        for record in self._all(active):
            raise ConflictError(
                f"the job '{record.id}' is {record.state} and writes to {target} too; wait for it, "
                "cancel it, or give another name",
                param="params",
            )


def new_id(kind: str) -> str:
    """An id that no job has."""
    return f"{kind}-{secrets.token_hex(6)}"


def _row(
    id: str, spec: JobSpec, actor: str, target: str | None, request: RequestKey | None
) -> dict[str, Any]:
    return {
        **spec.model_dump(mode="json"),
        "id": id,
        "state": "queued",
        "target": target,
        "actor": actor,
        "request_key": request and request.key,
        "request_digest": request and request.digest,
        "created_at": now(),
        "attempts": 0,
        "is_cancelling": False,
        "progress": Progress().model_dump(mode="json"),
    }


def _change(
    connection: Connection, id: str, states: Sequence[State], *conditions: Any, **values: Any
) -> bool:
    """Whether the job was in one of `states`, and was changed. Its row is ours until the commit."""
    changed = connection.execute(
        update(jobs).where(jobs.c.id == id, jobs.c.state.in_(states), *conditions).values(**values)
    )
    return changed.rowcount == 1


def _tell(connection: Connection, id: str, type: str, data: dict[str, Any]) -> None:
    """Record an event. The job's row is changed before, so that a job's events come in order."""
    connection.execute(insert(job_events).values(job_id=id, at=now(), type=type, data=data))


def _record(row: RowMapping) -> JobRecord:
    return JobRecord.model_validate(
        {name: value for name, value in row.items() if name not in _HIDDEN}
    )
