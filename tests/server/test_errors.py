"""Statuses, the envelope, and that no text of a user gets where it should not."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx2
import pytest

from cai import errors
from cai.engine.scripted import ScriptedEngine
from cai.types import Prompt, Sampling
from server.errors import classify
from server.logs import PlainFormatter, RedactingFilter
from tests.server.helpers import chat_body, events, make_app, make_client

CHAT = "/v1/chat/completions"
SENTINEL = "xyzzy-sentinel-4711"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InputError("x"), 400),
        (errors.ConfigError("x"), 400),
        (errors.PromptError("x"), 400),
        (errors.ContextLengthError("x"), 400),
        (errors.UnsupportedError("x"), 400),
        (errors.DataError("x"), 400),
        (errors.ConstitutionError("x"), 400),
        (errors.TamperedReleaseError("x"), 409),
        (errors.NotFoundError("x"), 404),
        (errors.ConflictError("x"), 409),
        (errors.JudgeError("x"), 502),
        (errors.EngineError("x"), 500),
        (errors.EngineDeadError("x"), 503),
        (errors.OverloadedError("x", retry_after_s=7.4), 429),
        (errors.EngineTimeoutError("x"), 504),
        (errors.MissingDependencyError("a", "b", "c"), 500),
        (ValueError("x"), 500),
    ],
)
async def test_every_error_has_its_status(tmp_path: Path, error: Exception, status: int) -> None:
    def answer(prompt: Prompt, sampling: Sampling) -> str:
        raise error

    async with make_client(make_app(tmp_path, ScriptedEngine(answer))) as client:
        for stream in (False, True):
            response = await client.post(CHAT, json=chat_body(stream=stream))
            assert response.status_code == status
            assert response.json()["error"]["type"]
            assert response.headers["x-request-id"]
            if isinstance(error, errors.OverloadedError):
                assert response.headers["retry-after"] == "7"
            if isinstance(error, errors.EngineDeadError):
                assert int(response.headers["retry-after"]) > 0


def test_every_class_of_the_tree_is_classified() -> None:
    def below(kind: type[errors.CaiError]) -> set[type[errors.CaiError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    for kind in below(errors.CaiError):
        made = kind.__new__(kind)
        errors.CaiError.__init__(made, "x")
        made.__dict__.update(path=None, retry_after_s=1.0)
        assert 400 <= classify(made).status <= 504, kind


async def test_unknown_route_and_method_have_the_envelope(client: httpx2.AsyncClient) -> None:
    missing = await client.get("/v2/none")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "no_such_route"
    wrong = await client.get(CHAT)
    assert wrong.status_code == 405
    assert "POST" in wrong.json()["error"]["message"]
    assert wrong.headers["allow"] == "POST"
    assert (await client.get("/v1/models/")).status_code in (200, 404)


async def test_unexpected_error_leaks_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(prompt: Prompt, sampling: Sampling) -> str:
        raise RuntimeError(f"failed on {prompt}")

    async with make_client(make_app(tmp_path, ScriptedEngine(answer))) as client:
        for stream in (False, True):
            response = await client.post(CHAT, json=chat_body(SENTINEL, stream=stream))
            assert response.status_code == 500
            assert SENTINEL not in response.text
            assert response.json()["error"]["code"] == "internal"
    assert "unexpected RuntimeError" in caplog.text
    assert SENTINEL not in caplog.text


async def test_error_in_the_middle_of_a_stream_is_an_event(tmp_path: Path) -> None:
    calls = 0

    def answer(prompt: Prompt, sampling: Sampling) -> str:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise errors.EngineDeadError("the engine is gone")
        return "one"

    async with make_client(make_app(tmp_path, ScriptedEngine(answer))) as client:
        response = await client.post(CHAT, json=chat_body(stream=True, n=2))
    assert response.status_code == 200
    assert '"code":"engine_unavailable"' in events(response.text)[-1][1]


async def test_text_of_users_is_in_no_log_and_no_metric(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with make_client(make_app(tmp_path, ScriptedEngine.answering(SENTINEL))) as client:
        bodies = [
            chat_body(SENTINEL),
            chat_body(SENTINEL, stream=True),
            chat_body(SENTINEL, cai={"constitution": "toy"}),
            chat_body(SENTINEL, **{SENTINEL: 1}),
            chat_body(SENTINEL, model=SENTINEL),
            chat_body(user=SENTINEL),
        ]
        for body in bodies:
            await client.post(CHAT, json=body)
        await client.get(f"/{SENTINEL}")
        await client.request(SENTINEL, "/v1/models")
        await client.get("/v1/models", headers={"x-request-id": f"bad {SENTINEL}"})
        metrics = (await client.get("/metrics")).text
    ours = [r for r in caplog.records if not r.name.startswith(("httpx2", "httpcore2"))]
    assert ours
    assert not any(SENTINEL in record.getMessage() for record in ours)
    assert SENTINEL not in metrics


def test_keys_are_redacted_wherever_they_are_logged() -> None:
    record = logging.LogRecord(
        "x", logging.INFO, "f", 1, "sent %s and %s", ("Bearer abc", "cai-" + "A" * 43), None
    )
    assert RedactingFilter().filter(record)
    assert record.getMessage() == "sent [redacted] and [redacted]"


def test_exceptions_are_logged_without_their_text() -> None:
    try:
        raise ValueError(SENTINEL)
    except ValueError as exc:
        text = PlainFormatter().formatException((type(exc), exc, exc.__traceback__))
    assert text.endswith("ValueError")
    assert "test_errors.py" in text


@pytest.mark.parametrize("given", ["ok-1.2_3", "a" * 64])
async def test_harmless_request_id_is_kept(client: httpx2.AsyncClient, given: str) -> None:
    response = await client.get("/healthz", headers={"x-request-id": given})
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["a" * 65, "a b", "a\tb", "é", ""])
async def test_other_request_ids_are_replaced(client: httpx2.AsyncClient, given: str) -> None:
    headers = {b"x-request-id": given.encode()}
    response = await client.get("/healthz", headers=headers)
    assert len(response.headers["x-request-id"]) == 24
