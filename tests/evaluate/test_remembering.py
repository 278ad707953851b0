"""The same question is put once, however many ask it and whenever."""

import asyncio

import pytest

from cai.engine.scripted import ScriptedEngine
from cai.errors import EngineError
from cai.evaluate.remembering import RememberingEngine
from cai.types import Sampling, TextPrompt

LABELS = ("A", "B")


def engine(**options):
    return ScriptedEngine(
        lambda _p, _s: "text", lambda _p, labels: dict.fromkeys(labels, -1.0), **options
    )


async def test_a_question_is_put_once_even_while_it_is_under_way():
    inner = engine(delay_s=0.01)
    asking = RememberingEngine(inner)
    same, other = TextPrompt("same"), TextPrompt("other")
    answers = await asyncio.gather(*(asking.score(one, LABELS) for one in (same, same, other)))
    answers.append(await asking.score(same, LABELS))
    assert inner.num_calls == asking.num_asked == 2
    assert (asking.num_reused, asking.num_questions) == (2, 4)
    assert answers[0] is answers[1] is answers[3]


async def test_greedy_text_is_kept_and_sampled_text_is_not():
    inner = engine()
    asking = RememberingEngine(inner)
    for temperature in (0.0, 0.0, 1.0, 1.0):
        await asking.generate(TextPrompt("p"), Sampling(temperature=temperature))
    assert inner.num_calls == 3
    assert asking.num_asked == 0


async def test_a_question_that_failed_is_put_again():
    tries = []

    def scores(_prompt, labels):
        tries.append(1)
        if len(tries) == 1:
            raise EngineError("once")
        return dict.fromkeys(labels, -1.0)

    asking = RememberingEngine(ScriptedEngine(lambda _p, _s: "", scores))
    with pytest.raises(EngineError):
        await asking.score(TextPrompt("p"), LABELS)
    assert (await asking.score(TextPrompt("p"), LABELS)).logprobs == {"A": -1.0, "B": -1.0}


async def test_one_who_leaves_takes_nothing_from_the_others_and_closing_stops_the_rest():
    inner = engine(delay_s=0.05)
    asking = RememberingEngine(inner)
    leaves = asyncio.create_task(asking.score(TextPrompt("p"), LABELS))
    stays = asyncio.create_task(asking.score(TextPrompt("p"), LABELS))
    await asyncio.sleep(0.01)
    leaves.cancel()
    assert (await stays).mass > 0
    rest = asyncio.create_task(asking.score(TextPrompt("q"), LABELS))
    await asyncio.sleep(0.01)
    await asking.aclose()
    with pytest.raises(asyncio.CancelledError):
        await rest
    assert inner.num_aborted == 1


async def test_the_rest_is_the_engines():
    inner = engine(max_context=100)
    asking = RememberingEngine(inner)
    assert asking.identity() == inner.identity()
    assert await asking.count_tokens(TextPrompt("one two")) == 2
    assert len(await asking.prompt_logprobs(TextPrompt("one two"))) == 1
    assert [chunk.text async for chunk in asking.stream(TextPrompt("p"), Sampling())] == ["text"]
    await asking.check()
