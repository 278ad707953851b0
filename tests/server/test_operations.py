"""Health, readiness, metrics, and the description of the calls."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx2

from cai.engine.scripted import ScriptedEngine
from cai.errors import EngineDeadError
from cai.settings import Settings
from server.app import Engines, Opening, create_app
from tests.server.helpers import (
    chat_body,
    make_app,
    make_client,
    make_store,
    scripted,
    served,
    until,
)

CHAT = "/v1/chat/completions"


class Dead(ScriptedEngine):
    """An engine that is gone."""

    async def check(self) -> None:
        raise EngineDeadError("the engine is gone")


async def test_health_and_readiness(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_dead_engine_is_healthy_but_not_ready(tmp_path: Path) -> None:
    app = make_app(tmp_path, Dead(lambda _prompt, _sampling: ""))
    async with make_client(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert "retry-after" in ready.headers
        assert "cai_engine_up 0.0" in (await client.get("/metrics")).text


async def test_server_answers_while_the_engine_loads(tmp_path: Path) -> None:
    go = asyncio.Event()
    said: list[str] = []
    engine = scripted()
    closed = 0

    async def opened() -> Engines:
        await go.wait()
        return Engines(engine)

    async def close() -> None:
        nonlocal closed
        closed += 1

    engine.aclose = close  # type: ignore[method-assign]
    opening = Opening(opened, lambda _: said.append("ready"), lambda exc: said.append(str(exc)))
    app = create_app(None, make_store(tmp_path), Settings(), opening=opening)
    async with served(app) as (url, _), httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        loading = await client.post(CHAT, json=chat_body())
        assert loading.status_code == 503
        assert "still loading" in loading.json()["error"]["message"]
        assert (await client.get("/v1/constitutions")).status_code == 200
        go.set()
        await until(lambda: said == ["ready"])
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post(CHAT, json=chat_body())).status_code == 200
    assert closed == 1


async def test_engine_that_cannot_open_is_reported(tmp_path: Path) -> None:
    failures: list[Exception] = []

    async def opened() -> Engines:
        raise EngineDeadError("no memory")

    opening = Opening(opened, lambda _: None, failures.append)
    app = create_app(None, make_store(tmp_path), Settings(), opening=opening)
    async with served(app):
        await until(lambda: failures)
    assert isinstance(failures[0], EngineDeadError)


async def test_metrics_count_requests_tokens_and_steps(client: httpx2.AsyncClient) -> None:
    """Two plain answers of 2 + 3 tokens, and one loop of 8 written tokens and one step."""
    await client.post(CHAT, json=chat_body())
    await client.post(CHAT, json=chat_body(stream=True))
    await client.post(CHAT, json=chat_body(cai={"constitution": "toy"}))
    await client.post(CHAT, json=chat_body(n=0))
    text = (await client.get("/metrics")).text
    route = f'route="{CHAT}"'
    assert f'cai_requests_total{{method="POST",{route},status="200"}} 3.0' in text
    assert f'cai_requests_total{{method="POST",{route},status="400"}} 1.0' in text
    assert f"cai_request_seconds_count{{{route}}} 4.0" in text
    assert f"cai_time_to_first_token_seconds_count{{{route}}} 1.0" in text
    assert 'cai_tokens_total{kind="completion"} 14.0' in text
    assert 'cai_loop_steps_total{status="revised"} 1.0' in text
    assert "cai_requests_running 0.0" in text
    assert "cai_requests_queued 0.0" in text
    assert "cai_engine_up 1.0" in text


async def test_two_apps_have_metrics_of_their_own(tmp_path: Path) -> None:
    async with make_client(make_app(tmp_path / "a")) as client:
        await client.post(CHAT, json=chat_body())
    async with make_client(make_app(tmp_path / "b")) as client:
        text = (await client.get("/metrics")).text
    assert 'cai_tokens_total{kind="prompt"} 0.0' in text


async def test_openapi_describes_every_call_and_every_reference_is_there(
    client: httpx2.AsyncClient,
) -> None:
    schema = (await client.get("/openapi.json")).json()
    text = json.dumps(schema)
    assert set(schema["paths"]) >= {CHAT, "/v1/completions", "/v1/critiques", "/v1/revisions"}
    for piece in text.split('"$ref": "')[1:]:
        name = piece.partition('"')[0].removeprefix("#/components/schemas/")
        assert name in schema["components"]["schemas"]
    chat = schema["components"]["schemas"]["ChatRequest"]
    assert chat["additionalProperties"] is False
    assert "cai" in chat["properties"]


async def test_strangers_are_told_apart_by_route_only(client: httpx2.AsyncClient) -> None:
    """Random paths must not grow the metrics."""
    for number in range(5):
        await client.get(f"/random/{number}")
    text = (await client.get("/metrics")).text
    assert 'cai_requests_total{method="GET",route="unmatched",status="404"} 5.0' in text
