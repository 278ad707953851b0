"""A remote engine on a real connection: streams, resets, silence, cancelled calls."""

import asyncio
import json
import time

import pytest

from cai.engine.remote import RemoteEngine
from cai.errors import (
    EngineDeadError,
    EngineError,
    EngineTimeoutError,
    InputError,
    OverloadedError,
)
from cai.types import Sampling, Usage
from tests.engine.loopback import loopback
from tests.engine.remote_helpers import HELLO, chat, collect, event

USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = (
    event("Hé", model="m")
    + b": ping\n\n"
    + event(" \u2028you")
    + event(reason="stop")
    + USAGE
    + DONE
)


def streaming(content: bytes, size: int = 1000):
    """A script that streams `content` in pieces of `size` bytes, wherever that cuts."""

    async def script(exchange):
        await exchange.begin_stream()
        for at in range(0, len(content), size):
            await exchange.piece(content[at : at + size])
        await exchange.end_stream()

    return script


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
async def test_a_stream_is_read_wherever_the_network_cuts_it(size):
    """In the text: a letter of two bytes, and a line separator that ends no line of a stream."""
    async with loopback(streaming(STREAM, size)) as server:
        engine = await RemoteEngine.connect(server.address)
        chunks = await collect(engine, Sampling(seed=1))
        await engine.aclose()
    assert [c.text for c in chunks] == ["Hé", " \u2028you", ""]
    assert [c.finish_reason for c in chunks] == [None, None, "stop"]
    assert [c.usage for c in chunks] == [None, None, Usage(4, 2)]
    assert [c.seed_honoured for c in chunks] == [None, None, True]
    assert {c.policy for c in chunks} == {server.address}
    sent = json.loads(server.exchanges[0].body)
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("content", "texts", "usage"),
    [
        (event("a") + event(reason="stop") + DONE, ["a", ""], Usage()),
        (event("a", reason="stop") + DONE, ["a"], Usage()),
        (event("a", reason="stop"), ["a"], Usage()),
        (event("a", reason="stop").rstrip(b"\n"), ["a"], Usage()),
        (STREAM.replace(b"\n", b"\r\n"), ["Hé", " \u2028you", ""], Usage(4, 2)),
        (
            STREAM.replace(b"data: ", b"id: 1\nevent: x\ndata:"),
            ["Hé", " \u2028you", ""],
            Usage(4, 2),
        ),
        (b'data: {"choices":\ndata: []}\n\n' + event("a", reason="stop"), ["a"], Usage()),
    ],
)
async def test_streams_of_other_servers_are_read_too(content, texts, usage):
    async with loopback(streaming(content)) as server:
        engine = await RemoteEngine.connect(server.address)
        chunks = await collect(engine)
        await engine.aclose()
    assert [c.text for c in chunks] == texts
    assert chunks[-1].usage == usage
    assert all(c.usage is None for c in chunks[:-1])


async def test_each_answer_of_a_stream_ends_once():
    content = b"".join(
        [
            *(event("a", index=0), event("b", index=1), event(reason="stop", index=1)),
            *(event("c", index=0), event(reason="length", index=0), USAGE, DONE),
        ]
    )
    async with loopback(streaming(content)) as server:
        engine = await RemoteEngine.connect(server.address)
        chunks = await collect(engine, Sampling(n=2))
        await engine.aclose()
    assert [(c.index, c.text, c.finish_reason) for c in chunks] == [
        *((0, "a", None), (1, "b", None), (1, "", "stop"), (0, "c", None), (0, "", "length")),
    ]
    assert [c.usage for c in chunks] == [None] * 4 + [Usage(4, 2)]


@pytest.mark.parametrize(
    ("content", "expected", "match"),
    [
        (event("a"), EngineError, "before the answer was whole"),
        (event("a") + DONE, EngineError, "before the answer was whole"),
        (b"", EngineError, "before the answer was whole"),
        (event("a") + b"data: {broken\n\n", EngineError, "not JSON"),
        (event("a") + b"data: 7\n\n", EngineError, "not an object"),
        (event("a") + b'data: {"choices": [7]}\n\n', EngineError, "shape"),
        (
            event("a")
            + b'data: {"error": {"message": "gone", "type": "service_unavailable_error"}}\n\n',
            EngineDeadError,
            "gone",
        ),
        (
            event("a") + b'data: {"error": {"message": "slow", "type": "timeout_error"}}\n\n',
            EngineTimeoutError,
            "slow",
        ),
        (event("a") + b'data: {"error": {"message": "x", "code": 400}}\n\n', InputError, "x"),
        (event("a") + b'data: {"error": "odd"}\n\n', EngineError, "odd"),
    ],
)
async def test_a_stream_that_breaks_is_never_taken_for_an_answer(content, expected, match):
    async with loopback(streaming(content)) as server:
        engine = await RemoteEngine.connect(server.address)
        with pytest.raises(expected, match=match):
            await collect(engine)
        assert len(server.exchanges) == 1, "nothing of a stream is repeated"
        await engine.aclose()


async def test_a_stream_whose_connection_is_cut_is_an_error():
    async def script(exchange):
        await exchange.begin_stream()
        await exchange.piece(event("a"))
        exchange.reset()

    async with loopback(script) as server:
        engine = await RemoteEngine.connect(server.address)
        with pytest.raises(EngineDeadError):
            await collect(engine)
        await engine.aclose()


async def test_a_stream_that_is_refused_at_first_is_asked_for_again(no_waiting):
    async def busy(exchange):
        await exchange.answer(429, {"error": {"message": "busy"}}, retry_after="1")

    async def reset(exchange):
        exchange.reset()

    async with loopback(busy, reset, streaming(STREAM)) as server:
        engine = await RemoteEngine.connect(server.address)
        assert "".join(c.text for c in await collect(engine)) == "Hé \u2028you"
        await engine.aclose()
    async with loopback(busy) as server:
        engine = await RemoteEngine.connect(server.address, max_attempts=2)
        with pytest.raises(OverloadedError, match="busy") as caught:
            await collect(engine)
        assert caught.value.retry_after_s == 1.0
        await engine.aclose()


async def test_text_is_passed_on_as_it_comes():
    """No piece waits for the next one."""
    told = asyncio.Event()

    async def script(exchange):
        await exchange.begin_stream()
        await exchange.piece(event("first"))
        await told.wait()
        await exchange.piece(event("last", reason="stop"))
        await exchange.end_stream()

    async with loopback(script) as server, asyncio.timeout(5):
        engine = await RemoteEngine.connect(server.address)
        stream = engine.stream(HELLO, Sampling())
        assert (await anext(stream)).text == "first"
        told.set()
        assert [c.text async for c in stream] == ["last"]
        await engine.aclose()


async def test_a_connection_that_is_reset_is_tried_again(no_waiting):
    async def reset(exchange):
        exchange.reset()

    async def answer(exchange):
        await exchange.answer(200, chat("x"))

    async with loopback(reset, reset, answer) as server:
        engine = await RemoteEngine.connect(server.address)
        assert (await engine.generate(HELLO, Sampling())).text == "x"
        assert len(server.exchanges) == 3
        await engine.aclose()
    async with loopback(reset) as server:
        engine = await RemoteEngine.connect(server.address, max_attempts=2)
        with pytest.raises(EngineDeadError, match="cannot be reached"):
            await engine.generate(HELLO, Sampling())
        await engine.aclose()


async def test_an_answer_that_breaks_off_is_tried_again(no_waiting):
    async def torn(exchange):
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        exchange.reset()

    async def answer(exchange):
        await exchange.answer(200, chat("x"))

    async with loopback(torn, answer) as server:
        engine = await RemoteEngine.connect(server.address)
        assert (await engine.generate(HELLO, Sampling())).text == "x"
        await engine.aclose()


async def test_silence_ends_with_the_limit_in_the_message_and_is_not_repeated():
    async def silent(exchange):
        await exchange.client_left()

    async with loopback(silent) as server:
        engine = await RemoteEngine.connect(server.address, timeout_s=0.3)
        started = time.monotonic()
        with pytest.raises(EngineTimeoutError, match=r"no answer within 0\.3 s"):
            await engine.generate(HELLO, Sampling())
        with pytest.raises(EngineTimeoutError, match=r"no answer within 0\.3 s"):
            await collect(engine)
        assert time.monotonic() - started < 5
        assert len(server.exchanges) == 2
        await engine.aclose()


async def test_a_cancelled_call_closes_its_connection():
    left = asyncio.Event()

    async def script(exchange):
        await exchange.client_left()
        left.set()

    async with loopback(script) as server, asyncio.timeout(5):
        engine = await RemoteEngine.connect(server.address)
        call = asyncio.create_task(engine.generate(HELLO, Sampling()))
        while not server.exchanges:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await left.wait()
        await engine.aclose()


async def test_leaving_a_stream_closes_its_connection():
    left = asyncio.Event()

    async def script(exchange):
        await exchange.begin_stream()
        await exchange.piece(event("a"))
        await exchange.client_left()
        left.set()

    async with loopback(script) as server, asyncio.timeout(5):
        engine = await RemoteEngine.connect(server.address)
        stream = engine.stream(HELLO, Sampling())
        await anext(stream)
        await stream.aclose()
        await left.wait()
        await engine.aclose()


async def test_no_more_calls_are_under_way_than_allowed():
    async def script(exchange):
        await asyncio.sleep(0.02)
        await exchange.answer(200, chat("x"))

    async with loopback(script) as server:
        engine = await RemoteEngine.connect(server.address, max_concurrency=3)
        await asyncio.gather(*(engine.generate(HELLO, Sampling()) for _ in range(12)))
        assert server.most_open == 3
        await engine.aclose()


async def test_a_call_that_waits_for_a_repeat_can_be_cancelled():
    async def busy(exchange):
        await exchange.answer(429, {}, retry_after="60")

    async with loopback(busy) as server, asyncio.timeout(5):
        engine = await RemoteEngine.connect(server.address)
        call = asyncio.create_task(engine.generate(HELLO, Sampling()))
        while not server.exchanges:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await engine.aclose()
