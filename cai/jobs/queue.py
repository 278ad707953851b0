"""The queue on DBOS, as those see it who submit jobs: no worker is needed for that.

It lives in the database of everything else (a schema of its own on PostgreSQL), so that a job's
record and its place in the queue are written together. Start from `JobQueue`.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from sqlalchemy import URL, Connection

from cai.db import Database
from cai.errors import MissingDependencyError

try:
    from dbos import DBOS, DBOSClient, DBOSConfig
    from dbos._serialization import DBOSPortableJSON
except ModuleNotFoundError as exc:
    raise MissingDependencyError("jobs", exc.name or "dbos", "jobs") from exc

APPLICATION: Final = "cai"
QUEUE: Final = "jobs"
WORKFLOW: Final = "job"
VERSION: Final = "1"
"""Of the workflow's steps. DBOS would hash the source, and strand what an upgrade finds queued."""

SERIALIZER: Final = DBOSPortableJSON  # DBOS pickles by default
_HIGHEST = 101  # DBOS takes smaller numbers first, from 1


class JobQueue:
    """The queue of one database; its tables are made where they are not there."""

    def __init__(self, database: Database) -> None:
        quiet()
        url = dbos_url(database.url)
        DBOS.migrate(url)  # it lets others wait who do the same
        self._client = DBOSClient(
            system_database_url=url,
            serializer=SERIALIZER,
            application_name=APPLICATION,
            lazy=True,
        )

    def enqueue(self, connection: Connection, id: str, priority: int) -> None:
        """Queue a job within the caller's transaction; see `cai.jobs.store.Enqueue`."""
        self._client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": id,
                "workflow_id_reuse_policy": "reject",
                "app_version": VERSION,
                "priority": _HIGHEST - priority,
            },
            id,
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.destroy()


def dbos_config(database: Database, worker: str) -> DBOSConfig:
    """How a worker runs DBOS: by its own name, so that nobody takes a living sibling's jobs."""
    return DBOSConfig(
        name=APPLICATION,
        system_database_url=dbos_url(database.url),
        executor_id=worker,
        application_version=VERSION,
        serializer=SERIALIZER,
        log_level="WARNING",
        run_migrations=False,
    )


def dbos_url(url: URL) -> str:
    """The same database; DBOS chooses the driver itself."""
    named = url.set(drivername=url.get_backend_name())
    return named.render_as_string(hide_password=False)


def quiet() -> None:
    """DBOS tells of every step on stderr; only what went wrong is wanted."""
    logger: Any = logging.getLogger("dbos")
    logger.setLevel(logging.WARNING)
