"""Constitutions over HTTP: drafts with ETags, releases, diffs, and who did what."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.auth import add_key
from tests.server.helpers import TOY, make_app, make_client

DRAFT = "/v1/constitutions/toy/draft"
KIND = TOY.format(version="draft").replace("Be kind", "Be kinder")


async def tag(client: httpx2.AsyncClient) -> dict[str, str]:
    return {"if-match": (await client.get(DRAFT)).headers["etag"]}


def code(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_a_draft_is_shown_with_its_text_and_tag(client: httpx2.AsyncClient) -> None:
    shown = await client.get(DRAFT)
    body = shown.json()
    assert body["text"] == TOY.format(version="draft")
    assert body["ref"] == "toy@draft"
    assert shown.headers["x-cai-constitution-digest"] == body["digest"]
    unchanged = await client.get(DRAFT, headers={"if-none-match": shown.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_a_draft_is_replaced_by_who_has_seen_it(client: httpx2.AsyncClient) -> None:
    mine = yours = await tag(client)
    saved = await client.put(DRAFT, json={"text": KIND}, headers=mine)
    assert saved.status_code == 200
    assert saved.json()["title"] == "Be kinder"
    assert "no-case" in [one["rule"] for one in saved.json()["findings"]]
    assert (await client.get(DRAFT)).json()["title"] == "Be kinder"
    late = await client.put(DRAFT, json={"text": KIND.replace("kinder", "rude")}, headers=yours)
    assert code(late) == (412, "precondition_failed")
    assert late.headers["etag"] == saved.headers["etag"]
    again = await client.put(DRAFT, json={"text": KIND}, headers={"if-match": late.headers["etag"]})
    assert again.status_code == 200


async def test_json_keeps_the_files_comments(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "toy" / "draft.yaml"
    path.write_text(path.read_text() + "# the end\n")
    body = (await client.get(DRAFT)).json()
    body["principles"][0]["weight"] = 3
    changed = await client.put(DRAFT, json={"constitution": body}, headers=await tag(client))
    assert changed.status_code == 200
    assert "    weight: 3\n" in path.read_text()
    assert path.read_text().endswith("# the end\n")


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({"text": KIND}, {}, (428, "precondition_required")),
        ({"text": KIND}, {"if-match": '"sha256:0"'}, (412, "precondition_failed")),
        ({"text": KIND}, {"if-none-match": "*"}, (412, "precondition_failed")),
        ({"text": KIND}, {"if-match": "sha256:0"}, (400, "invalid_value")),
        ({"text": KIND, "constitution": {}}, {"if-match": "*"}, (400, "invalid_value")),
        ({}, {"if-match": "*"}, (400, "invalid_value")),
        ({"txt": KIND}, {"if-match": "*"}, (400, "unknown_field")),
        ({"text": "a: [\n"}, {"if-match": "*"}, (400, "invalid_constitution")),
        ({"text": KIND.replace("toy", "other")}, {"if-match": "*"}, (400, "invalid_constitution")),
        ({"constitution": {"title": 3}}, {"if-match": "*"}, (400, "invalid_constitution")),
    ],
)
async def test_what_will_not_do_is_refused_and_changes_nothing(
    client: httpx2.AsyncClient,
    body: dict[str, Any],
    headers: dict[str, str],
    expected: tuple[int, str],
) -> None:
    assert code(await client.put(DRAFT, json=body, headers=headers)) == expected
    assert (await client.get(DRAFT)).json()["title"] == "Be kind"


async def test_a_new_name_begins_with_a_put(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    body = {"constitution": {"title": "t", "principles": [{"id": "a", "compare": "Which?"}]}}
    for path, status in (("fresh", 200), ("..%2fx", 400), ("UP", 400), ("a" * 65, 400)):
        response = await client.put(f"/v1/constitutions/{path}/draft", json=body)
        assert response.status_code in (status, 404), path
    assert (tmp_path / "fresh" / "draft.yaml").exists()
    assert not list(tmp_path.parent.glob("x/draft.yaml"))


async def test_a_draft_is_released_once_and_never_rewritten(client: httpx2.AsyncClient) -> None:
    url = "/v1/constitutions/toy/releases"
    await client.put(DRAFT, json={"text": KIND}, headers=await tag(client))
    stale = await client.post(url, headers={"if-match": '"sha256:0"'})
    assert code(stale) == (412, "precondition_failed")
    keyed = {**(await tag(client)), "idempotency-key": "one"}
    first = await client.post(url, json={}, headers=keyed)
    assert first.status_code == 200
    assert first.json()["ref"] == "toy@2"
    assert first.headers["x-cai-constitution"] == "toy@2"
    assert (await client.post(url, json={}, headers=keyed)).json() == first.json()
    assert code(await client.post(url)) == (409, "conflict")
    assert (await client.get("/v1/constitutions/toy")).json()["ref"] == "toy@2"
    assert code(await client.post("/v1/constitutions/none/releases")) == (404, "not_found")


async def test_versions_differ_by_meaning(client: httpx2.AsyncClient) -> None:
    await client.put(DRAFT, json={"text": KIND}, headers=await tag(client))
    url = "/v1/constitutions/toy/diff"
    body = (await client.get(url, params={"from": "1", "to": "draft"})).json()
    assert body["object"] == "constitution.diff"
    assert body["changes"][0]["words"] == [*(["same", "Be "], ["gone", "kind"], ["new", "kinder"])]
    assert (await client.get(url)).json() == body
    assert code(await client.get(url, params={"to": "7"})) == (404, "not_found")
    wrong = await client.get(url, params={"form": "1"})
    assert "did you mean 'from'" in wrong.json()["error"]["message"]


async def test_a_broken_file_is_told_beside_the_text(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    (tmp_path / "toy" / "draft.yaml").write_text("name: [\n")
    async with make_client(app) as client:
        shown = await client.get(DRAFT)
        assert code(shown) == (400, "invalid_constitution")
        assert str(tmp_path) not in shown.text


async def test_who_did_what_is_kept(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    admin = add_key(keys, "ada", ["admin"])
    infer = add_key(keys, "eve", ["infer"])
    app = make_app(tmp_path, api_key_file=keys)
    async with make_client(app) as client:
        body = {"text": KIND}
        for key, status in ((infer, 403), (admin, 200)):
            headers = {"authorization": f"Bearer {key}", "if-match": "*"}
            assert (await client.put(DRAFT, json=body, headers=headers)).status_code == status
        headers = {"authorization": f"Bearer {admin}"}
        assert (
            await client.post("/v1/constitutions/toy/releases", headers=headers)
        ).status_code == 200
    log = (tmp_path / "home" / "logs" / "constitutions.jsonl").read_text().splitlines()
    assert [(json.loads(line)["actor"], json.loads(line)["ref"]) for line in log] == [
        ("ada", "toy@draft"),
        ("ada", "toy@2"),
    ]
