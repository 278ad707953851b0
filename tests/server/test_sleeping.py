"""Who has the engine's device: one job at a time, by a lease that ends when it is not renewed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from cai.errors import ConflictError, UnsupportedError
from server import sleeping
from server.sleeping import Sleeper
from server.supervisor import Keeper


class Engine:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refusal: Exception | None = None

    async def sleep(self) -> None:
        self.calls.append("sleep")

    async def wake(self) -> None:
        self.calls.append("wake")
        if self.refusal is not None:
            raise self.refusal

    def identity(self) -> SimpleNamespace:
        return SimpleNamespace(model="m")

    def silent_s(self) -> float:
        return 0.0

    def pids(self) -> list[int]:
        return [7]


class Live:
    """As much of the live policies as a sleeper knows."""

    name = "live"

    def __init__(self, engine: object) -> None:
        self.current = engine
        self.suspended: str | None = None
        self.one = asyncio.Lock()

    def turn(self) -> asyncio.Lock:
        return self.one

    def engine(self, name: str) -> object:
        return self.current

    def suspend(self, why: str) -> None:
        self.suspended = why

    def resume(self) -> None:
        self.suspended = None


class Admission:
    @asynccontextmanager
    async def emptied(self, bound_s: float):
        yield


def sleeper_of(engine: object) -> tuple[Sleeper, Live]:
    live = Live(engine)
    return Sleeper(live, Admission(), drain_s=1.0), live


async def test_the_engine_sleeps_for_one_job_and_says_so_meanwhile():
    engine = Engine()
    sleeper, live = sleeper_of(engine)
    await sleeper.sleep("j1", 60)
    assert "j1" in (live.suspended or "")
    with pytest.raises(ConflictError, match="sleeps for the job 'j1'"):
        await sleeper.sleep("j2", 60)
    assert not await sleeper.wake("j2")
    assert await sleeper.wake("j1")
    assert not await sleeper.wake("j1")
    assert (engine.calls, live.suspended) == (["sleep", "wake"], None)


async def test_a_lease_that_is_not_renewed_ends():
    engine = Engine()
    sleeper, live = sleeper_of(engine)
    await sleeper.sleep("j1", 0.05)
    async with asyncio.timeout(5):
        while live.suspended:
            await asyncio.sleep(0.01)
    assert (engine.calls, sleeper.job) == (["sleep", "wake"], None)
    await sleeper.sleep("j2", 60)  # and another may have it
    assert await sleeper.wake("j2")


async def test_a_renewed_lease_goes_on():
    engine = Engine()
    sleeper, _ = sleeper_of(engine)
    await sleeper.sleep("j1", 0.05)
    await sleeper.sleep("j1", 60)
    await asyncio.sleep(0.12)
    assert (engine.calls, sleeper.job) == (["sleep"], "j1")
    await sleeper.wake("j1")


async def test_an_engine_that_does_not_wake_is_ended_for_another(caplog, monkeypatch):
    ended: list[int] = []
    monkeypatch.setattr(sleeping, "kill", ended.extend)
    engine = Engine()
    sleeper, live = sleeper_of(engine)
    engine.refusal = RuntimeError("no memory")
    await sleeper.sleep("j1", 0.02)
    async with asyncio.timeout(5):
        while "did not wake" not in caplog.text:
            await asyncio.sleep(0.01)
    assert (ended, live.suspended) == ([7], None)


async def test_an_engine_of_somebody_else_cannot_be_put_to_sleep():
    sleeper, live = sleeper_of(SimpleNamespace(identity=lambda: SimpleNamespace(model="far")))
    with pytest.raises(UnsupportedError, match="placement: separate"):
        await sleeper.sleep("j1", 60)
    assert live.suspended is None


async def test_it_waits_for_a_policy_that_is_being_loaded():
    engine = Engine()
    sleeper, live = sleeper_of(engine)
    async with live.turn():
        asked = asyncio.create_task(sleeper.sleep("j1", 60))
        await asyncio.sleep(0.02)
        assert (engine.calls, live.suspended) == ([], None)
    await asked
    assert engine.calls == ["sleep"]
    await sleeper.wake("j1")


async def test_an_engine_that_died_in_its_sleep_stays_away_while_the_job_has_the_device():
    """Another one would take the memory of the job, which renews its lease."""
    sleeper, live = sleeper_of(Engine())
    opened: list[object] = []

    async def open_engine() -> object:
        opened.append(SimpleNamespace(identity=lambda: SimpleNamespace(model="m")))
        return opened[-1]

    async def up(engine: object) -> None:
        live.current = engine

    keeper = Keeper(open_engine, up=up, down=lambda _why: None, hang_s=30.0, room=sleeper.free)
    await sleeper.sleep("j1", 60)
    live.current = None  # it died
    opening = asyncio.create_task(keeper._open_again(0.0))
    await sleeper.sleep("j1", 60)
    await asyncio.sleep(0.03)
    assert not opened
    assert await sleeper.wake("j1")
    assert await asyncio.wait_for(opening, 5) is opened[0]


async def test_an_engine_whose_sleep_would_free_nothing_is_not_put_to_sleep():
    engine = Engine()
    engine.can_sleep = False
    sleeper, live = sleeper_of(engine)
    with pytest.raises(UnsupportedError, match="enable_sleep_mode=false"):
        await sleeper.sleep("j1", 60)
    assert (engine.calls, live.suspended) == ([], None)
