"""The server on real vLLM: the killer table, the official client, seeds, disconnects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from cai.constitution.store import ConstitutionStore
from cai.engine.embedded import EmbeddedEngine
from cai.settings import Settings
from server.app import create_app
from tests.server.helpers import BASE_URL, chat_body, events, served
from tests.server.killers import HARMLESS, KILLERS, Case

pytestmark = pytest.mark.vllm

CONSTITUTIONS = Path(__file__).parent.parent.parent / "constitutions"


@pytest.fixture
async def client(sandbox_engine: EmbeddedEngine) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(sandbox_engine, ConstitutionStore(CONSTITUTIONS), Settings())
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url=BASE_URL, timeout=120) as client:
        yield client


async def send(client: httpx2.AsyncClient, case: Case) -> httpx2.Response:
    content = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    return await client.post(
        case.path, content=content, headers={"content-type": "application/json"}
    )


@pytest.mark.parametrize("case", [*KILLERS, *HARMLESS], ids=lambda case: case.name)
async def test_the_engine_outlives_every_killer(
    client: httpx2.AsyncClient, sandbox_engine: EmbeddedEngine, case: Case
) -> None:
    before = sandbox_engine.pids()
    response = await send(client, case)
    assert response.status_code in case.statuses, response.text
    following = await client.post("/v1/chat/completions", json=chat_body(max_tokens=4))
    assert following.status_code == 200
    assert sandbox_engine.pids() == before != []


async def test_a_prompt_over_the_context_is_a_400_that_says_so(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/chat/completions", json=chat_body("word " * 9000))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


async def test_a_seed_is_accepted_and_said_not_to_be_honoured_on_cpu(
    client: httpx2.AsyncClient, sandbox_engine: EmbeddedEngine
) -> None:
    long = chat_body("word " * 1400, seed=7, max_tokens=4)
    response = await client.post("/v1/chat/completions", json=long)
    assert response.status_code == 200
    if sandbox_engine.identity().device == "cpu":
        assert response.json()["cai"]["seed_honoured"] is False


async def test_critique_and_revision_come_with_their_constitution(
    client: httpx2.AsyncClient,
) -> None:
    cai = {"constitution": "harmless@2", "revisions": 2, "return_steps": True}
    response = await client.post("/v1/chat/completions", json=chat_body(cai=cai, max_tokens=64))
    assert response.status_code == 200
    body = response.json()
    assert body["cai"]["constitution"] == response.headers["x-cai-constitution"].split()[0]
    assert body["cai"]["digest"].startswith("sha256:")
    assert len(body["cai"]["steps"]) >= 1
    assert body["usage"]["completion_tokens"] > 0


async def test_a_stream_with_steps_names_them_and_ends(client: httpx2.AsyncClient) -> None:
    cai = {"constitution": "harmless@2", "revisions": 1, "stream_steps": True}
    body = chat_body(cai=cai, stream=True, max_tokens=64)
    response = await client.post("/v1/chat/completions", json=body)
    found = events(response.text)
    assert [name for name, _ in found].count("cai.step") >= 2
    assert found[-1] == (None, "[DONE]")


async def test_the_official_client_works_unchanged(sandbox_engine: EmbeddedEngine) -> None:
    openai = pytest.importorskip("openai")
    app = create_app(sandbox_engine, ConstitutionStore(CONSTITUTIONS), Settings())
    async with served(app) as (url, _):
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
        messages = [{"role": "user", "content": "Hello"}]
        answer = await client.chat.completions.create(
            model="live", messages=messages, max_tokens=8, logprobs=True, top_logprobs=3, n=2
        )
        assert len(answer.choices) == 2
        assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 3
        stream = await client.chat.completions.create(
            model="live",
            messages=messages,
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage.completion_tokens > 0
        models = await client.models.list()
        names = [model.id async for model in models]
        assert names[0] == "live"
        await client.close()


async def test_a_client_that_leaves_aborts_its_generation(sandbox_engine: EmbeddedEngine) -> None:
    app = create_app(sandbox_engine, ConstitutionStore(CONSTITUTIONS), Settings())
    async with served(app) as (url, _), httpx2.AsyncClient(base_url=url) as client:
        body = {"prompt": "a", "max_tokens": 4000, "stream": True, "n": 8}
        async with client.stream("POST", "/v1/completions", json=body) as response:
            await anext(response.aiter_lines())
        for _ in range(200):
            if sandbox_engine.num_unfinished() == 0:
                break
            await asyncio.sleep(0.05)
        assert sandbox_engine.num_unfinished() == 0
