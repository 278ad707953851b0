"""Asks a server for something until it is done: it may be busy, or away, for a long while.

Knows nothing of what is asked; whoever waits may be stopped meanwhile. Start from `insist`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cai.errors import CaiError, ConflictError, EngineDeadError
from cai.jobs.runner import Stop

AWAY_S: Final = 1800.0
"""Seconds for which a server may be away: a restart loads its engine anew."""

_STEP_S = 0.25


def insist(
    call: Callable[[], object],
    *,
    should_stop: Callable[[], Stop | None],
    on_wait: Callable[[str], None],
    busy_s: float,
    is_busy: Callable[[], bool] = lambda: True,
    away_s: float = AWAY_S,
    pause_s: float = 5.0,
) -> Stop | None:
    """Make `call` until it is answered; returns what stopped it before that.

    A ConflictError means that the server is busy, for `busy_s` seconds in all and while `is_busy`;
    an EngineDeadError that it is away, for `away_s` in a row. After that, what it raised is raised.
    """
    began, away_since = time.monotonic(), None
    while True:
        try:
            call()
            return None
        except ConflictError as exc:
            failure: CaiError = exc
            away_since, is_over = None, time.monotonic() - began >= busy_s or not is_busy()
        except EngineDeadError as exc:
            failure, away_since = exc, away_since or time.monotonic()
            is_over = time.monotonic() - away_since >= away_s
        if is_over:
            raise failure
        on_wait(failure.message)
        if (stop := _paused(pause_s, should_stop)) is not None:
            return stop


def _paused(seconds: float, should_stop: Callable[[], Stop | None]) -> Stop | None:
    until = time.monotonic() + seconds
    while (stop := should_stop()) is None and (left := until - time.monotonic()) > 0:
        time.sleep(min(_STEP_S, left))
    return stop
