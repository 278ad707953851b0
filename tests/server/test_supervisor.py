"""A dead engine and a hanging one are replaced, however often the start of another fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cai.engine.base import Engine
from cai.engine.pulse import Pulse
from cai.errors import EngineDeadError, ReloadError
from server import supervisor
from server.supervisor import Keeper
from tests.server.helpers import scripted, until


class Own:
    """Delegates to a scripted engine, and has what an engine of one's own has."""

    def __init__(self) -> None:
        self._engine = scripted()
        self.is_dead, self.is_closed, self.silent = False, False, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def pids(self) -> list[int]:
        return []

    def silent_s(self) -> float:
        return self.silent

    async def check(self) -> None:
        if self.is_dead:
            raise EngineDeadError("the engine is dead")

    async def aclose(self) -> None:
        self.is_closed = True


class Told:
    """What a keeper said, and the engines that it opened; `failures` are raised first."""

    def __init__(self, *failures: Exception) -> None:
        self.opened: list[Own] = []
        self.up: list[Engine] = []
        self.down: list[str] = []
        self.failures = list(failures)

    def keeper(self) -> Keeper:
        return Keeper(self._open, up=self._up, down=self.down.append, hang_s=30.0)

    async def _open(self) -> Engine:
        self.opened.append(Own())
        return self.opened[-1]  # type: ignore[return-value]

    async def _up(self, engine: Engine) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.up.append(engine)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOOK_EVERY_S", 0.005)
    monkeypatch.setattr(supervisor, "_FIRST_WAIT_S", 0.005)


async def kept(told: Told, first: Own, spoil: Callable[[Own], None]) -> None:
    """Spoil `first`, and wait until another is up in its place."""
    keeping = asyncio.create_task(told.keeper().keep(first))  # type: ignore[arg-type]
    try:
        await asyncio.sleep(0.03)
        assert not told.down, "a healthy engine was replaced"
        spoil(first)
        await until(lambda: told.up)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_a_dead_engine_is_closed_and_another_takes_its_place() -> None:
    told, first = Told(), Own()
    await kept(told, first, lambda engine: setattr(engine, "is_dead", True))
    assert first.is_closed
    assert told.up == told.opened
    assert told.down[0].startswith("the engine is dead; another is being started")


async def test_one_that_has_work_and_says_nothing_is_replaced() -> None:
    told, first = Told(), Own()
    await kept(told, first, lambda engine: setattr(engine, "silent", 31.0))
    assert first.is_closed
    assert "said nothing for 31 s" in told.down[0]


async def test_starts_that_fail_are_tried_again_and_what_came_of_them_is_closed() -> None:
    told, first = Told(ReloadError("probes are off"), OSError("no memory")), Own()
    await kept(told, first, lambda engine: setattr(engine, "is_dead", True))
    assert [one.is_closed for one in told.opened] == [True, True, False]
    assert told.down[1:] == [
        "the engine could not be started: probes are off",
        "the engine could not be started: OSError",
    ]


async def test_an_engine_of_somebody_else_is_left_alone() -> None:
    told = Told()
    await asyncio.wait_for(told.keeper().keep(scripted()), 1.0)
    assert not told.opened


def test_silence_counts_only_while_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("cai.engine.pulse.time.monotonic", lambda: now)
    pulse = Pulse()
    now = 200.0
    assert pulse.silent_s(is_working=False) == 0.0
    assert pulse.silent_s(is_working=True) == 0.0  # it has just got some
    now = 207.0
    assert pulse.silent_s(is_working=True) == 7.0
    pulse.beat()
    now = 208.0
    assert pulse.silent_s(is_working=True) == 1.0
    assert pulse.silent_s(is_working=False) == 0.0
