"""Tells an engine that works from one that hangs: how long it has said nothing while it was asked.

A dead engine is noticed by its process; one that hangs only by its silence: in the middle of work,
or to a question that is put to it now and then. Start from `Pulse`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

ASK_EVERY_S = 10.0


class Pulse:
    """Beats with every step of an engine. For one event loop."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._was_working = False
        self._question: asyncio.Task[None] | None = None
        self._asked_at = -ASK_EVERY_S

    def beat(self) -> None:
        """The engine said something."""
        self._since = time.monotonic()

    def follow(self, processor: Any) -> None:
        """Beat with all that passes through vLLM's output processor: every step of its core.

        What a request yields is no measure: one whose answer is wanted whole yields it at the end.
        """
        process = processor.process_outputs

        def beating(*args: Any, **kwargs: Any) -> Any:
            self.beat()
            return process(*args, **kwargs)

        processor.process_outputs = beating

    def ask(self, question: Callable[[], Awaitable[object]]) -> None:
        """Put a question that the engine answers at once, unless one was put a moment ago.

        Until it is answered, or refused, the engine is silent.
        """
        if self._is_asking() or time.monotonic() - self._asked_at < ASK_EVERY_S:
            return
        self._asked_at = time.monotonic()
        self._question = asyncio.ensure_future(_answered(question))

    def silent_s(self, *, is_working: bool) -> float:
        """Seconds since the last beat, or since work began, or since a question without an answer.

        To be asked again and again.
        """
        now = time.monotonic()
        if not is_working or not self._was_working:
            self._since = now
        self._was_working = is_working
        return max(now - self._since, now - self._asked_at if self._is_asking() else 0.0)

    def close(self) -> None:
        """Wait for no answer any more."""
        if self._question is not None:
            self._question.cancel()

    def _is_asking(self) -> bool:
        return self._question is not None and not self._question.done()


async def _answered(question: Callable[[], Awaitable[object]]) -> None:
    try:
        await question()
    except Exception:
        return  # a dead engine is noticed by its check
