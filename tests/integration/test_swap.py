"""Weights replaced under real vLLM: the right ones, whole, and nobody's request fails or mixes.

The sandbox's engine is the session's and is left with the sandbox's weights. A model with tied
embeddings has an engine of its own, because only there the packed head can go stale.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cai.engine import swap as swapping
from cai.engine.anatomy import read_anatomy
from cai.engine.embedded import EmbeddedEngine
from cai.engine.open import SANDBOX_MODEL
from cai.errors import EngineDeadError, PolicyError, ReloadError
from cai.policy.manifest import Probe, seal
from cai.policy.probes import default_tolerance, replay
from cai.policy.reload import reload, try_weights
from cai.types import ChatPrompt, Message, Sampling, TokenPrompt
from tests.checkpoints import as_float32, derive, logprobs_of, nudged, probe_of, shuffled

pytestmark = pytest.mark.vllm

GREEDY = Sampling(temperature=0.0, max_tokens=16)
QUESTIONS = ("How do I boil an egg?", "What is the capital of France?", "Is the earth flat?")


def asked(text: str) -> ChatPrompt:
    return ChatPrompt((Message("user", text),))


async def answers(engine: EmbeddedEngine) -> list[tuple[int, ...]]:
    """Greedy answers to the questions, as token ids."""
    asked_all = [engine.generate(asked(question), GREEDY) for question in QUESTIONS]
    return [made.completions[0].token_ids for made in await asyncio.gather(*asked_all)]


def probes_of(folder: Path, engine: EmbeddedEngine) -> tuple[Probe, ...]:
    """Probes for the checkpoint in `folder`, of fixed tokens."""
    prompts = [engine.renderer.render(asked(question).messages) for question in QUESTIONS]
    return tuple(probe_of(folder, ids, ids[3:15]) for ids in prompts)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """`other` is plainly another policy, `near` a step of training away; in float32 and shards."""
    root = tmp_path_factory.mktemp("checkpoints")
    derive(SANDBOX_MODEL, root / "other", shuffled(1))
    derive(SANDBOX_MODEL, root / "near", lambda t: nudged(0.05)(as_float32(t)), num_shards=3)
    return root


@pytest.fixture
async def engine(sandbox_engine: EmbeddedEngine) -> AsyncIterator[EmbeddedEngine]:
    """The session's engine, which is found and left with the sandbox's weights."""
    before, pids = sandbox_engine.loaded, sandbox_engine.pids()
    yield sandbox_engine
    if sandbox_engine.loaded is not before:
        await sandbox_engine.swap_back(before)
    assert sandbox_engine.pids() == pids
    assert sandbox_engine.identity().model == "sandbox"


async def test_a_swap_answers_with_the_new_weights_and_back_with_the_old(engine, checkpoints):
    old = await answers(engine)
    sandbox = engine.identity()
    before = await engine.swap(checkpoints / "other", name="other")
    now = engine.identity()
    assert (now.model, now.template_digest) == ("other", sandbox.template_digest)
    assert now.digest not in (None, sandbox.digest)
    new = await answers(engine)
    assert new != old
    assert (await engine.generate(asked("hello"), GREEDY)).policy == "other"
    report = await replay(engine, probes_of(checkpoints / "other", engine))
    assert report.max_abs_diff < default_tolerance(engine.dtype)
    await engine.swap_back(before)
    assert (await answers(engine), engine.identity()) == (old, sandbox)


async def test_cached_prefixes_of_the_old_weights_are_forgotten(engine, checkpoints):
    """The same prompt twice is served from the cache the second time, but not after a swap.

    Only whole blocks are cached, which are of 64 tokens on CPU.
    """
    long = asked("Tell me more about it. " * 100)
    await engine.generate(long, GREEDY)
    assert (await engine.generate(long, GREEDY)).usage.cached_tokens > 0
    await engine.swap(checkpoints / "other")
    assert (await engine.generate(long, GREEDY)).usage.cached_tokens == 0


async def test_sharded_float32_weights_are_cast_to_what_the_engine_computes_in(engine, checkpoints):
    await engine.swap(checkpoints / "near", hash_files=False)
    report = await replay(engine, probes_of(checkpoints / "near", engine))
    assert report.max_abs_diff < default_tolerance(engine.dtype)
    assert engine.identity().digest is None


async def test_requests_inside_finish_on_the_old_policy_and_others_wait_for_the_new(
    engine, checkpoints
):
    """Each answer is, token for token, that of the policy that it names; more wait than fit."""
    expected = {"sandbox": await answers(engine)}
    await engine.swap(checkpoints / "other", name="other")
    expected["other"] = await answers(engine)
    named = []

    async def ask(delay_s: float, index: int) -> None:
        await asyncio.sleep(delay_s)
        made = await engine.generate(asked(QUESTIONS[index]), GREEDY)
        assert made.completions[0].token_ids == expected[made.policy][index]
        named.append(made.policy)

    async def swap_to_and_fro() -> None:
        for name, folder in (("sandbox", SANDBOX_MODEL), ("other", checkpoints / "other")) * 2:
            await asyncio.sleep(0.1)
            await engine.swap(folder, name=name)

    async with asyncio.timeout(240), asyncio.TaskGroup() as group:
        group.create_task(swap_to_and_fro())
        for number in range(400):
            group.create_task(ask(number / 400, number % len(QUESTIONS)))
    assert len(named) == 400
    assert set(named) == {"sandbox", "other"}


async def test_many_answers_to_one_prompt_are_of_one_policy(engine, checkpoints):
    """vLLM's own pause would let those of them that still queue go on under the new weights."""
    prompt = asked("How do I boil an egg?")
    sampling = Sampling(n=16, max_tokens=40, logprobs=0)
    asking = [asyncio.create_task(engine.generate(prompt, sampling)) for _ in range(24)]
    await asyncio.sleep(0.05)
    await engine.swap(checkpoints / "other", name="other")
    made = await asyncio.gather(*asking)
    assert {one.policy for one in made} == {"sandbox"}
    ids = engine.renderer.render(prompt.messages)
    answer = made[-1].completions[-1]
    own = logprobs_of(SANDBOX_MODEL, [*ids, *answer.token_ids])[len(ids) - 1 :]
    for place, token in zip(own, answer.logprobs, strict=True):
        assert float(place[token.id]) == pytest.approx(
            token.logprob, abs=default_tolerance(engine.dtype)
        )


async def test_a_slow_reader_of_a_stream_holds_nobody_up(engine, checkpoints):
    async with aclosing(engine.stream(asked(QUESTIONS[0]), GREEDY)) as chunks:
        first = await anext(chunks)
        async with asyncio.timeout(120):
            await engine.swap(checkpoints / "other", name="other")
        rest = [chunk async for chunk in chunks]
    assert {chunk.policy for chunk in (first, *rest)} == {"sandbox"}
    assert rest[-1].finish_reason is not None


async def test_aborted_requests_hold_no_cached_prefixes(engine, checkpoints):
    asking = [
        asyncio.create_task(engine.generate(asked(f"{n}"), Sampling(max_tokens=1000, min_p=0.5)))
        for n in range(20)
    ]
    await asyncio.sleep(0.1)
    for task in asking:
        task.cancel()
    async with asyncio.timeout(120):
        await engine.swap(checkpoints / "other", name="other")
    assert engine.identity().model == "other"


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.03, 0.06, 0.1])
async def test_a_cancelled_swap_leaves_the_engine_whole_and_resumed(engine, checkpoints, delay_s):
    """Wherever the cancel falls, the engine answers as the policy that it names."""
    swap = asyncio.create_task(engine.swap(checkpoints / "near", name="near", hash_files=False))
    await asyncio.sleep(delay_s)
    swap.cancel()
    await asyncio.wait({swap})
    folder = {"sandbox": SANDBOX_MODEL, "near": checkpoints / "near"}[engine.identity().model]
    async with asyncio.timeout(120):
        report = await replay(engine, probes_of(folder, engine))
    assert report.max_abs_diff < default_tolerance(engine.dtype)


async def test_a_load_that_breaks_off_brings_the_old_weights_back(
    engine, checkpoints, tmp_path, monkeypatch
):
    """The files vanish between the look at them and the load; vLLM then stops in the middle."""
    old = await answers(engine)
    same = read_anatomy(SANDBOX_MODEL)
    gone = derive(SANDBOX_MODEL, tmp_path / "gone", shuffled(2))
    (gone / "model.safetensors").write_bytes(b"torn")
    monkeypatch.setattr(
        swapping, "read_anatomy", lambda folder, like: same if folder == gone else like
    )
    with pytest.raises(ReloadError, match=r"could not be loaded .* 'sandbox' answers again"):
        await engine.swap(gone, name="gone")
    assert (await answers(engine), engine.identity().model) == (old, "sandbox")


async def test_a_condemned_engine_answers_nobody_until_a_swap(engine, checkpoints):
    engine.condemn("its weights are nobody's")
    for call in (engine.check(), engine.generate(asked("hello"), GREEDY)):
        with pytest.raises(EngineDeadError, match="nobody's"):
            await call
    await engine.swap(checkpoints / "other")
    await engine.check()


async def test_reload_keeps_a_policy_that_answers_as_its_trainer_said(engine, checkpoints):
    folder = checkpoints / "near"
    fields = {"name": "near", "kind": "full", "method": "sft", "base": "sandbox"}
    manifest = seal(folder, **fields, probes=probes_of(folder, engine))
    done = await reload(engine, folder)
    assert done.digest == engine.identity().digest == manifest.digest
    assert done.probes.max_abs_diff < default_tolerance(engine.dtype)
    (folder / "manifest.json").unlink()


async def test_weights_that_are_not_those_of_the_probes_are_taken_back(engine, checkpoints):
    """One step of training apart: near enough to answer alike, and found by the probes."""
    probes = probes_of(SANDBOX_MODEL, engine)
    with pytest.raises(ReloadError, match=r"off by up to .* 'sandbox' answers again"):
        await try_weights(engine, checkpoints / "near", probes)
    assert engine.identity().model == "sandbox"
    report = await replay(engine, probes)
    assert report.max_abs_diff < default_tolerance(engine.dtype)


async def test_another_model_is_refused_before_the_engine_is_touched(engine, model_folder):
    identity = engine.identity()
    with pytest.raises(PolicyError, match=r"its tokenizer is another; .*hidden_layers is 2"):
        await engine.swap(model_folder)
    assert engine.identity() is identity


@pytest.fixture(scope="module")
def tied(tmp_path_factory) -> Path:
    """Two checkpoints of a random Llama whose head is its embedding."""
    from tests.tiny_model import write_model

    root = tmp_path_factory.mktemp("tied")
    write_model(root / "one", is_tied=True)
    return derive(root / "one", root / "two", shuffled(5)).parent


@asynccontextmanager
async def engine_of_its_own(model: Path, **options: Any) -> AsyncIterator[EmbeddedEngine]:
    """An engine beside the session's, in float32, without the warnings that vLLM leaves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM's and torch's own, at import
        given = {"dtype": "float32", **options}
        engine = await EmbeddedEngine.start(str(model), given, served_name=model.name)
    yield engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vLLM leaves its message context to the collector
        await engine.aclose()
        gc.collect()


@pytest.fixture(scope="module")
async def tied_engine(tied: Path) -> AsyncIterator[EmbeddedEngine]:
    async with engine_of_its_own(tied / "one") as engine:
        yield engine


async def test_tied_embeddings_are_swapped_in_the_head_too(tied_engine, tied):
    """Greedy tokens and log-probs are those of transformers on the new checkpoint.

    With vLLM's reload alone the packed head keeps the old weights, and both are wrong.
    """
    assert "lm_head.weight" not in read_anatomy(tied / "two").tensors
    for name in ("two", "one", "two"):
        await tied_engine.swap(tied / name, name=name)
        ids = list(range(6, 26))
        made = await tied_engine.generate(TokenPrompt(tuple(ids)), GREEDY)
        for token_id in made.completions[0].token_ids:
            own = logprobs_of(tied / name, [*ids, 0])[-1]
            assert token_id == int(own.argmax())
            ids.append(token_id)
        probe = probe_of(tied / name, ids[:4], ids[4:])
        assert (await replay(tied_engine, [probe])).max_abs_diff < 1e-3
