"""`/v1/traffic`: set, read back with what people said of each arm, and refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.auth import add_key
from tests.server.helpers import make_client
from tests.server.registered import app_with_policies

ASK = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(tmp_path: Path) -> httpx2.AsyncClient:
    return make_client(app_with_policies(tmp_path))


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


async def test_only_an_admin_sets_it_and_is_named(tmp_path: Path) -> None:
    key_file = tmp_path / "keys.yaml"
    keys = {scope: add_key(key_file, f"{scope}-key", [scope]) for scope in ("infer", "admin")}
    app = app_with_policies(tmp_path / "c", api_key_file=key_file)
    answers = []
    for key in keys.values():
        async with make_client(app, headers={"authorization": f"Bearer {key}"}) as client:
            answers.append(await client.put("/v1/traffic", json={"split": {"adapter": 1}}))
            assert (await client.get("/v1/traffic")).status_code == 200
    assert [one.status_code for one in answers] == [403, 200]
    assert answers[1].json()["set_by"] == "admin-key"
