"""Lets requests into an engine, except while one holder keeps all others out.

Whoever holds the gate, and the tasks it starts meanwhile, pass through: so a new policy can be
tried before anybody else is answered by it. Knows nothing of engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

# What this task holds, of all gates there are; tasks that it starts inherit it.
_KEYS: ContextVar[frozenset[object]] = ContextVar("_KEYS", default=frozenset())


class Entry:
    """A request on its way in; `settle` says that the engine itself now knows of it."""

    def __init__(self, gate: Gate) -> None:
        self._gate: Gate | None = gate

    def settle(self) -> None:
        """Stop counting this request among those on their way in. Repeated calls do nothing."""
        if self._gate is not None:
            self._gate.num_entering -= 1
            self._gate = None


class Gate:
    """For one event loop. Whoever waits is let in when the holder leaves."""

    def __init__(self) -> None:
        self.num_entering = 0
        """Requests that were let in and did not settle."""
        self._turn = asyncio.Lock()
        self._key: object | None = None
        self._opened = asyncio.Event()

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[Entry]:
        """Be let in, after the holder if there is one."""
        while self._key is not None and not self._is_mine():
            await self._opened.wait()
        self.num_entering += 1
        entry = Entry(self)
        try:
            yield entry
        finally:
            entry.settle()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep everybody else out until the end; those inside stay there. May be nested."""
        if self._is_mine():
            yield
            return
        async with self._turn:
            self._key = key = object()
            self._opened.clear()
            before = _KEYS.set(_KEYS.get() | {key})
            try:
                yield
            finally:
                _KEYS.reset(before)
                self._key = None
                self._opened.set()

    def _is_mine(self) -> bool:
        return self._key is not None and self._key in _KEYS.get()
