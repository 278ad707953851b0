"""Holding everybody out while a policy is replaced: who waits, who goes on, who gives up."""

from __future__ import annotations

import asyncio

import pytest

from cai.errors import ConflictError, OverloadedError
from server.limits import Admission
from tests.server.helpers import until


def admission(**given: int) -> Admission:
    return Admission(**{"max_running": 4, "max_queue": 4, **given})


async def visit(place: Admission, done: list[str], name: str, leave: asyncio.Event) -> None:
    async with place.slot():
        await leave.wait()
        done.append(name)


async def test_who_is_inside_finishes_first_and_who_comes_waits_until_the_end() -> None:
    place, done, leave = admission(), [], asyncio.Event()
    inside = asyncio.create_task(visit(place, done, "inside", leave))
    await until(lambda: place.num_running == 1)

    async def hold() -> None:
        async with place.emptied(5.0):
            done.append("held")
            await until(lambda: place.num_queued == 1)

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0)
    late = asyncio.create_task(visit(place, done, "late", leave))
    await asyncio.sleep(0.02)
    assert (place.num_running, place.num_queued, done) == (1, 1, [])
    leave.set()
    await asyncio.gather(inside, holding, late)
    assert done == ["inside", "held", "late"]
    assert (place.num_running, place.num_queued) == (0, 0)


async def test_one_who_stays_too_long_goes_on_and_the_holder_gives_up() -> None:
    place, done, leave = admission(), [], asyncio.Event()
    inside = asyncio.create_task(visit(place, done, "inside", leave))
    await until(lambda: place.num_running == 1)
    with pytest.raises(ConflictError, match=r"^1 requests still ran after reload_drain_s"):
        async with place.emptied(0.05):
            raise AssertionError("nobody may be alone here")
    late = asyncio.create_task(visit(place, done, "late", leave))
    await until(lambda: place.num_running == 2)
    leave.set()
    await asyncio.gather(inside, late)
    assert done == ["inside", "late"]


async def test_holders_take_turns_and_a_failure_inside_lets_everybody_in() -> None:
    place, done = admission(), []

    async def hold(name: str) -> None:
        async with place.emptied(1.0):
            done.append(name)
            await asyncio.sleep(0.01)
            done.append(name)
            raise ValueError(name)

    failed = await asyncio.gather(hold("a"), hold("b"), return_exceptions=True)
    assert [str(one) for one in failed] == ["a", "b"]
    assert done == ["a", "a", "b", "b"]
    async with place.slot():
        assert place.num_running == 1


async def test_the_queue_keeps_its_bound_while_everybody_waits() -> None:
    place, leave = admission(max_queue=1), asyncio.Event()
    done: list[str] = []
    async with place.emptied(1.0):
        waiting = asyncio.create_task(visit(place, done, "one", leave))
        await until(lambda: place.num_queued == 1)
        with pytest.raises(OverloadedError):
            async with place.slot():
                pass
    leave.set()
    await waiting
    assert done == ["one"]


async def test_one_who_leaves_while_waiting_takes_no_place() -> None:
    place = admission(max_running=1)
    async with place.emptied(1.0):
        waiting = asyncio.create_task(visit(place, [], "gone", asyncio.Event()))
        await until(lambda: place.num_queued == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(1.0), place.slot():
        assert (place.num_running, place.num_queued) == (1, 0)
