"""Critiques of an answer that somebody else wrote: all principles at once, and how they fail."""

import asyncio

import pytest

from cai.critique.loop import critique
from cai.engine.scripted import ScriptedEngine
from cai.errors import EngineDeadError, InputError, NotFoundError, PromptError
from cai.types import Sampling
from tests.critique.helpers import (
    ASK,
    ONLY_COMPARES,
    PRINCIPLES,
    TOY,
    TURNS,
    Model,
    constitution,
)


async def test_all_principles_criticise_at_once():
    together = asyncio.Barrier(3)

    class Meeting(ScriptedEngine):
        async def generate(self, prompt, sampling):
            async with asyncio.timeout(5):
                await together.wait()
            return await super().generate(prompt, sampling)

    engine = Meeting(lambda prompt, _: f"About {prompt.messages[-1].content[6:11]}")
    found = await critique(engine, TURNS, "An answer.", constitution(*PRINCIPLES, ONLY_COMPARES))
    assert [(c.principle, c.text, c.finding) for c in found] == [
        ("kind", "About kind?", True),
        ("short", "About short", True),
        ("true", "About true?", True),
    ]


async def test_a_critique_without_a_finding_says_so():
    for text, finding in (("No change needed.", False), ("", False), ("It is rude.", True)):
        found = await critique(Model(critiques=(text,)).engine, ASK, "x", TOY, principles=["kind"])
        assert [(c.text, c.finding) for c in found] == [(text, finding)]


async def test_critiques_have_seeds_of_their_own():
    model = Model()
    await critique(model.engine, ASK, "x", TOY, sampling=Sampling(seed=3))
    seeds = [s.seed for s in model.samplings]
    assert len(set(seeds)) == 3
    again = Model()
    await critique(again.engine, ASK, "x", TOY, sampling=Sampling(seed=3))
    assert [s.seed for s in again.samplings] == seeds


async def test_the_first_error_of_many_is_raised_as_itself_and_the_rest_is_cancelled():
    class Dying(ScriptedEngine):
        async def generate(self, prompt, sampling):
            if "kind" in prompt.messages[-1].content:
                raise EngineDeadError("gone")
            return await super().generate(prompt, sampling)

    engine = Dying(lambda *_: "x", delay_s=30)
    with pytest.raises(EngineDeadError, match="gone") as caught:
        await critique(engine, ASK, "x", TOY)
    assert caught.value.stage == "critique-1"
    assert engine.num_aborted == engine.num_calls


async def test_an_error_that_is_a_bug_is_not_hidden():
    class Buggy(ScriptedEngine):
        async def generate(self, prompt, sampling):
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await critique(Buggy(lambda *_: "x"), ASK, "x", TOY)
    assert caught.group_contains(ZeroDivisionError)


@pytest.mark.parametrize(
    ("response", "principles", "of", "expected"),
    [
        (" ", None, TOY, PromptError),
        ("x", [], TOY, InputError),
        ("x", ["kin"], TOY, NotFoundError),
        ("x", None, constitution(ONLY_COMPARES), InputError),
        ("x", ["judge-only"], constitution(*PRINCIPLES, ONLY_COMPARES), InputError),
    ],
)
async def test_a_critique_that_cannot_be_asked_for_is_refused(response, principles, of, expected):
    model = Model()
    with pytest.raises(expected):
        await critique(model.engine, ASK, response, of, principles=principles)
    assert model.asked == []
