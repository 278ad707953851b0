"""An engine's silence: in its work, and to a question that is put to it without any work."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from cai.engine import pulse as pulses
from cai.engine.pulse import Pulse


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pulses, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_every_step_of_the_core_beats_and_is_passed_on(clock: Clock) -> None:
    processor = SimpleNamespace(process_outputs=lambda outputs, *, version: (outputs, version))
    pulse = Pulse()
    pulse.follow(processor)
    assert pulse.silent_s(is_working=True) == 0.0
    clock.now += 119.0
    assert processor.process_outputs([1], version=2) == ([1], 2)
    clock.now += 119.0
    assert pulse.silent_s(is_working=True) == 119.0


async def test_a_question_without_an_answer_is_silence_without_work(clock: Clock) -> None:
    pulse, hangs, asked = Pulse(), asyncio.Event(), []

    async def question() -> None:
        asked.append(clock.now)
        await hangs.wait()

    pulse.ask(question)
    await asyncio.sleep(0)
    for _ in range(2):
        clock.now += 60.0
        pulse.ask(question)  # one at a time
        await asyncio.sleep(0)
    assert pulse.silent_s(is_working=False) == 120.0
    hangs.set()
    await asyncio.sleep(0.01)
    assert pulse.silent_s(is_working=False) == 0.0
    assert asked == [100.0]


async def test_questions_come_now_and_then_and_a_refusal_is_an_answer(clock: Clock) -> None:
    pulse, asked = Pulse(), []

    async def question() -> None:
        asked.append(clock.now)
        raise RuntimeError("dead")

    for _ in range(5):
        pulse.ask(question)
        await asyncio.sleep(0.01)
        clock.now += 4.0
    assert asked == [100.0, 112.0]
    assert pulse.silent_s(is_working=False) == 0.0


async def test_a_closed_pulse_waits_for_no_answer() -> None:
    pulse = Pulse()
    pulse.ask(asyncio.Event().wait)
    await asyncio.sleep(0)
    pulse.close()
    await asyncio.sleep(0.01)
    assert pulse.silent_s(is_working=False) == 0.0
