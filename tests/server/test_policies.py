"""`/v1/policies`, for reading: pages, one policy's past, and names that mean nothing."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from tests.server.helpers import make_app, make_client
from tests.server.registered import app_with_policies


@pytest.fixture
def client(tmp_path: Path) -> httpx2.AsyncClient:
    return make_client(app_with_policies(tmp_path))


async def test_policies_come_newest_first_in_pages(client: httpx2.AsyncClient) -> None:
    whole = (await client.get("/v1/policies")).json()
    assert [(one["id"], one["state"]) for one in whole["data"]] == [
        *(("bad", "rejected"), ("fresh", "candidate"), ("adapter", "verified")),
        *(("second", "live"), ("first", "retired")),
    ]
    assert whole["has_more"] is False
    first = (await client.get("/v1/policies?limit=2")).json()
    assert (first["last_id"], first["has_more"]) == ("fresh", True)
    rest = (await client.get("/v1/policies?after=fresh")).json()
    assert [one["id"] for one in rest["data"]] == ["adapter", "second", "first"]


async def test_they_are_found_by_state(client: httpx2.AsyncClient) -> None:
    live = (await client.get("/v1/policies?state=live")).json()
    assert [one["id"] for one in live["data"]] == ["second"]
    assert (await client.get("/v1/policies?state=great")).status_code == 400


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [("limit=0", 400, "limit"), ("after=none", 404, "after"), ("status=live", 400, "status")],
)
async def test_a_wrong_page_is_refused(
    client: httpx2.AsyncClient, query: str, status: int, param: str
) -> None:
    response = await client.get(f"/v1/policies?{query}")
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


async def test_one_policy_tells_its_events_and_its_lineage(client: httpx2.AsyncClient) -> None:
    told = (await client.get("/v1/policies/live")).json()
    assert (told["id"], told["object"], told["folder"]) == ("second", "policy", "policies/second")
    assert [event["to_state"] for event in told["events"]] == ["candidate", "verified", "live"]
    assert told["events"][-1]["figures"] == {"rate": 0.5}
    assert [one["id"] for one in told["lineage"]["policies"]] == ["second"]
    assert told["lineage"]["base"] == "sandbox"
    by_digest = await client.get(f"/v1/policies/{told['digest'][7:19]}")
    assert by_digest.json() == told


@pytest.mark.parametrize(
    "id", ["thirst", "..", "%2e%2e", "..%2f..%2fcai.db", "first%00", "FIRST", "a" * 300, "\u0455"]
)
async def test_what_is_no_policy_is_a_404(client: httpx2.AsyncClient, id: str) -> None:
    response = await client.get(f"/v1/policies/{id}")
    assert response.status_code == 404
    if id == "thirst":
        assert "did you mean 'first'" in response.json()["error"]["message"]


async def test_without_policies_there_is_an_empty_list_and_nothing_before_the_call(
    tmp_path: Path,
) -> None:
    app = make_app(tmp_path)
    assert not (tmp_path / "home").exists()
    async with make_client(app) as client:
        assert (await client.get("/v1/policies")).json()["data"] == []
        assert (await client.get("/v1/policies/live")).status_code == 404
    assert (tmp_path / "home" / "cai.db").exists()


async def test_a_database_that_fails_is_a_503_without_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "cai.db").write_text("no database " * 100)
    async with make_client(make_app(tmp_path)) as client:
        response = await client.get("/v1/policies")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert response.json()["error"]["code"] == "database_unavailable"
    assert str(tmp_path) not in response.text
    assert "cai.db: file is not a database" in caplog.text


async def test_a_folder_outside_the_home_is_not_told(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from cai.policy.registry import PolicyRegistry
    from tests.policy.registering import opened, sealed

    home, outside = tmp_path / "home", tmp_path_factory.mktemp("outside")
    with opened(home) as database:
        registry = PolicyRegistry(database, home, roots=(outside,))
        registry.add(sealed(outside, "far"), actor="me")
    async with make_client(make_app(tmp_path)) as client:
        response = await client.get("/v1/policies/far")
    assert response.status_code == 200
    assert str(outside) not in response.text
