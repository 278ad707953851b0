"""What a remote engine repeats, what it does not, and what its errors tell."""

import logging

import httpx2
import pytest

from cai.engine.remote import RemoteEngine
from cai.errors import (
    CaiError,
    ConfigError,
    ContextLengthError,
    EngineDeadError,
    EngineError,
    InputError,
    NotFoundError,
    UnsupportedError,
)
from cai.types import Sampling
from tests.engine.remote_helpers import HELLO, KEY, Server, chat, collect, connect


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_repeated(no_waiting, status):
    engine = await connect(Server(completions=[(status, {}), (status, {}), chat("x")]))
    assert (await engine.generate(HELLO, Sampling())).text == "x"
    assert len(no_waiting) == 2
    assert no_waiting[1] > no_waiting[0], "the second wait is longer"


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("9999", 60, 60), ("soon", 0, 1), ("-5", 0, 1), ("nan", 0, 1)],
)
async def test_retry_after_is_waited_for_within_reason(no_waiting, header, least, most):
    busy = httpx2.Response(429, headers={"retry-after": header})
    engine = await connect(Server(completions=[busy, chat("x")]))
    assert (await engine.generate(HELLO, Sampling())).text == "x"
    assert least <= no_waiting[0] <= most


async def test_attempts_are_counted(no_waiting):
    server = Server(completions=(503, {"error": {"message": "loading"}}))
    engine = await connect(server, max_attempts=3)
    with pytest.raises(EngineDeadError, match="the server answers 503: loading"):
        await engine.generate(HELLO, Sampling())
    assert len(server.requests) == 3
    assert len(no_waiting) == 2


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"message": "bad n", "code": "invalid_value"}, InputError),
        (400, {"message": "too long", "code": "context_length_exceeded"}, ContextLengthError),
        (400, {"message": "This model's maximum context length is 4096"}, ContextLengthError),
        (400, {"message": "no such label", "code": "unsupported"}, UnsupportedError),
        (401, {"message": "who?"}, ConfigError),
        (403, {"message": "not you"}, ConfigError),
        (404, {"message": "no model"}, NotFoundError),
        (413, {"message": "large"}, InputError),
        (422, {"detail": "field"}, InputError),
        (307, {}, EngineError),
    ],
)
async def test_what_will_not_pass_is_not_repeated(status, error, expected):
    server = Server(completions=(status, {"error": error}))
    engine = await connect(server)
    with pytest.raises(expected, match=f"the server answers {status}"):
        await engine.generate(HELLO, Sampling())
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "content", [b"", b"<html>busy</html>", b"[1]", b'{"error": "text"}', b"\xff"]
)
async def test_any_body_may_come_with_an_error(content):
    engine = await connect(Server(completions=httpx2.Response(400, content=content)))
    with pytest.raises(InputError, match="the server answers 400"):
        await engine.generate(HELLO, Sampling())


async def test_what_is_not_json_is_repeated_and_then_an_engine_error(no_waiting):
    answers = [httpx2.Response(200, content=b"<html>"), chat("x")]
    assert (
        await (await connect(Server(completions=answers))).generate(HELLO, Sampling())
    ).text == "x"
    engine = await connect(
        Server(completions=httpx2.Response(200, content=b"\xff{")), max_attempts=2
    )
    with pytest.raises(EngineError, match="not JSON"):
        await engine.generate(HELLO, Sampling())


async def test_the_key_is_sent_and_never_told(no_waiting, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    error = {"error": {"message": f"Incorrect API key provided: {KEY}."}}
    server = Server(completions=(401, error))
    engine = await connect(server)
    with pytest.raises(ConfigError) as caught:
        await engine.generate(HELLO, Sampling())
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert "OPENAI_API_KEY" in caught.value.message
    assert KEY not in caught.value.message + repr(engine.identity()) + caplog.text


async def test_a_login_in_the_address_is_used_and_never_told(caplog):
    caplog.set_level(logging.DEBUG)
    server = Server(completions=(400, {"error": {"message": "no: pass-word!"}}))
    engine = await connect(server, "http://me:pass-word%21@h:1/v1#m")
    with pytest.raises(InputError) as caught:
        await engine.generate(HELLO, Sampling())
    assert server.requests[0].headers["authorization"].startswith("Basic ")
    assert engine.identity().model == "http://h:1/v1#m"
    told = caught.value.message + repr(engine.identity()) + caplog.text
    assert "pass-word" not in told
    with pytest.raises(EngineDeadError) as lost:
        await RemoteEngine.connect("http://me:pass-word@127.0.0.1:1/v1")
    assert "pass-word" not in lost.value.message


async def test_a_key_that_cannot_be_one_is_refused_without_telling_it():
    with pytest.raises(ConfigError) as caught:
        await connect(Server(), api_key="sk-ключ")
    assert "ключ" not in caught.value.message


async def test_after_closing_it_says_so():
    engine = await connect(Server(completions=chat("x")))
    await engine.aclose()
    await engine.aclose()
    for call in (engine.generate(HELLO, Sampling()), engine.check()):
        with pytest.raises(EngineDeadError, match="the engine is closed"):
            await call


async def test_check_tells_the_dead_from_the_living():
    server = Server()
    engine = await connect(server)
    await engine.check()
    server.models = None
    engine._caller._client._transport = httpx2.MockTransport(lambda r: httpx2.Response(503))
    with pytest.raises(EngineDeadError):
        await engine.check()


async def test_every_failure_is_an_error_of_ours(no_waiting):
    for failure in (
        *(httpx2.ConnectError("x"), httpx2.ReadError("x"), httpx2.WriteError("x")),
        *(httpx2.RemoteProtocolError("x"), httpx2.LocalProtocolError("x"), httpx2.ProxyError("x")),
        *(httpx2.ConnectTimeout("x"), httpx2.ReadTimeout("x"), httpx2.WriteTimeout("x")),
        *(httpx2.PoolTimeout("x"), httpx2.DecodingError("x"), httpx2.TooManyRedirects("x")),
        httpx2.UnsupportedProtocol("x"),
    ):
        engine = await connect(Server(completions=failure), max_attempts=2)
        with pytest.raises(CaiError):
            await engine.generate(HELLO, Sampling())
        with pytest.raises(CaiError):
            await collect(engine)
