"""Jobs for those who submit and watch them: the command line and the server alike.

Start from `Jobs`; `submit` checks a request against its kind and queues it.
"""

from __future__ import annotations

import threading
from typing import Any, Self

from cai.db import Database
from cai.errors import ConfigError
from cai.jobs.gate import check_there
from cai.jobs.kinds import kind_of, params_of, parse_spec
from cai.jobs.place import Workplace
from cai.jobs.spec import JobRecord, RequestKey
from cai.jobs.store import JobStore, new_id
from cai.settings import Settings


class Jobs:
    """The jobs of one database, and the place that they work in. Calls block."""

    def __init__(self, settings: Settings, database: Database, *, is_server: bool = False) -> None:
        self.store = JobStore(database)
        self.place = Workplace.of(settings, database, is_server=is_server)
        self._database = database
        self._queue: Any = None
        self._lock = threading.Lock()

    def submit(self, raw: Any, *, actor: str, request: RequestKey | None = None) -> JobRecord:
        """Check and queue the job that foreign JSON asks for.

        Raises ConfigError naming the key that is wrong, NotFoundError for a file, run or policy
        that is not there, ConflictError while another job writes to the same place.
        """
        if request is not None and (known := self.store.by_request(request)) is not None:
            return known
        spec = parse_spec(raw)
        kind, params, id = kind_of(spec.kind), params_of(spec), new_id(spec.kind)
        kind.check(params, self.place, id)
        if spec.wants_gate:
            check_there()
        if spec.is_shared and not self.place.has_server:
            raise ConfigError(
                "placement: shared needs a server to share a device with; set CAI_URL",
                param="params.placement",
            )
        return self.store.submit(
            spec,
            actor=actor,
            enqueue=self._queued().enqueue,
            id=id,
            target=kind.target(params, id),
            request=request,
        )

    def close(self) -> None:
        """Close the queue's connections; the database stays the caller's."""
        if self._queue is not None:
            self._queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _queued(self) -> Any:
        """The queue, opened when it is first needed: who only looks does not load DBOS."""
        with self._lock:
            if self._queue is None:
                from cai.jobs.queue import JobQueue

                self._queue = JobQueue(self._database)
            return self._queue
