"""`/v1/traffic`: set, read back with what people said of each arm, and refused by name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from server.auth import add_key
from tests.server.helpers import make_client
from tests.server.registered import app_with_policies

ASK = [{"role": "user", "content": "Hello"}]


def app_with_adapter(root: Path, **settings: Any) -> FastAPI:
    """`adapter` answers, as far as the app knows."""
    app = app_with_policies(root, **settings)
    app.state.services.live.adapters = lambda: ["adapter"]
    return app


@pytest.fixture
def client(tmp_path: Path) -> httpx2.AsyncClient:
    return make_client(app_with_adapter(tmp_path))


async def test_before_any_split_all_goes_to_live(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/traffic")).json() == {
        "object": "traffic",
        "split": {},
        "set_at": None,
        "set_by": None,
        "arms": [{"arm": "live", "percent": 100.0, "feedback": None}],
    }


async def test_a_split_is_kept_with_what_was_said_of_its_arms(client: httpx2.AsyncClient) -> None:
    put = await client.put("/v1/traffic", json={"split": {"adapter": 12.5}})
    assert put.status_code == 200, put.text
    said = {"messages": ASK, "response": "Hi", "thumbs": "up", "policy": "adapter"}
    given = await client.post("/v1/feedback", json={**said, "arm": "adapter"})
    assert given.status_code == 200, given.text
    told = (await client.get("/v1/traffic")).json()
    assert (told["split"], told["set_by"]) == ({"adapter": 12.5}, "local")
    arm, rest = told["arms"]
    assert (arm["arm"], arm["percent"], arm["feedback"]["num_up"]) == ("adapter", 12.5, 1)
    assert rest == {"arm": "live", "percent": 87.5, "feedback": None}
    assert (await client.put("/v1/traffic", json={"split": {}})).json()["split"] == {}


async def test_what_was_said_before_a_split_does_not_count_for_it(
    client: httpx2.AsyncClient,
) -> None:
    said = {"messages": ASK, "response": "Hi", "thumbs": "up", "policy": "adapter"}
    for percent in (10, 20):
        await asyncio.sleep(0.002)  # times are kept to the millisecond
        put = await client.put("/v1/traffic", json={"split": {"adapter": percent}})
        assert put.json()["arms"][0]["feedback"] is None
        await client.post("/v1/feedback", json={**said, "arm": "adapter"})
        arm = (await client.get("/v1/traffic")).json()["arms"][0]
        assert (arm["percent"], arm["feedback"]["num_up"]) == (percent, 1)


@pytest.mark.parametrize(
    ("split", "status", "param"),
    [
        ({"adapter": 60, "second": 41}, 400, "split"),
        ({"adapter": 0}, 400, "split.adapter"),
        ({"adapter": 100.5}, 400, "split.adapter"),
        ({"adapter": "10"}, 400, "split.adapter"),
        ({"adapter": True}, 400, "split.adapter"),
        ({"live": 10}, 400, "split.live"),
        ({"Adapter": 10}, 400, None),
        ({"unknown": 10}, 404, None),
        ({"bad": 10}, 409, None),
        ({"fresh": 10}, 409, None),
        ({"first": 10}, 409, None),
        ([], 400, "split"),
        (None, 400, "split"),
    ],
)
async def test_a_split_that_cannot_be_served_is_refused_and_changes_nothing(
    client: httpx2.AsyncClient, split: Any, status: int, param: str | None
) -> None:
    response = await client.put("/v1/traffic", json={"split": split})
    assert response.status_code == status, response.text
    if param is not None:
        assert response.json()["error"]["param"] == param
    assert (await client.get("/v1/traffic")).json()["split"] == {}


async def test_an_adapter_that_is_verified_but_not_loaded_gets_no_share(tmp_path: Path) -> None:
    """Its share would be answered by the live policy, and counted as its own."""
    async with make_client(app_with_policies(tmp_path)) as client:
        response = await client.put("/v1/traffic", json={"split": {"adapter": 10}})
        assert (response.status_code, "/verify" in response.text) == (409, True)
        assert (await client.get("/v1/traffic")).json()["split"] == {}
        assert (await client.put("/v1/traffic", json={"split": {}})).status_code == 200


async def test_one_arm_can_be_taken_out_while_another_does_not_answer(tmp_path: Path) -> None:
    app = app_with_adapter(tmp_path)
    async with make_client(app) as client:
        both = {"split": {"adapter": 10, "second": 10}}
        app.state.services.live.adapters = lambda: ["adapter", "second"]
        assert (await client.put("/v1/traffic", json=both)).status_code == 200
        app.state.services.live.adapters = list
        less = await client.put("/v1/traffic", json={"split": {"adapter": 10}})
        assert less.status_code == 200, less.text
        more = await client.put("/v1/traffic", json={"split": {"adapter": 11}})
        assert more.status_code == 409


async def test_only_an_admin_sets_it_and_is_named(tmp_path: Path) -> None:
    key_file = tmp_path / "keys.yaml"
    keys = {scope: add_key(key_file, f"{scope}-key", [scope]) for scope in ("infer", "admin")}
    app = app_with_adapter(tmp_path / "c", api_key_file=key_file)
    answers = []
    for key in keys.values():
        async with make_client(app, headers={"authorization": f"Bearer {key}"}) as client:
            answers.append(await client.put("/v1/traffic", json={"split": {"adapter": 1}}))
            assert (await client.get("/v1/traffic")).status_code == 200
    assert [one.status_code for one in answers] == [403, 200]
    assert answers[1].json()["set_by"] == "admin-key"
