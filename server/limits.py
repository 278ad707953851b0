"""How many requests run and wait, and for how long. Beyond that there is a 429 or a 504 at once.

Start from `Admission.slot` and `deadline`; `Admission.emptied` lets nobody in for a while, so that
a policy can be replaced between two requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

from cai.errors import ConflictError, EngineTimeoutError, OverloadedError

_SMOOTHING = 0.05
_MAX_RETRY_AFTER_S = 60.0


class Admission:
    """At most `max_running` requests at work and `max_queue` waiting, first come, first served."""

    def __init__(self, *, max_running: int, max_queue: int) -> None:
        self.max_running = max_running
        self.max_queue = max_queue
        self.num_running = 0
        self.num_queued = 0
        self._free = asyncio.Semaphore(max_running)
        self._usual_s = 1.0
        self._one_holder = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._left = asyncio.Event()

    def slot(self) -> _Slot:
        """`async with admission.slot():` raises OverloadedError when the queue is full."""
        return _Slot(self)

    async def enter(self) -> None:
        """Wait for a slot."""
        if self._free.locked() or not self._open.is_set():
            self._refuse_when_full()
            self.num_queued += 1
            try:
                await self._acquire()
            finally:
                self.num_queued -= 1
        else:
            await self._free.acquire()
        self.num_running += 1

    def leave(self, seconds: float) -> None:
        """Free a slot that was held for `seconds`."""
        self.num_running -= 1
        self._usual_s += _SMOOTHING * (seconds - self._usual_s)
        self._free.release()
        self._left.set()

    @asynccontextmanager
    async def emptied(self, limit_s: float) -> AsyncIterator[None]:
        """Let nobody in, wait for those inside to leave, and keep it so for the block.

        Whoever comes meanwhile waits in the queue. Raises ConflictError when somebody inside stays
        for longer than `limit_s` seconds: they go on, and the queue is let in.
        """
        async with self._one_holder:
            self._open.clear()
            try:
                await self._wait_until_empty(limit_s)
                yield
            finally:
                self._open.set()

    async def _wait_until_empty(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while self.num_running:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            raise ConflictError(
                f"{self.num_running} requests still ran after reload_drain_s ({limit_s:g} s), so "
                "nothing was changed; try again when they have ended, or raise the limit"
            ) from None

    async def _acquire(self) -> None:
        """A slot, once nobody keeps others out."""
        while True:
            await self._open.wait()
            await self._free.acquire()
            if self._open.is_set():
                return
            self._free.release()

    def _refuse_when_full(self) -> None:
        if self.num_queued < self.max_queue:
            return
        wait_s = self._usual_s * (self.num_queued + 1) / self.max_running
        raise OverloadedError(
            f"the server is busy: {self.num_running} requests run and {self.num_queued} wait "
            f"(max_queue {self.max_queue}); try again later",
            retry_after_s=min(wait_s, _MAX_RETRY_AFTER_S),
        )


class _Slot:
    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._started = 0.0

    async def __aenter__(self) -> None:
        await self._admission.enter()
        self._started = time.perf_counter()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._admission.leave(time.perf_counter() - self._started)


@asynccontextmanager
async def deadline(limit_s: float) -> AsyncIterator[None]:
    """Raise EngineTimeoutError, naming the limit, when the block runs for longer."""
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            yield
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise EngineTimeoutError(
            f"the request took longer than request_timeout_s ({limit_s:g} s), waiting included; "
            "ask for fewer tokens or revisions, or raise the limit"
        ) from exc
