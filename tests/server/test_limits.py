"""The queue, the deadline, the client that leaves, the body's size, and idempotency."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from cai.engine.scripted import ScriptedEngine
from server.deps import Services
from tests.server.helpers import (
    chat_body,
    events,
    make_app,
    make_client,
    scripted,
    served,
    until,
)

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


def services(app: FastAPI) -> Services:
    found = app.state.services
    assert isinstance(found, Services)
    return found


async def test_full_queue_answers_429_with_retry_after(tmp_path: Path) -> None:
    """One runs, one waits, the third is turned away at once; the first two are answered."""
    app = make_app(tmp_path, scripted(delay_s=0.2), max_running=1, max_queue=1)
    admission = services(app).admission
    async with make_client(app) as client:
        first = asyncio.create_task(client.post(CHAT, json=chat_body()))
        await until(lambda: admission.num_running == 1)
        second = asyncio.create_task(client.post(CHAT, json=chat_body(stream=True)))
        await until(lambda: admission.num_queued == 1)
        for body in (chat_body(), chat_body(stream=True), chat_body(cai={"constitution": "toy"})):
            third = await client.post(CHAT, json=body)
            assert third.status_code == 429
            assert int(third.headers["retry-after"]) >= 1
            assert third.json()["error"]["type"] == "rate_limit_error"
        assert (await first).status_code == (await second).status_code == 200
    assert (admission.num_running, admission.num_queued) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_deadline_is_a_504_that_names_the_limit(tmp_path: Path, stream: bool) -> None:
    engine = scripted(delay_s=30.0)
    app = make_app(tmp_path, engine, request_timeout_s=0.05)
    async with make_client(app) as client:
        response = await client.post(CHAT, json=chat_body(stream=stream))
    assert response.status_code == 504
    assert "request_timeout_s (0.05 s)" in response.json()["error"]["message"]
    assert engine.num_aborted == 1
    assert services(app).admission.num_running == 0


async def test_deadline_inside_a_stream_is_an_error_event(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(delay_s=0.05), request_timeout_s=0.17)
    async with make_client(app) as client:
        response = await client.post(CHAT, json=chat_body(stream=True))
    assert response.status_code == 200
    last = json.loads(events(response.text)[-1][1])
    assert last["error"]["code"] == "timeout"
    assert "[DONE]" not in response.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat_body()),
        (CHAT, chat_body(stream=True)),
        (CHAT, chat_body(cai={"constitution": "toy"})),
        (CHAT, chat_body(stream=True, cai={"constitution": "toy"})),
        (CHAT, chat_body(stream=True, cai={"constitution": "toy", "stream_steps": True})),
        (TEXT, {"prompt": "a"}),
        (TEXT, {"prompt": "a", "stream": True}),
        ("/v1/revisions", {**chat_body(), "constitution": "toy"}),
        ("/v1/critiques", {**chat_body(), "constitution": "toy", "response": "x"}),
        ("/internal/score", chat_body(labels=["A"])),
    ],
)
async def test_client_that_leaves_aborts_its_generation(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    engine = scripted(delay_s=30.0)
    app = make_app(tmp_path, engine)
    content = json.dumps(body).encode()
    async with served(app) as (url, _):
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n".encode()
            + content
        )
        await until(lambda: services(app).admission.num_running == 1 and engine.num_calls > 0)
        assert engine.num_aborted == 0
        writer.close()
        await until(lambda: engine.num_aborted > 0, limit_s=2.0)
        await until(lambda: services(app).admission.num_running == 0)
        await writer.wait_closed()


async def test_client_that_leaves_in_the_middle_of_a_stream_aborts_it(tmp_path: Path) -> None:
    engine = ScriptedEngine.answering("word " * 10_000, delay_s=0.001)
    app = make_app(tmp_path, engine)
    async with served(app) as (url, _), httpx2.AsyncClient(base_url=url) as client:
        async with client.stream("POST", CHAT, json=chat_body(stream=True)) as response:
            async for _ in response.aiter_lines():
                break
        await until(lambda: engine.num_aborted == 1)
        await until(lambda: services(app).admission.num_running == 0)


async def test_request_that_outlasts_the_drain_is_a_503_and_aborted(tmp_path: Path) -> None:
    engine = scripted(delay_s=30.0)
    app = make_app(tmp_path, engine)
    async with served(app, drain_s=1) as (url, server), httpx2.AsyncClient(base_url=url) as client:
        asked = asyncio.create_task(client.post(CHAT, json=chat_body()))
        await until(lambda: engine.num_calls == 1)
        server.should_exit = True
        response = await asyncio.wait_for(asked, 10)
    assert response.status_code == 503
    assert "stopping" in response.json()["error"]["message"]
    assert engine.num_aborted == 1


async def test_silent_stream_says_that_it_lives(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(delay_s=0.1), sse_ping_s=0.02)
    async with make_client(app) as client:
        body = chat_body(stream=True, cai={"constitution": "toy"})
        response = await client.post(CHAT, json=body)
    assert response.text.startswith(": ping\n\n")
    assert response.headers["x-cai-policy"] == "scripted"
    assert events(response.text)[-1][1] == "[DONE]"


async def test_endless_body_is_cut_off(tmp_path: Path) -> None:
    app = make_app(tmp_path, max_body_bytes=1024)
    async with served(app) as (url, _):
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            "content-length: 1000000000\r\n\r\n".encode()
        )
        assert b" 413 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        await asyncio.wait_for(reader.read(), 5)  # closed by the server
        writer.close()
        await writer.wait_closed()


async def _pieces(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 10_000):
        yield b" " * 10_000


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_body_is_refused_however_it_comes(tmp_path: Path, chunked: bool) -> None:
    headers = {"content-type": "application/json"}
    app = make_app(tmp_path)
    async with served(app) as (url, _), httpx2.AsyncClient(base_url=url) as client:
        content = _pieces(1_100_000) if chunked else b" " * 1_100_000
        response = await client.post(CHAT, content=content, headers=headers)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"
        assert (await client.post(CHAT, json=chat_body())).status_code == 200


async def test_body_that_does_not_arrive_is_a_408(tmp_path: Path) -> None:
    app = make_app(tmp_path, body_timeout_s=0.05)
    async with served(app) as (url, _):
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            "content-length: 100\r\n\r\n{".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b" 408 " in head
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_media_types_are_refused(client: httpx2.AsyncClient, kind: str) -> None:
    response = await client.post(CHAT, content=b"{}", headers={"content-type": kind})
    assert response.status_code == 415


async def test_compressed_body_is_refused(client: httpx2.AsyncClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert (await client.post(CHAT, content=b"x", headers=headers)).status_code == 415


async def test_same_key_and_body_give_the_same_answer_and_cost_once(tmp_path: Path) -> None:
    engine = scripted()
    async with make_client(make_app(tmp_path, engine)) as client:
        headers = {"idempotency-key": "k-1"}
        first = await client.post(CHAT, json=chat_body(), headers=headers)
        again = await client.post(CHAT, json=chat_body(), headers=headers)
        other = await client.post(CHAT, json=chat_body("Other"), headers=headers)
        elsewhere = await client.post(TEXT, json={"prompt": "a"}, headers=headers)
    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-cai-policy"] == "scripted"
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert elsewhere.status_code == 200
    assert engine.num_calls == 2


async def test_requests_at_once_with_one_key_are_one_generation(tmp_path: Path) -> None:
    engine = scripted(delay_s=0.05)
    async with make_client(make_app(tmp_path, engine)) as client:
        headers = {"idempotency-key": "k"}
        answers = await asyncio.gather(
            *(client.post(CHAT, json=chat_body(), headers=headers) for _ in range(5))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert engine.num_calls == 1


async def test_shared_generation_lives_while_somebody_waits(tmp_path: Path) -> None:
    engine = scripted(delay_s=0.1)
    async with make_client(make_app(tmp_path, engine)) as client:
        headers = {"idempotency-key": "k"}
        first = asyncio.create_task(client.post(CHAT, json=chat_body(), headers=headers))
        second = asyncio.create_task(client.post(CHAT, json=chat_body(), headers=headers))
        await until(lambda: engine.num_calls == 1)
        first.cancel()
        assert (await second).status_code == 200
    assert (engine.num_calls, engine.num_aborted) == (1, 0)


async def test_failure_is_not_kept(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(max_context=3))
    async with make_client(app) as client:
        headers = {"idempotency-key": "k"}
        body = chat_body("a b c d")
        assert (await client.post(CHAT, json=body, headers=headers)).status_code == 400
        again = await client.post(CHAT, json=body, headers=headers)
    assert "idempotency-replayed" not in again.headers


async def test_stream_is_replayed_whole(tmp_path: Path) -> None:
    engine = scripted()
    async with make_client(make_app(tmp_path, engine)) as client:
        headers = {"idempotency-key": "k"}
        first = await client.post(CHAT, json=chat_body(stream=True), headers=headers)
        again = await client.post(CHAT, json=chat_body(stream=True), headers=headers)
    assert again.text == first.text
    assert again.headers["content-type"].startswith("text/event-stream")
    assert engine.num_calls == 1


async def test_stream_at_work_under_the_same_key_is_a_conflict(tmp_path: Path) -> None:
    engine = scripted(delay_s=0.05)
    async with make_client(make_app(tmp_path, engine)) as client:
        headers = {"idempotency-key": "k"}
        body = chat_body(stream=True)
        first = asyncio.create_task(client.post(CHAT, json=body, headers=headers))
        await until(lambda: engine.num_calls == 1)
        assert (await client.post(CHAT, json=body, headers=headers)).status_code == 409
        assert (await first).status_code == 200


@pytest.mark.parametrize("key", ["", "a" * 256, "\x01"])
async def test_strange_idempotency_key_is_refused(client: httpx2.AsyncClient, key: str) -> None:
    response = await client.post(CHAT, json=chat_body(), headers={"idempotency-key": key})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "Idempotency-Key"


async def test_kept_answers_are_bounded_in_bytes_and_time(tmp_path: Path) -> None:
    app = make_app(tmp_path, idempotency_max_bytes=6_000, idempotency_ttl_s=0.05)
    async with make_client(app) as client:
        for number in range(20):
            headers = {"idempotency-key": f"k{number}"}
            await client.post(CHAT, json=chat_body(), headers=headers)
        store = services(app).idempotency
        assert 0 < store.size_bytes <= 6_000
        await asyncio.sleep(0.06)
        late = await client.post(CHAT, json=chat_body(), headers={"idempotency-key": "k19"})
    assert "idempotency-replayed" not in late.headers
