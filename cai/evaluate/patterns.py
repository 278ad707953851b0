"""Regular expressions over models' answers, stopped when they take too much processor time.

A pattern from a file and a text from a model can meet in exponential time. Start from `search`.
"""

from __future__ import annotations

import re
import signal
from types import FrameType
from typing import Final

LIMIT_S: Final = 0.5
"""Seconds of processor time for one search; an honest pattern takes microseconds."""


class SlowPatternError(Exception):
    """The search was stopped; whether the pattern is in the text is not known."""


class _OutOfTime(Exception):
    pass


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern; raises ValueError that says what is wrong with it, and where in it."""
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as exc:
        raise ValueError(f"{pattern[:80]!r} is no regular expression: {exc}") from exc


def search(pattern: re.Pattern[str], text: str, *, limit_s: float = LIMIT_S) -> bool:
    """Whether `pattern` is found in `text`. Raises SlowPatternError after `limit_s` of work.

    For the main thread: the stop is a signal of the process's own clock, which the expression
    engine heeds; other timers and alarms are left alone.
    """
    before = signal.signal(signal.SIGVTALRM, _stop)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
        try:
            return pattern.search(text) is not None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _OutOfTime:
        raise SlowPatternError(
            f"the pattern {pattern.pattern[:80]!r} took more than {limit_s:g} s on an answer of "
            f"{len(text)} characters; write it without repetitions inside repetitions"
        ) from None
    finally:
        signal.signal(signal.SIGVTALRM, before)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _OutOfTime
