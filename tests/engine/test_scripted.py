"""The scripted engine behaves as a real one does: counts, limits, stops, streams, errors."""

import asyncio
import math
import re

import pytest

from cai.engine.base import Engine
from cai.engine.scripted import ScriptedEngine, num_words, split_words
from cai.errors import ConfigError, ContextLengthError, EngineError, InputError, UnsupportedError
from cai.types import ChatPrompt, Message, Sampling, TextPrompt, TokenPrompt, Usage

HELLO = ChatPrompt((Message("user", "Hello there"),))
THREE = "one two three"


def said(text: str) -> ChatPrompt:
    return ChatPrompt((Message("user", text),))


async def collect(engine: Engine, sampling: Sampling | None = None):
    return [chunk async for chunk in engine.stream(HELLO, sampling or Sampling())]


def test_it_is_an_engine():
    assert isinstance(ScriptedEngine.answering("x"), Engine)


async def test_it_answers_from_the_last_message():
    engine = ScriptedEngine.answering(str.upper)
    generation = await engine.generate(said("hi you"), Sampling())
    assert generation.text == "HI YOU"
    assert generation.usage == Usage(prompt_tokens=2, completion_tokens=2)
    assert generation.policy == engine.identity().model == "scripted"
    assert (await engine.generate(TextPrompt("plain"), Sampling())).text == "PLAIN"


async def test_it_may_look_at_the_whole_prompt_and_the_sampling():
    engine = ScriptedEngine(lambda prompt, sampling: f"{len(prompt.messages)} {sampling.seed}")
    generation = await engine.generate(HELLO, Sampling(seed=4))
    assert generation.text == "1 4"
    assert generation.seed_honoured is True
    assert (await engine.generate(HELLO, Sampling())).seed_honoured is None


@pytest.mark.parametrize(
    ("sampling", "text", "reason"),
    [
        (Sampling(max_tokens=2), "one two", "length"),
        (Sampling(max_tokens=3), THREE, "stop"),
        (Sampling(max_tokens=None), THREE, "stop"),
        (Sampling(stop=("thr", "two")), "one ", "stop"),
        (Sampling(stop=("one",)), "", "stop"),
        (Sampling(stop=("absent",)), THREE, "stop"),
    ],
)
async def test_limits_and_stops_cut_as_they_would(sampling, text, reason):
    engine = ScriptedEngine.answering(THREE)
    completion = (await engine.generate(HELLO, sampling)).completions[0]
    assert (completion.text, completion.finish_reason) == (text, reason)
    chunks = await collect(engine, sampling)
    assert "".join(chunk.text for chunk in chunks) == text
    assert chunks[-1].finish_reason == reason


async def test_several_answers_are_told_apart():
    engine = ScriptedEngine.answering(THREE)
    generation = await engine.generate(HELLO, Sampling(n=3))
    assert [c.text for c in generation.completions] == [THREE] * 3
    assert generation.usage.completion_tokens == 9
    chunks = await collect(engine, Sampling(n=2, seed=1))
    assert [c.index for c in chunks] == [0] * 3 + [1] * 3
    assert [c.usage for c in chunks[:-1]] == [None] * 5
    assert chunks[-1].usage == Usage(2, 6)
    assert chunks[-1].seed_honoured is True
    assert {c.policy for c in chunks} == {"scripted"}


async def test_log_probs_have_exactly_the_alternatives_asked_for():
    engine = ScriptedEngine.answering(THREE)
    for top in (0, 1):
        places = (await engine.generate(HELLO, Sampling(logprobs=top))).completions[0].logprobs
        assert [place.text for place in places] == ["one", " two", " three"]
        assert {len(place.top) for place in places} == {top}
    assert (await engine.generate(HELLO, Sampling())).completions[0].logprobs is None
    assert len(await engine.prompt_logprobs(said("a b c"), top=1)) == 2


async def test_scores_are_those_of_the_labels_asked_for():
    """exp(-1) + exp(-2) = 0.5032; the third label does not count."""
    scores = {"A": -1.0, "B": -2.0, "C": -0.1}
    engine = ScriptedEngine.answering("x", scores=lambda prompt, labels: scores)
    found = await engine.score(HELLO, ("A", "B"))
    assert dict(found.logprobs) == {"A": -1.0, "B": -2.0}
    assert found.mass == pytest.approx(0.5032, abs=1e-4)
    assert found.usage == Usage(2, 1)


async def test_missing_scores_are_an_error():
    with pytest.raises(UnsupportedError, match="no scores"):
        await ScriptedEngine.answering("x").score(HELLO, ("A",))
    engine = ScriptedEngine.answering("x", scores=lambda prompt, labels: {"A": -1.0})
    with pytest.raises(UnsupportedError, match=r"labels \['B'\]"):
        await engine.score(HELLO, ("A", "B"))
    with pytest.raises(InputError, match="no labels"):
        await engine.score(HELLO, ())


async def test_errors_of_the_script_reach_the_caller():
    def fail(text: str) -> str:
        raise EngineError(f"no answer to {text}")

    engine = ScriptedEngine.answering(fail)
    with pytest.raises(EngineError, match="no answer to Hello there"):
        await engine.generate(HELLO, Sampling())
    with pytest.raises(EngineError):
        await collect(engine)


async def test_the_context_is_counted_in_words():
    engine = ScriptedEngine.answering("x", max_context=3)
    assert (await engine.generate(said("a b"), Sampling())).text == "x"
    with pytest.raises(ContextLengthError, match="3 tokens and the context holds 3"):
        await engine.generate(said("a b c"), Sampling())
    assert await engine.count_tokens(said("a b c d")) == 4


async def test_token_ids_need_a_tokenizer():
    engine = ScriptedEngine.answering("x")
    with pytest.raises(UnsupportedError, match="no tokenizer"):
        await engine.generate(TokenPrompt((1, 2)), Sampling())


async def test_a_cancelled_call_counts_as_aborted():
    engine = ScriptedEngine.answering("x", delay_s=30)
    task = asyncio.create_task(engine.generate(HELLO, Sampling()))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    stream = engine.stream(HELLO, Sampling())
    task = asyncio.create_task(anext(stream))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (engine.num_calls, engine.num_aborted) == (2, 2)


async def test_a_stream_that_is_left_counts_as_aborted():
    engine = ScriptedEngine.answering(THREE)
    stream = engine.stream(HELLO, Sampling())
    assert (await anext(stream)).text == "one"
    await stream.aclose()
    assert engine.num_aborted == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a",
        " a",
        "a ",
        "  a  b\n\n",
        "\n",
        "\ta\n",
        "é😀 x",
        "a\u2028b",
        "\x1ca\x85b\u3000",
    ],
)
async def test_words_joined_are_the_text(text):
    assert "".join(split_words(text)) == text
    assert num_words(text) == len(split_words(text))
    engine = ScriptedEngine.answering(text)
    assert (await engine.generate(HELLO, Sampling())).text == text
    assert "".join(chunk.text for chunk in await collect(engine)) == text


def test_long_white_space_is_quick():
    assert len(split_words("a" + " " * 200_000 + "b" + " " * 200_000)) == 2
    assert len(split_words(" " * 200_000)) == 1


SCRIPT = """
rules:
  - match: (?i)boil
    answer: Seven minutes.
  - match: Answer with one letter
    scores: {A: -0.1, B: -2.5}
  - answer: I do not know.
delay_s: 0.0
max_context: 100
"""


@pytest.fixture
def script(tmp_path):
    def write(text: str):
        path = tmp_path / "script.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


async def test_rules_of_a_file_answer_in_their_order(script):
    engine = ScriptedEngine.from_file(script(SCRIPT))
    assert (await engine.generate(said("How do I BOIL it?"), Sampling())).text == "Seven minutes."
    assert (await engine.generate(said("What?"), Sampling())).text == "I do not know."
    found = await engine.score(said("Answer with one letter: A or B."), ("B", "A"))
    assert dict(found.logprobs) == {"B": -2.5, "A": -0.1}
    assert found.mass == pytest.approx(math.exp(-0.1) + math.exp(-2.5))
    with pytest.raises(EngineError, match="no rule of the script has scores"):
        await engine.score(said("other"), ("A", "B"))
    identity = engine.identity()
    assert (identity.model, identity.max_context) == ("scripted:script.yaml", 100)


def test_the_digest_follows_the_rules_and_not_the_comments(script):
    digest = ScriptedEngine.from_file(script(SCRIPT)).identity().digest
    assert ScriptedEngine.from_file(script("# note\n" + SCRIPT)).identity().digest == digest
    other = SCRIPT.replace("Seven", "Eight")
    assert ScriptedEngine.from_file(script(other)).identity().digest != digest


BROKEN = {
    "rules: [": r":\d+:\d+: ",
    "": "is empty|no value|missing",
    "[]": "mapping|keys",
    "rules: []": "rules",
    "rules:\n  - answr: x\n": r":2:5: unknown key 'answr'.*did you mean 'answer'",
    "rules:\n  - match: x\n": r":2:\d+: the rule has no answer and no scores",
    "rules:\n  - match: '('\n    answer: x\n": r":2:12: '\(' is no regular expression",
    "rules:\n  - scores: {A: 0.5}\n": r":2:\d+: .*scores",
    "rules:\n  - scores: {A: -.inf}\n": r":2:17: -\.inf is not a finite number",
    "rules:\n  - scores: {A: .nan}\n": r":2:17: \.nan is not a finite number",
    "rules:\n  - scores: {A: low}\n": "scores",
    "rules:\n  - answer: x\n    answer: y\n": "answer",
    "rules:\n  - answer: &a x\n": "anchor|&",
    "rules:\n  - answer: !!python/object:os.system x\n": "tag",
    "rules:\n  - answer: x\ndelay_s: -1\n": "delay_s",
    "rules:\n  - answer: x\nformat: 2\n": "format",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_script_is_refused_with_its_place(script, text):
    path = script(text)
    with pytest.raises(ConfigError) as caught:
        ScriptedEngine.from_file(path)
    assert str(path) in caught.value.message
    assert re.search(BROKEN[text], caught.value.message), caught.value.message


def test_a_missing_script_is_refused(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            ScriptedEngine.from_file(path)
