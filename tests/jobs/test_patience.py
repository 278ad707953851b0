"""How long a server is asked: by whom it may be stopped, and when it is enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cai.errors import CaiError, ConflictError, EngineDeadError
from cai.jobs.patience import insist

BUSY, AWAY = ConflictError("busy"), EngineDeadError("away")


def asks(answers: Sequence[CaiError | None]) -> Callable[[], None]:
    waiting = list(answers)

    def call() -> None:
        if (answer := waiting.pop(0)) is not None:
            raise answer

    return call


def insisted(*answers: CaiError | None, **options: Any) -> tuple[Any, list[str]]:
    """What came of it, and what was waited for."""
    told: list[str] = []
    given = {"busy_s": 60.0, "pause_s": 0.0, "should_stop": lambda: None, **options}
    return insist(asks(answers), on_wait=told.append, **given), told


def test_it_asks_until_it_is_done() -> None:
    assert insisted(BUSY, AWAY, BUSY, None) == (None, ["busy", "away", "busy"])


def test_whoever_waits_may_be_stopped() -> None:
    assert insisted(BUSY, should_stop=lambda: "cancelled") == ("cancelled", ["busy"])


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        (BUSY, {"busy_s": 0.0}),
        (BUSY, {"is_busy": lambda: False}),
        (AWAY, {"away_s": 0.0}),
    ],
)
def test_enough_is_enough(answer: CaiError, options: dict[str, Any]) -> None:
    with pytest.raises(type(answer)):
        insisted(answer, **options)
