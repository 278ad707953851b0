"""Models and constitutions: lists in pages, and single entries."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from tests.server.helpers import make_app, make_client, scripted


async def test_models_are_live_and_the_policy(client: httpx2.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert [model["id"] for model in body["data"]] == ["live", "scripted"]
    assert body["has_more"] is False
    one = await client.get("/v1/models/live")
    assert one.json()["cai"]["policy"] == "scripted"
    assert one.headers["x-cai-policy"] == "scripted"


async def test_model_with_slashes_is_found_by_its_whole_name(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(model="org/some-model"))
    async with make_client(app) as client:
        assert (await client.get("/v1/models/org/some-model")).json()["id"] == "org/some-model"
        assert (await client.get("/v1/models/some-model")).status_code == 404


async def test_lists_come_in_pages(client: httpx2.AsyncClient) -> None:
    first = (await client.get("/v1/constitutions", params={"limit": "1"})).json()
    assert [one["id"] for one in first["data"]] == ["toy@1"]
    assert first["has_more"] is True
    after = {"limit": "1", "after": first["last_id"]}
    second = (await client.get("/v1/constitutions", params=after)).json()
    assert [one["id"] for one in second["data"]] == ["toy@draft"]
    assert second["has_more"] is False


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=٣", "after=none", "order=desc"]
)
async def test_wrong_page_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"/v1/constitutions?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == query.partition("=")[0]


async def test_constitution_is_shown_by_version_and_newest(client: httpx2.AsyncClient) -> None:
    newest = await client.get("/v1/constitutions/toy")
    assert newest.json()["ref"] == "toy@1"
    assert newest.headers["x-cai-constitution"] == "toy@1"
    assert newest.headers["x-cai-constitution-digest"] == newest.json()["digest"]
    assert [p["id"] for p in newest.json()["principles"]] == ["kind", "short"]
    assert (await client.get("/v1/constitutions/toy/1")).json() == newest.json()
    assert (await client.get("/v1/constitutions/toy/draft")).json()["version"] == "draft"


@pytest.mark.parametrize(
    "path",
    [
        "toy/2", "toy/0", "toy/01", "toy/1.yaml", "toy/latest", "other", "TOY", "toy%00",
        "t\u043ey", "..", "%2e%2e", "%2e%2e/1", "%252e%252e/1", "..%2f..%2fetc/passwd",
        "toy/..%5c1", "toy/%2e%2e", "a" * 65, "toy@1", "toy/1%0a",
    ],
)  # fmt: skip
async def test_what_is_no_constitution_is_a_clear_4xx(
    client: httpx2.AsyncClient, path: str
) -> None:
    response = await client.get(f"/v1/constitutions/{path}")
    if path == "toy@1":
        assert response.status_code == 200  # a reference is a name too
        return
    assert response.status_code in (400, 404)
    assert response.json()["error"]["message"]
    assert "passwd:" not in response.text


async def test_broken_constitution_is_listed_with_its_error(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    (tmp_path / "toy" / "draft.yaml").write_text("name: toy\nversion: draft\n")
    async with make_client(app) as client:
        listed = (await client.get("/v1/constitutions")).json()["data"][1]
        shown = await client.get("/v1/constitutions/toy/draft")
    assert listed["state"] == "broken"
    assert str(tmp_path) not in str(listed)
    assert shown.status_code == 400
    assert shown.json()["error"]["message"].startswith("toy/draft.yaml:")
