"""Our client and our server understand each other: a remote engine over a served scripted one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable

import pytest

from cai.engine.remote import RemoteEngine
from cai.engine.scripted import ScriptedEngine
from cai.errors import ContextLengthError, InputError, OverloadedError, UnsupportedError
from cai.types import ChatPrompt, Message, Prompt, Sampling, TextPrompt, TokenPrompt, Usage
from tests.server.helpers import make_app, served, until

HELLO = ChatPrompt((Message("system", "Be kind."), Message("user", "Hello \u2028 there")))
EVERYTHING = Sampling(
    max_tokens=20,
    temperature=0.5,
    top_p=0.9,
    top_k=5,
    min_p=0.1,
    presence_penalty=0.1,
    frequency_penalty=0.2,
    repetition_penalty=1.1,
    stop=("never",),
    seed=3,
    n=2,
    logprobs=1,
)


class Speaks(ScriptedEngine):
    """A scripted engine that also takes token ids, as the internal calls do."""

    async def generate(self, prompt: Prompt, sampling: Sampling):
        self.last_sampling = sampling
        if isinstance(prompt, TokenPrompt):
            prompt = TextPrompt(" ".join(map(str, prompt.ids)))
        return await super().generate(prompt, sampling)


def speaking(**options) -> Speaks:
    return Speaks(
        lambda prompt, sampling: "It is fine.\u2028 Yes",
        lambda prompt, labels: {"A": -0.5, "B": -math.inf},
        **options,
    )


@pytest.fixture
async def opened(tmp_path) -> AsyncIterator[Callable]:
    """Opens an engine as a server, and a remote engine on that."""
    closing = []

    async def opened(engine: ScriptedEngine, **settings) -> RemoteEngine:
        context = served(make_app(tmp_path / str(len(closing)), engine, **settings))
        url, _ = await context.__aenter__()
        remote = await RemoteEngine.connect(f"{url}/v1", max_attempts=1)
        closing.append((remote, context))
        return remote

    yield opened
    for remote, context in closing:
        await remote.aclose()
        await context.__aexit__(None, None, None)


async def test_the_server_s_engine_is_known_by_name_and_digest(opened):
    remote = await opened(speaking(digest="sha256:abc", max_context=500))
    identity = remote.identity()
    assert (identity.engine, identity.digest) == ("scripted", "sha256:abc")
    assert identity.max_context == 500
    assert identity.model.endswith("#live")


async def test_every_way_to_sample_reaches_the_engine(opened):
    engine = speaking()
    remote = await opened(engine)
    for prompt in (HELLO, TextPrompt("Hello"), TokenPrompt((1, 2, 3))):
        generation = await remote.generate(prompt, EVERYTHING)
        assert engine.last_sampling == EVERYTHING
        assert [c.text for c in generation.completions] == ["It is fine.\u2028 Yes"] * 2
        assert [c.finish_reason for c in generation.completions] == ["stop", "stop"]
        assert generation.policy == "scripted"
        assert generation.seed_honoured is True
        assert generation.usage.completion_tokens == 8
        assert [len(c.logprobs) for c in generation.completions] == [4, 4]
        assert {len(p.top) for c in generation.completions for p in c.logprobs} == {1}


async def test_a_stream_comes_through_whole(opened):
    remote = await opened(speaking())
    sampling = Sampling(seed=1, n=2, logprobs=1)
    chunks = [chunk async for chunk in remote.stream(HELLO, sampling)]
    for index in (0, 1):
        assert "".join(c.text for c in chunks if c.index == index) == "It is fine.\u2028 Yes"
        assert [c.finish_reason for c in chunks if c.index == index][-1] == "stop"
    assert {chunk.policy for chunk in chunks} == {"scripted"}
    assert chunks[-1].usage == Usage(4, 8)
    assert chunks[-1].seed_honoured is True
    assert sum(len(chunk.logprobs or ()) for chunk in chunks) == 8


async def test_labels_are_scored_and_a_probability_of_zero_stays_one(opened):
    remote = await opened(speaking())
    scores = await remote.score(HELLO, ("A", "B"))
    assert scores.logprobs["A"] == -0.5
    assert math.exp(scores.logprobs["B"]) == 0
    assert scores.mass == pytest.approx(math.exp(-0.5))
    assert scores.policy == "scripted"


async def test_errors_keep_their_class(opened):
    remote = await opened(speaking(max_context=3))
    with pytest.raises(ContextLengthError):
        await remote.generate(HELLO, Sampling())
    with pytest.raises(ContextLengthError):
        [chunk async for chunk in remote.stream(HELLO, Sampling())]
    with pytest.raises(InputError, match="temperature"):
        await remote.generate(HELLO, Sampling(temperature=9))
    without = await opened(ScriptedEngine.answering("x"))
    with pytest.raises(UnsupportedError, match="no scores"):
        await without.score(HELLO, ("A", "B"))


async def test_a_full_queue_is_an_overload_that_says_when_to_come_back(opened):
    engine = speaking(delay_s=30)
    remote = await opened(engine, max_running=1, max_queue=0)
    first = asyncio.create_task(remote.generate(HELLO, Sampling()))
    await until(lambda: engine.num_calls == 1)
    with pytest.raises(OverloadedError) as caught:
        await remote.generate(HELLO, Sampling())
    assert caught.value.retry_after_s >= 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await until(lambda: engine.num_aborted == 1)


async def test_leaving_a_stream_aborts_at_the_other_end(opened):
    engine = speaking(delay_s=0.05)
    remote = await opened(engine)
    stream = remote.stream(HELLO, Sampling())
    await anext(stream)
    await stream.aclose()
    await until(lambda: engine.num_aborted == 1)
