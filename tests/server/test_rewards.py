"""`POST /v1/rewards`: the forms it takes, what it answers and refuses, its place behind keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from cai.errors import InputError
from cai.settings import Settings
from cai.train.items import Answered, Item, RenderedText, Scored
from cai.types import Message
from server.app import create_app
from server.auth import add_key
from tests.server.helpers import make_client, make_store, scripted, until

REWARDS = "/v1/rewards"
ASK = {"role": "user", "content": "Hello"}


class LengthReward:
    """Scores an answer by its length, as the real one would by its merit."""

    name = "length-rm"

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.waiting = asyncio.Event()
        self.num_cancelled = 0

    async def score_async(self, items: Sequence[Item]) -> Scored:
        self.items += items
        texts = [one.answer if isinstance(one, Answered) else one.text for one in items]  # type: ignore[union-attr]
        if "wait" in texts:
            try:
                await self.waiting.wait()
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
        if "bad" in texts:
            raise InputError("query[0] does not fit", param="query[0]")
        return Scored([float(len(text)) for text in texts], sum(map(len, texts)))

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def reward() -> LengthReward:
    return LengthReward()


def make_app(root: Path, reward: LengthReward | None, /, **settings: Any) -> FastAPI:
    return create_app(scripted(), make_store(root), Settings(**settings), reward=reward)


@pytest.fixture
def scoring(tmp_path: Path, reward: LengthReward) -> httpx2.AsyncClient:
    return make_client(make_app(tmp_path, reward))


async def test_queries_are_scored_in_order(scoring: httpx2.AsyncClient) -> None:
    response = await scoring.post(REWARDS, json={"query": ["four", "to"]})
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["rewards"] == [4.0, 2.0]
    assert found["usage"]["prompt_tokens"] == 6
    assert response.headers["x-cai-policy"] == found["model"] == "length-rm"


async def test_prompts_and_empty_labels_are_taken_as_openrlhf_sends_them(
    scoring: httpx2.AsyncClient, reward: LengthReward
) -> None:
    body = {"query": ["ab", "cde"], "prompts": ["a", "c"], "labels": ["", None]}
    response = await scoring.post(REWARDS, json=body)
    assert response.json()["rewards"] == [2.0, 3.0]
    assert reward.items == [RenderedText("ab", "a"), RenderedText("cde", "c")]


async def test_messages_are_conversations_that_end_with_the_answer(
    scoring: httpx2.AsyncClient, reward: LengthReward
) -> None:
    said = [ASK, {"role": "assistant", "content": "Hi."}]
    response = await scoring.post(REWARDS, json={"messages": [said]})
    assert response.json()["rewards"] == [3.0]
    assert reward.items == [Answered((Message("user", "Hello"),), "Hi.")]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": []}, "query"),
        ({"query": "text"}, "query"),
        ({"query": [""]}, "query[0]"),
        ({"query": ["a\0"]}, "query[0]"),
        ({"query": [1]}, "query[0]"),
        ({"query": ["a"] * 1025}, "query"),
        ({"query": ["a"], "messages": [[ASK, ASK]]}, "query"),
        ({"query": ["a"], "prompts": []}, "prompts"),
        ({"query": ["a"], "prompts": ["a", "b"]}, "prompts"),
        ({"query": ["a"], "labels": ["42"]}, "labels"),
        ({"messages": [[ASK]]}, "messages[0]"),
        ({"messages": [[ASK, ASK]]}, "messages[0]"),
        ({"messages": [[]]}, "messages[0]"),
        ({"messages": [], "prompts": ["a"]}, "messages"),
        ({"query": ["a"], "model": "x"}, "model"),
        ({"query": ["bad"]}, "query[0]"),
    ],
)
async def test_what_cannot_be_scored_is_a_400_that_names_its_place(
    scoring: httpx2.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await scoring.post(REWARDS, json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


async def test_a_server_without_a_reward_model_says_how_to_get_one(tmp_path: Path) -> None:
    async with make_client(make_app(tmp_path, None)) as client:
        response = await client.post(REWARDS, json={"query": ["a"]})
    assert response.status_code == 404
    assert "cai serve --reward" in response.json()["error"]["message"]


async def test_a_reward_model_that_still_loads_is_a_503(tmp_path: Path) -> None:
    async with make_client(make_app(tmp_path, None, reward="some-folder")) as client:
        response = await client.post(REWARDS, json={"query": ["a"]})
    assert response.status_code == 503
    assert "retry-after" in response.headers


async def test_scoring_needs_a_key_that_may_infer(tmp_path: Path, reward: LengthReward) -> None:
    key_file = tmp_path / "keys.yaml"
    keys = {scope: add_key(key_file, scope, [scope]) for scope in ("infer", "train")}
    app = make_app(tmp_path / "c", reward, api_key_file=key_file)
    statuses = []
    for key in (None, keys["train"], keys["infer"]):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with make_client(app, headers=headers) as client:
            statuses.append((await client.post(REWARDS, json={"query": ["a"]})).status_code)
    assert statuses == [401, 403, 200]


async def test_it_waits_in_the_same_queue_as_other_calls(
    tmp_path: Path, reward: LengthReward
) -> None:
    app = make_app(tmp_path, reward, max_running=1, max_queue=0)
    async with make_client(app) as client:
        first = asyncio.create_task(client.post(REWARDS, json={"query": ["wait"]}))
        await until(lambda: reward.items)
        second = await client.post(REWARDS, json={"query": ["a"]})
        reward.waiting.set()
        assert (await first).status_code == 200
    assert second.status_code == 429


async def test_a_deadline_stops_the_scoring(tmp_path: Path, reward: LengthReward) -> None:
    app = make_app(tmp_path, reward, request_timeout_s=0.05)
    async with make_client(app) as client:
        response = await client.post(REWARDS, json={"query": ["wait"]})
    assert response.status_code == 504
    assert reward.num_cancelled == 1


async def test_a_repeated_key_is_answered_without_scoring_again(
    scoring: httpx2.AsyncClient, reward: LengthReward
) -> None:
    headers = {"idempotency-key": "once"}
    found = [await scoring.post(REWARDS, json={"query": ["abc"]}, headers=headers) for _ in "12"]
    assert found[0].json() == found[1].json()
    assert len(reward.items) == 1
