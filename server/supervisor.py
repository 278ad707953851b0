"""Keeps an engine there: notices one that died or hangs, and opens another in its place.

Knows how to open one and whom to tell; what the new one must answer with is for `up` to see to.
Start from `Keeper.keep`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeGuard

from cai.engine.base import Engine
from cai.engine.ownership import kill
from cai.errors import CaiError, EngineDeadError

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
_CHECK_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 20.0
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_STEADY_S = 300.0


class OwnEngine(Engine, Protocol):
    """An engine with processes of its own, as `EmbeddedEngine` is."""

    def pids(self) -> list[int]:
        """Its processes."""
        ...

    def silent_s(self) -> float:
        """Seconds since it last said anything while it had work."""
        ...


def is_own(engine: Engine) -> TypeGuard[OwnEngine]:
    """Whether the engine's processes are this process's to start and to end."""
    return hasattr(engine, "silent_s")


class Keeper:
    """Keeps one engine. `up` is told of each that was opened, `down` why there is none."""

    def __init__(
        self,
        open_: Callable[[], Awaitable[Engine]],
        *,
        up: Callable[[Engine], Awaitable[None]],
        down: Callable[[str], None],
        hang_s: float,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`room` is awaited before an engine is opened: its device may be somebody else's."""
        self._open = open_
        self._up = up
        self._down = down
        self._hang_s = hang_s
        self._room = room
        self.num_restarts = 0

    async def keep(self, engine: Engine) -> None:
        """Watch `engine`, which is up, and every one that follows it; ends when cancelled.

        One that is not ours to start is left to whoever runs it.
        """
        while is_own(engine):
            since = time.monotonic()
            reason = await self.fault(engine)
            logger.error("engine: %s; another is started", reason)
            self._down(f"{reason}; another is being started, try again in a moment")
            await _close(engine)
            wait_s = 0.0 if time.monotonic() - since > _STEADY_S else _FIRST_WAIT_S
            engine = await self._open_again(wait_s if self.num_restarts else 0.0)

    async def fault(self, engine: OwnEngine) -> str:
        """Wait until the engine is of no use any more; returns why."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                async with asyncio.timeout(_CHECK_TIMEOUT_S):
                    await engine.check()
            except EngineDeadError as exc:
                return exc.message
            except TimeoutError:
                return f"it did not answer its check within {_CHECK_TIMEOUT_S:g} s"
            if (silent_s := engine.silent_s()) > self._hang_s:
                return f"it had work and said nothing for {silent_s:.0f} s"

    async def _open_again(self, wait_s: float) -> Engine:
        """A new engine that is up, after as many tries as it takes, each later than the last."""
        while True:
            await asyncio.sleep(wait_s)
            if self._room is not None:
                await self._room()
            self.num_restarts += 1
            engine = None
            try:
                engine = await self._open()
                await self._up(engine)
                logger.info("engine: up again as %s", engine.identity().model)
                return engine
            except Exception as exc:
                wait_s = min(_LONGEST_WAIT_S, max(_FIRST_WAIT_S, 2 * wait_s))
                reason = exc.message if isinstance(exc, CaiError) else type(exc).__name__
                logger.error("engine: not started (%s); again in %.0f s", reason, wait_s)
                self._down(f"the engine could not be started: {reason}")
                if engine is not None:
                    await _close(engine)


async def _close(engine: Engine) -> None:
    """Close what may be dead or hang; afterwards none of its processes is left."""
    pids = engine.pids() if is_own(engine) else []
    kill(pids)  # it may hang, and has nothing to finish
    with contextlib.suppress(TimeoutError, CaiError, OSError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await engine.aclose()
