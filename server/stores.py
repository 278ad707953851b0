"""What the server keeps in the database and beside it, opened when it is first asked for.

All of it blocks: handlers go through `Stores.run`, which works in a thread. What opens it is
imported then, so that a server without jobs and policies needs neither package.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from cai.settings import Settings

if TYPE_CHECKING:
    from cai.db import Database
    from cai.jobs.jobs import Jobs
    from cai.policy.feedback import FeedbackStore
    from cai.policy.registry import PolicyRegistry
    from cai.policy.traffic import TrafficStore
    from cai.review.queue import ReviewQueue

_T = TypeVar("_T")


class Stores:
    """The database of the settings, and what is in it; closed with the server.

    The properties raise DatabaseError, or MissingDependencyError with the extra's name.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._database: Database | None = None
        self._jobs: Jobs | None = None

    async def run(self, work: Callable[[Stores], _T]) -> _T:
        """The result of `work` on the stores, done in a thread."""
        return await asyncio.to_thread(work, self)

    @property
    def database(self) -> Database:
        """The database, its schema up to date."""
        from cai.db import open_database

        with self._lock:
            if self._database is None:
                self._database = open_database(self._settings)
            return self._database

    @property
    def policies(self) -> PolicyRegistry:
        """The registry of policies."""
        from cai.policy.registry import PolicyRegistry

        settings = self._settings
        return PolicyRegistry(self.database, settings.home, roots=settings.policy_roots)

    @property
    def traffic(self) -> TrafficStore:
        """The A/B split."""
        from cai.policy.traffic import TrafficStore

        return TrafficStore(self.database)

    @property
    def feedback(self) -> FeedbackStore:
        """What people said of answers."""
        from cai.policy.feedback import FeedbackStore

        return FeedbackStore(self.database)

    @property
    def review(self) -> ReviewQueue:
        """What people are asked about, and what they decided."""
        from cai.review.queue import ReviewQueue

        return ReviewQueue(self.database)

    @property
    def jobs(self) -> Jobs:
        """The jobs, and the files that clients gave."""
        from cai.jobs.jobs import Jobs

        with self._lock:
            if self._jobs is None:
                self._jobs = Jobs(self._settings, self.database, is_server=True)
            return self._jobs

    def close(self) -> None:
        """Close what was opened."""
        with self._lock:
            if self._jobs is not None:
                self._jobs.close()
            if self._database is not None:
                self._database.close()
            self._jobs = self._database = None
