"""Tells an engine that works from one that hangs: how long it has said nothing while it had work.

A dead engine is noticed by its process; one that hangs only by its silence. Start from `Pulse`.
"""

from __future__ import annotations

import time


class Pulse:
    """Beats with every output of an engine. For one event loop."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._was_working = False

    def beat(self) -> None:
        """The engine said something."""
        self._since = time.monotonic()

    def silent_s(self, *, is_working: bool) -> float:
        """Seconds since the last beat, or since work began; to be asked again and again."""
        if not is_working or not self._was_working:
            self._since = time.monotonic()
        self._was_working = is_working
        return time.monotonic() - self._since
