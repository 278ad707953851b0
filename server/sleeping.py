"""Frees the engine's device for one job at a time, and takes it back.

Requests at work are waited for; those that come while the engine sleeps are told to come again.
A job holds the device by a lease: one that is not heard of in time has lost it, so that no engine
sleeps for a worker that is gone. Start from `Sleeper.sleep`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, TypeGuard

from cai.engine.base import Engine
from cai.engine.ownership import kill
from cai.errors import ConflictError, UnsupportedError
from server.limits import Admission
from server.live import LivePolicies
from server.supervisor import is_own

logger = logging.getLogger(__name__)


class SleepyEngine(Engine, Protocol):
    """An engine that can leave its device to others."""

    async def sleep(self) -> None:
        """Free the device's memory."""
        ...

    async def wake(self) -> None:
        """Take it again."""
        ...


class Sleeper:
    """Who has the device of one server's engine: the engine, or the job that asked for it."""

    def __init__(self, live: LivePolicies, admission: Admission, *, drain_s: float) -> None:
        self._live = live
        self._admission = admission
        self._drain_s = drain_s
        self._one = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._expiring: asyncio.Task[None] | None = None
        self._is_free = asyncio.Event()
        self._is_free.set()
        self.job: str | None = None
        """The job that the engine sleeps for."""

    async def free(self) -> None:
        """Wait until no job has the device: an engine that died in its sleep stays away so long."""
        await self._is_free.wait()

    async def sleep(self, job: str, lease_s: float) -> None:
        """Leave the device to `job` for `lease_s` seconds; again for the same one renews them.

        Raises ConflictError when another job has it or when requests at work outlast the bound,
        UnsupportedError when the engine is somebody else's.
        """
        async with self._one:
            if self.job == job:
                self._lease(job, lease_s)
                return
            if self.job is not None:
                raise ConflictError(
                    f"the engine sleeps for the job '{self.job}' already; try again when it ends"
                )
            async with self._live.turn():  # no policy is being loaded meanwhile
                await self._put_to_sleep(job, lease_s)
            logger.info("asleep for job %s", job)

    async def wake(self, job: str) -> bool:
        """Take the device back from `job`; says whether it had it.

        An engine that cannot wake is ended, for the supervisor to start another.
        """
        async with self._one:
            if self.job != job:
                return False
            self.job = None
            self._end_lease()
            self._is_free.set()
            engine = self._live.current
            try:
                if engine is not None and _can_sleep(engine):
                    await engine.wake()
            except BaseException:
                if engine is not None and is_own(engine):
                    kill(engine.pids())  # half awake it would answer nonsense; another is started
                raise
            finally:
                self._live.resume()
            logger.info("awake after job %s", job)
            return True

    async def _put_to_sleep(self, job: str, lease_s: float) -> None:
        engine = self._live.engine(self._live.name)
        if not _can_sleep(engine):
            raise UnsupportedError(
                f"'{engine.identity().model}' has no device of this server's to give away, or was "
                "started with enable_sleep_mode=false; place the job apart (placement: separate)"
            )
        async with self._admission.emptied(self._drain_s):
            await engine.sleep()
            self.job = job
            self._is_free.clear()
            self._live.suspend(f"the engine sleeps while the job '{job}' has its device")
            self._lease(job, lease_s)

    def _lease(self, job: str, seconds: float) -> None:
        self._end_lease()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, job)

    def _end_lease(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, job: str) -> None:
        logger.warning("job %s was not heard of in time; the engine takes its device back", job)
        self._expiring = asyncio.get_running_loop().create_task(self._take_back(job))

    async def _take_back(self, job: str) -> None:
        try:
            await self.wake(job)
        except Exception:  # nobody awaits this
            logger.exception("the engine did not wake after job %s", job)


def _can_sleep(engine: Engine) -> TypeGuard[SleepyEngine]:
    return hasattr(engine, "wake") and getattr(engine, "can_sleep", True)
