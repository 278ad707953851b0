"""The embedded engine on real vLLM: answers, labels, limits, cancelling, and its processes' lives.

All but the last tests share the session's engine; the same processes answer after every one.
"""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cai.engine.embedded import EmbeddedEngine
from cai.engine.ownership import engine_pids
from cai.engine.vllm_requests import next_token_params
from cai.errors import (
    ConfigError,
    ContextLengthError,
    EngineDeadError,
    InputError,
    UnsupportedError,
)
from cai.types import ChatPrompt, Message, Sampling, TextPrompt, TokenPrompt

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[2]
ASK = ChatPrompt((Message("user", "How do I boil an egg?"),))
GREEDY = Sampling(temperature=0.0, max_tokens=12)


def asked(text: str) -> ChatPrompt:
    return ChatPrompt((Message("user", text),))


@pytest.fixture
async def engine(sandbox_engine: EmbeddedEngine):
    """The session's engine, which is found as it was left."""
    before = sandbox_engine.pids()
    yield sandbox_engine
    await idle(sandbox_engine)
    assert sandbox_engine.pids() == before != []
    assert (await sandbox_engine.generate(ASK, GREEDY)).completions


def assert_close(one: float, other: float) -> None:
    """Log-probs as alike as bfloat16 leaves them in batches of different sizes."""
    assert math.exp(one) == pytest.approx(math.exp(other), abs=0.02)
    assert one == pytest.approx(other, abs=0.3)


async def idle(engine: EmbeddedEngine) -> None:
    async with asyncio.timeout(10):
        while engine.num_unfinished():
            await asyncio.sleep(0.02)


async def test_several_answers_to_one_prompt(engine):
    generation = await engine.generate(ASK, Sampling(n=4, max_tokens=6, temperature=2.0))
    assert len(generation.completions) == 4
    assert len({c.token_ids for c in generation.completions}) > 1
    assert all(1 <= len(c.token_ids) <= 6 for c in generation.completions)
    assert generation.usage.prompt_tokens == await engine.count_tokens(ASK)
    assert generation.usage.completion_tokens == sum(
        len(c.token_ids) for c in generation.completions
    )
    assert generation.policy == engine.identity().model == "sandbox"


async def test_a_limit_and_a_stop_end_an_answer(engine):
    long = (await engine.generate(ASK, Sampling(temperature=0.0, max_tokens=8))).completions[0]
    assert (len(long.token_ids), long.finish_reason) in (
        (8, "length"),
        (len(long.token_ids), "stop"),
    )
    stop = long.text.strip()[1:3]
    cut = await engine.generate(ASK, Sampling(temperature=0.0, max_tokens=8, stop=(stop,)))
    assert cut.completions[0].finish_reason == "stop"
    assert cut.text == long.text[: long.text.index(stop)]


async def test_log_probs_have_exactly_the_alternatives_asked_for(engine):
    for top in (0, 1, 5, 20):
        sampling = Sampling(max_tokens=5, temperature=1.0, logprobs=top)
        completion = (await engine.generate(ASK, sampling)).completions[0]
        assert completion.logprobs is not None
        assert [p.id for p in completion.logprobs] == list(completion.token_ids)
        for place in completion.logprobs:
            values = [value for _, _, value in place.top]
            assert len(values) == top
            assert values == sorted(values, reverse=True)
            assert place.logprob <= 0


async def test_vllm_alone_loses_the_alternatives_of_a_mixed_batch(engine):
    """The reason for `lanes.py`, shown on vLLM itself: when this fails, the guard can go."""
    ids = engine.renderer.render(ASK.messages)
    long = next_token_params(top=5)
    long.max_tokens, long.ignore_eos = 256, True  # labels are scored while it runs, for sure
    answering = asyncio.create_task(last(engine, ids, long, "raw-long"))
    labels = next_token_params(label_ids=engine._labels.of(("A", "B")))
    for number in range(8):
        await last(engine, ids, labels, f"raw-{number}")
    places = (await answering).outputs[0].logprobs
    lost = sum(len(place) < 5 for place in places)
    assert lost, "vLLM keeps the alternatives now: cai/engine/lanes.py can go"


async def last(engine, ids, params, request_id):
    from vllm.inputs import tokens_input

    output = None
    async for each in engine._llm.generate(tokens_input(ids), params, request_id):
        output = each
    return output


async def test_mixed_batches_of_labels_and_log_probs_lose_nothing(engine):
    alone = await engine.score(ASK, ("A", "B"))

    async def generate(i: int):
        sampling = Sampling(max_tokens=8, temperature=1.0, logprobs=5)
        return await engine.generate(asked(f"Question {i}?"), sampling)

    async def stream(i: int):
        sampling = Sampling(max_tokens=8, temperature=1.0, logprobs=5)
        return [chunk async for chunk in engine.stream(asked(f"Streamed {i}?"), sampling)]

    async def score(i: int):
        await asyncio.sleep(0.003 * (i % 7))
        return await engine.score(ASK, ("A", "B"))

    calls = [call(i) for i in range(24) for call in (generate, score, stream)]
    for found in await asyncio.gather(*calls):
        if isinstance(found, list):
            places = [place for chunk in found for place in chunk.logprobs or ()]
        elif hasattr(found, "completions"):
            places = found.completions[0].logprobs
        else:
            for label in ("A", "B"):
                assert_close(found.logprobs[label], alone.logprobs[label])
            continue
        assert places
        assert {len(place.top) for place in places} == {5}


async def test_a_label_s_score_is_its_log_prob_after_the_prompt(engine):
    """Score of a label = log-prob of its token when the prompt goes on with it."""
    scores = await engine.score(ASK, ("A", "B"))
    ids = engine.renderer.render(ASK.messages)
    for label in ("A", "B"):
        going_on = TokenPrompt((*ids, *engine.renderer.encode_content(label)))
        expected = (await engine.prompt_logprobs(going_on))[-1]
        assert expected.text.strip() == label
        assert_close(scores.logprobs[label], expected.logprob)
    assert 0 < scores.mass <= 1.0001
    assert scores.usage.prompt_tokens == len(ids)


async def test_prompt_log_probs_are_one_for_each_token_after_the_first(engine):
    ids = tuple(engine.renderer.encode_content("How do I boil an egg?"))
    places = await engine.prompt_logprobs(TokenPrompt(ids), top=3)
    assert [place.id for place in places] == list(ids[1:])
    assert {len(place.top) for place in places} == {3}
    assert len(await engine.prompt_logprobs(TextPrompt("How do I boil an egg?"))) >= len(ids) - 1
    assert await engine.prompt_logprobs(TokenPrompt(ids[:1])) == ()


async def test_labels_that_are_no_single_tokens_are_refused(engine):
    with pytest.raises(UnsupportedError, match="use one-token labels"):
        await engine.score(ASK, ("A", "zxqj vwk"))
    with pytest.raises(UnsupportedError, match="the same token"):
        await engine.score(ASK, ("A", "A"))
    with pytest.raises(InputError, match="no labels"):
        await engine.score(ASK, ())


async def test_a_seed_is_accepted_and_said_not_to_be_honoured_on_cpu(engine):
    """A chunked prefill with a seed kills vLLM's CPU engine: 3,000 tokens beside others are one."""
    if engine.identity().device != "cpu":
        pytest.skip("this engine honours seeds")
    long = TokenPrompt(tuple([5 + i % 50 for i in range(3000)]))
    calls = [engine.generate(long, Sampling(max_tokens=2, seed=s)) for s in (0, 7, -1, 2**80)]
    for generation in await asyncio.gather(*calls):
        assert generation.seed_honoured is False
    assert (await engine.generate(ASK, GREEDY)).seed_honoured is None


async def test_a_stream_is_the_same_answer_in_pieces(engine):
    sampling = Sampling(temperature=0.0, max_tokens=20, logprobs=2, seed=1)
    whole = await engine.generate(ASK, sampling)
    chunks = [chunk async for chunk in engine.stream(ASK, sampling)]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert {chunk.policy for chunk in chunks} == {"sandbox"}
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (
        *(whole.usage.prompt_tokens, whole.usage.completion_tokens),
    )
    assert chunks[-1].finish_reason == whole.completions[0].finish_reason
    assert chunks[-1].seed_honoured == whole.seed_honoured
    streamed = [place.id for chunk in chunks for place in chunk.logprobs or ()]
    assert streamed == list(whole.completions[0].token_ids)


async def test_a_stream_of_several_answers_ends_each_once(engine):
    sampling = Sampling(n=3, max_tokens=5, temperature=1.5)
    chunks = [chunk async for chunk in engine.stream(ASK, sampling)]
    ends = [chunk.index for chunk in chunks if chunk.finish_reason]
    assert sorted(ends) == [0, 1, 2]
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


async def test_cancelling_aborts_in_the_engine(engine):
    endless = Sampling(max_tokens=None, temperature=2.0, n=16)
    call = asyncio.create_task(engine.generate(asked("Tell me all"), endless))
    async with asyncio.timeout(10):
        while engine.num_unfinished() < 16:
            await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await idle(engine)


async def test_leaving_a_stream_aborts_in_the_engine(engine):
    endless = Sampling(max_tokens=None, temperature=2.0, n=16)
    stream = engine.stream(asked("Tell me all"), endless)
    await anext(stream)
    assert engine.num_unfinished() > 0
    await stream.aclose()
    await idle(engine)


async def test_cancelling_a_score_frees_its_lane(engine):
    calls = [
        asyncio.create_task(engine.score(asked(f"x {i} " * 200), ("A", "B"))) for i in range(8)
    ]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    async with asyncio.timeout(10):
        await engine.generate(ASK, Sampling(max_tokens=2, logprobs=1))


@pytest.mark.parametrize(
    "prompt",
    [
        asked("word " * 9000),
        asked("x" * 40_000_000),
        TextPrompt("word " * 9000),
        TokenPrompt((5,) * 5000),
    ],
    ids=["chat", "forty megabytes", "text", "tokens"],
)
async def test_a_prompt_over_the_context_is_a_clear_error(engine, prompt):
    started = time.monotonic()
    for call in (engine.generate(prompt, GREEDY), engine.score(prompt, ("A", "B"))):
        with pytest.raises(ContextLengthError, match="context holds"):
            await call
    assert time.monotonic() - started < 10


async def test_an_answer_takes_what_the_context_leaves(engine):
    limit = engine.identity().max_context
    prompt = TokenPrompt((5,) * (limit - 3))
    for wanted in (None, 500):
        generation = await engine.generate(prompt, Sampling(max_tokens=wanted, temperature=1.0))
        assert 1 <= generation.usage.completion_tokens <= 3


@pytest.mark.parametrize("ids", [(10**6,), (-1,), (5, 2**40), ()])
async def test_bad_token_ids_are_refused(engine, ids):
    with pytest.raises(InputError):
        await engine.generate(TokenPrompt(ids), GREEDY)
    with pytest.raises(InputError):
        await engine.prompt_logprobs(TokenPrompt(ids))


@pytest.mark.parametrize(
    "sampling",
    [
        *(Sampling(max_tokens=0), Sampling(max_tokens=-1), Sampling(n=0), Sampling(n=10**9)),
        *(Sampling(temperature=-1), Sampling(temperature=3), Sampling(temperature=float("nan"))),
        *(Sampling(top_p=0), Sampling(top_p=2), Sampling(top_k=-5), Sampling(min_p=2)),
        *(Sampling(presence_penalty=9), Sampling(repetition_penalty=0), Sampling(stop=("",))),
        *(Sampling(logprobs=21), Sampling(logprobs=-2), Sampling(logprobs=10**9)),
        *(Sampling(n=2, temperature=0.0),),
    ],
    ids=lambda s: str(s)[9:60],
)
async def test_what_vllm_refuses_is_an_input_error(engine, sampling):
    with pytest.raises(InputError):
        await engine.generate(ASK, sampling)
    with pytest.raises(InputError):
        async for _ in engine.stream(ASK, sampling):
            pass


async def test_a_prompt_full_of_special_tokens_is_answered(engine):
    text = " ".join([*engine.renderer._content.control] * 5)
    generation = await engine.generate(asked(text), GREEDY)
    assert generation.completions
    ids = engine.renderer.render(asked(text).messages)
    plain = engine.renderer.render(asked("x").messages)
    assert engine.renderer._content.control_in(ids) == engine.renderer._content.control_in(plain)


async def test_a_later_turn_is_served_by_the_prefix_cache(engine):
    first = (Message("user", "Tell me about eggs. " * 60),)
    await engine.generate(ChatPrompt(first), GREEDY)
    longer = (*first, Message("assistant", "They are round."), Message("user", "More?"))
    generation = await engine.generate(ChatPrompt(longer), GREEDY)
    assert generation.usage.cached_tokens > 0
    assert engine.identity().keeps_prefix


async def test_the_identity_says_what_was_loaded(engine):
    from cai.engine.model_folder import digest_model_folder
    from cai.engine.open import SANDBOX_MODEL

    identity = engine.identity()
    assert (identity.engine, identity.model) == ("vllm", "sandbox")
    assert identity.digest == digest_model_folder(SANDBOX_MODEL)
    assert identity.template_digest == engine.renderer.template_digest
    assert identity.max_context == 4096
    await engine.check()


async def test_an_answer_that_is_wanted_whole_beats_with_every_step(sandbox_engine, monkeypatch):
    """Its request yields once, at the end: by that measure a long one would be a hanging engine."""
    beats = []
    monkeypatch.setattr(sandbox_engine._pulse, "beat", lambda: beats.append(1))
    generation = await sandbox_engine.generate(ASK, GREEDY)
    assert len(beats) >= len(generation.completions[0].token_ids) > 1


async def test_a_core_that_answers_no_question_is_silent_without_any_work(
    sandbox_engine, monkeypatch
):
    hanging = asyncio.Event()
    monkeypatch.setattr(sandbox_engine._pulse, "_asked_at", -100.0)
    monkeypatch.setattr(sandbox_engine._llm, "is_paused", hanging.wait)
    await sandbox_engine.check()
    await asyncio.sleep(0.05)
    assert sandbox_engine.silent_s() > 0.04
    hanging.set()
    await asyncio.sleep(0.01)
    assert sandbox_engine.silent_s() == 0.0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_num_seq": 8}, "no engine argument 'max_num_seq'; did you mean 'max_num_seqs'"),
        ({"model": "x"}, "part of the engine's address"),
        ({"max_model_len": "many"}, "vLLM refuses the engine arguments|vLLM cannot load"),
    ],
)
async def test_engine_arguments_that_will_not_do_are_refused(model_folder, options, match):
    before = engine_pids()
    with pytest.raises(ConfigError, match=match):
        await EmbeddedEngine.start(str(model_folder), options)
    assert engine_pids() == before


class ClosingLlm:
    """Stands for vLLM while it is shut down: every request goes on until it is aborted."""

    output_handler = None
    output_processor = SimpleNamespace(process_outputs=None)
    vllm_config = SimpleNamespace(lora_config=None)

    def __init__(self, model_config) -> None:
        self.model_config = model_config
        self.aborted = asyncio.Event()
        self.is_shut_down = False

    async def generate(self, prompt, params, request_id, lora_request=None):
        out = SimpleNamespace(text="a", token_ids=[5], index=0, logprobs=None, finish_reason=None)
        yield SimpleNamespace(outputs=[out], num_cached_tokens=0)
        await self.aborted.wait()
        out.finish_reason = "abort"
        yield SimpleNamespace(outputs=[out], num_cached_tokens=0)

    async def abort(self, request_ids) -> None:
        assert len(request_ids) == 2
        self.aborted.set()

    def shutdown(self) -> None:
        self.is_shut_down = True


class NoGuardian:
    def close(self) -> None:
        pass


async def test_closing_ends_every_call_and_later_ones_are_refused(sandbox_engine):
    llm = ClosingLlm(sandbox_engine._llm.model_config)
    engine = EmbeddedEngine(llm, sandbox_engine.renderer, sandbox_engine.loaded, NoGuardian())
    stream = engine.stream(ASK, GREEDY)
    assert (await anext(stream)).text == "a"
    call = asyncio.create_task(engine.generate(ASK, GREEDY))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await engine.aclose()
        for later in (call, anext(stream), engine.generate(ASK, GREEDY), engine.check()):
            with pytest.raises(EngineDeadError, match="the engine is closed"):
                await later
        await engine.aclose()
    assert llm.is_shut_down
