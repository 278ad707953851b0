"""The internal calls: token ids, label scores, identity."""

from __future__ import annotations

import math
from pathlib import Path

import httpx2
from fastapi import FastAPI

from cai.engine.open import pinned
from cai.engine.remote import RemoteEngine, policy_address
from cai.types import ChatPrompt, Message, Sampling, TokenPrompt
from tests.server.helpers import BASE_URL, chat_body, make_app, make_client, scripted
from tests.server.test_completions import Letters


async def test_generate_takes_and_gives_token_ids(tmp_path: Path) -> None:
    async with make_client(make_app(tmp_path, Letters())) as client:
        request = {"prompt_token_ids": [1, 2], "max_tokens": 1, "logprobs": 1, "n": 2}
        body = (await client.post("/internal/generate", json=request)).json()
    assert [one["token_ids"] for one in body["completions"]] == [[25], [25]]
    assert body["completions"][0]["logprobs"][0]["id"] == 25
    assert body["policy"] == "letters"


async def test_score_gives_logprobs_and_mass(client: httpx2.AsyncClient) -> None:
    request = chat_body(labels=["A", "B"])
    body = (await client.post("/internal/score", json=request)).json()
    assert body["logprobs"] == {"A": -1.0, "B": -1.0}
    assert math.isclose(body["mass"], 2 * math.exp(-1))


async def test_score_is_asked_of_the_judge(tmp_path: Path) -> None:
    app = make_app(tmp_path, judge=scripted(model="judge"))
    async with make_client(app) as client:
        response = await client.post("/internal/score", json=chat_body(labels=["A"]))
        plain = await client.post("/v1/chat/completions", json=chat_body())
    assert response.headers["x-cai-policy"] == "judge"
    assert plain.headers["x-cai-policy"] == "scripted"


async def test_wrong_scores_are_refused(client: httpx2.AsyncClient) -> None:
    for change in ({"labels": []}, {"labels": ["A", "A"]}, {"prompt_token_ids": [1]}, {"n": 1}):
        request = {**chat_body(labels=["A"]), **change}
        assert (await client.post("/internal/score", json=request)).status_code == 400


async def test_internal_is_closed_to_other_machines_and_behind_a_proxy(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    other = httpx2.ASGITransport(app=app, client=("10.0.0.7", 4711))
    async with httpx2.AsyncClient(transport=other, base_url=BASE_URL) as client:
        assert (await client.get("/internal/identity")).status_code == 403
        assert (await client.get("/v1/models")).status_code == 200
    async with make_client(app, headers={"x-forwarded-for": "10.0.0.7"}) as client:
        assert (await client.get("/internal/identity")).status_code == 403
    async with make_client(app) as client:
        assert (await client.get("/internal/identity")).json()["engine"] == "scripted"


async def test_the_remote_engine_understands_the_service(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    remote = await RemoteEngine.connect(
        f"{BASE_URL}/v1#live", transport=httpx2.ASGITransport(app=app)
    )
    prompt = ChatPrompt((Message("user", "Hello"),))
    try:
        generation = await remote.generate(prompt, Sampling(seed=3, logprobs=1))
        scores = await remote.score(prompt, ["A", "B"])
        chunks = [chunk async for chunk in remote.stream(prompt, Sampling())]
        await remote.check()
    finally:
        await remote.aclose()
    assert generation.text == "You bad person."
    assert generation.policy == "scripted"
    assert generation.seed_honoured is True
    assert scores.logprobs == {"A": -1.0, "B": -1.0}
    assert "".join(chunk.text for chunk in chunks) == "You bad person."


async def test_the_remote_engine_sends_token_ids(tmp_path: Path) -> None:
    transport = httpx2.ASGITransport(app=make_app(tmp_path, Letters()))
    remote = await RemoteEngine.connect(f"{BASE_URL}/v1", transport=transport)
    try:
        generation = await remote.generate(TokenPrompt((1, 2)), Sampling(max_tokens=1))
        logprobs = await remote.prompt_logprobs(TokenPrompt((2, 1, 3)), top=1)
    finally:
        await remote.aclose()
    assert generation.completions[0].token_ids == (25,)
    assert [token.logprob for token in logprobs] == [-1.0, -3.0]


def app_with_a_split(root: Path) -> FastAPI:
    """All of `live` goes to the adapter `new`, whose digest is known."""
    app = make_app(root, Letters())
    live = app.state.services.live
    live.split, live.adapters = {"new": 100.0}, lambda: ["new"]
    live._view = lambda name: scripted(model=name, digest="sha256:2")
    return app


async def test_internal_calls_are_answered_by_what_is_live_whatever_the_split(
    tmp_path: Path,
) -> None:
    async with make_client(app_with_a_split(tmp_path)) as client:
        request = {"prompt_token_ids": [1, 2], "max_tokens": 1}
        made = (await client.post("/internal/generate", json=request)).json()
        plain = await client.post("/v1/chat/completions", json=chat_body())
        told = [
            (await client.get(f"/internal/identity{query}")).json()["model"]
            for query in ("", "?model=live", "?model=new")
        ]
        wrong = [
            (await client.get(f"/internal/identity?{query}")).status_code
            for query in ("model=none", "modle=new")
        ]
    assert (made["policy"], plain.headers["x-cai-policy"]) == ("letters", "new")
    assert told == ["scripted", "scripted", "new"]
    assert wrong == [404, 400]


async def test_a_measurement_asks_the_policy_that_live_stands_for(tmp_path: Path) -> None:
    transport = httpx2.ASGITransport(app=app_with_a_split(tmp_path))
    for named, policy in (("#live", "scripted"), ("", "scripted"), ("#new", "new")):
        found = await policy_address(f"{BASE_URL}/v1{named}", transport=transport)
        assert found == f"{BASE_URL}/v1#{policy}"
    assert await pinned("scripted:live.yaml") == "scripted:live.yaml"


async def test_the_remote_engine_is_told_of_the_policy_that_it_asks(tmp_path: Path) -> None:
    transport = httpx2.ASGITransport(app=app_with_a_split(tmp_path))
    for named, digest in (("live", None), ("new", "sha256:2")):
        remote = await RemoteEngine.connect(f"{BASE_URL}/v1#{named}", transport=transport)
        await remote.aclose()
        assert remote.identity().digest == digest
