"""The gate: everybody passes, or one holder and the tasks it starts."""

import asyncio

import pytest

from cai.engine.gate import Gate


async def pass_through(gate, log, name):
    async with gate.admitted():
        log.append(name)


async def test_others_wait_for_the_holder_and_are_let_in_after_it():
    gate, log = Gate(), []
    outside = asyncio.Event()

    async def other():
        await outside.wait()
        await pass_through(gate, log, "other")

    waiting = asyncio.create_task(other())
    async with gate.held():
        outside.set()
        await asyncio.sleep(0.01)
        await pass_through(gate, log, "holder")
        async with asyncio.TaskGroup() as group:
            group.create_task(pass_through(gate, log, "holder's task"))
        assert not waiting.done()
    await waiting
    assert log == ["holder", "holder's task", "other"]


async def test_holding_may_be_nested_and_ends_with_the_outermost():
    gate, log = Gate(), []
    async with gate.held():
        async with gate.held():
            pass
        waiting = outsider(gate, log)
        await asyncio.sleep(0.01)
        assert not waiting.done()
    await waiting
    assert log == ["outsider"]


async def test_two_holders_take_turns():
    gate, log = Gate(), []

    async def hold(name):
        async with gate.held():
            log.append(f"{name} in")
            await asyncio.sleep(0.01)
            log.append(f"{name} out")

    await asyncio.gather(hold("one"), hold("two"))
    assert log == ["one in", "one out", "two in", "two out"]


async def test_the_key_of_one_gate_opens_no_other_and_is_not_lost_inside_it():
    one, other, log = Gate(), Gate(), []
    async with one.held(), other.held():
        await pass_through(one, log, "one")
        await pass_through(other, log, "other")
    assert log == ["one", "other"]


async def test_a_task_that_outlives_its_holder_waits_for_the_next_one():
    """It still carries a key, but not that of the lock that is on now."""
    gate, log, go_on = Gate(), [], asyncio.Event()

    async def late():
        await go_on.wait()
        await pass_through(gate, log, "late")

    async with gate.held():
        task = asyncio.create_task(late())
    async with gate.held():
        go_on.set()
        await asyncio.sleep(0.01)
        assert log == []
    await task


async def test_an_error_or_a_cancel_of_the_holder_opens_the_gate():
    gate, log = Gate(), []
    with pytest.raises(ValueError, match="inside"):
        async with gate.held():
            raise ValueError("inside")

    async def hold():
        async with gate.held():
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    waiting = outsider(gate, log)
    await asyncio.sleep(0.01)
    holder.cancel()
    await waiting
    assert log == ["outsider"]


async def test_a_waiting_request_can_be_cancelled():
    gate, log = Gate(), []
    async with gate.held():
        waiting = outsider(gate, log)
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert gate.num_entering == 0


async def test_a_request_counts_until_it_settles_or_ends():
    gate = Gate()
    async with gate.admitted() as one:
        async with gate.admitted():
            assert gate.num_entering == 2
        one.settle()
        one.settle()
        assert gate.num_entering == 0
    assert gate.num_entering == 0


def outsider(gate, log):
    """A task that inherited nothing from the one that starts it."""
    import contextvars

    return asyncio.get_running_loop().create_task(
        pass_through(gate, log, "outsider"), context=contextvars.Context()
    )
