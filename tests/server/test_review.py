"""`/v1/review`: import by file id, the blind item, the decision, figures, export, who may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.auth import add_key
from tests.dataset.rows import row
from tests.server.helpers import make_app, make_client

NEXT, IMPORT, EXPORT = "/v1/review/next", "/v1/review/import", "/v1/review/export"


def run_of(root: Path, *rows: dict[str, Any]) -> None:
    folder = root / "home" / "runs" / "toy"
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


@pytest.fixture
async def client(tmp_path: Path):
    """A server with three judged pairs in its queue."""
    run_of(tmp_path, *(row(number, p_chosen=0.6 + number / 10) for number in range(3)))
    async with make_client(make_app(tmp_path)) as client:
        response = await client.post(IMPORT, json={"file": "toy.rows.jsonl", "target": 2})
        assert response.status_code == 200, response.text
        assert response.json()["new"] == 3
        yield client


async def take(client: httpx2.AsyncClient, rater: str | None = None) -> dict[str, Any]:
    response = await client.get(NEXT, params={} if rater is None else {"rater": rater})
    assert response.status_code == 200, response.text
    return response.json()["item"]


async def test_from_import_to_figures_and_export(client: httpx2.AsyncClient) -> None:
    """Two raters who always want `better`: the judge and they agree on all three."""
    for rater in ("ann", "bob"):
        while item := await take(client, rater):
            assert set(item) == {"object", "id", "kind", "prompt", "answers", "lease_ends_at"}
            better = [a["side"] for a in item["answers"] if "better" in a["turns"][0]["content"]]
            body = {"choice": better[0], "comment": "clear", "rater": rater}
            response = await client.post(f"/v1/review/{item['id']}/decision", json=body)
            assert response.status_code == 200, response.text
            told = response.json()
            assert (told["choice"], told["rater"]) == (better[0], f"local/{rater}")
    stats = (await client.get("/v1/review/stats")).json()
    assert (stats["queue"]["items"], stats["queue"]["open"], stats["decisions"]) == (3, 0, 6)
    assert stats["all"]["with_judge"]["agreed"]["rate"] == 1.0
    assert stats["all"]["between_raters"]["agreed"]["rate"] == 1.0
    first = (await client.get(EXPORT, params={"limit": 2})).json()
    second = (await client.get(EXPORT, params={"limit": 2, "after": first["last_id"]})).json()
    assert (first["has_more"], second["has_more"]) == (True, False)
    lines = first["data"] + second["data"]
    assert {answer["policy"] for line in lines for answer in line["answers"]} == {"base"}
    assert {d["comment"] for line in lines for d in line["decisions"]} == {"clear"}
    document = (await client.get(EXPORT, params={"format": "annotated-pairs"})).json()
    assert len(document["comparisons"]) == 3


async def test_a_repeated_key_decides_once_and_again_is_a_conflict(
    client: httpx2.AsyncClient,
) -> None:
    item = await take(client)
    path, headers = f"/v1/review/{item['id']}/decision", {"idempotency-key": "k"}
    body = {"choice": "tie"}
    found = [await client.post(path, json=body, headers=headers) for _ in "12"]
    assert [one.status_code for one in found] == [200, 200]
    assert found[0].json() == found[1].json()
    assert (await client.post(path, json=body)).status_code == 409


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"choice": "c"}, "choice"),
        ({}, "choice"),
        ({"rating": 6}, "rating"),
        ({"rating": 3}, "choice"),
        ({"choice": "a", "comment": "x" * 2001}, "comment"),
        ({"choice": "a", "comment": "x\0"}, "comment"),
        ({"choice": "a", "rater": "../x"}, "rater"),
        ({"choice": "a", "stars": 1}, "stars"),
    ],
)
async def test_a_wrong_decision_is_refused_by_field(
    client: httpx2.AsyncClient, body: dict[str, Any], param: str
) -> None:
    item = await take(client)
    response = await client.post(f"/v1/review/{item['id']}/decision", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


async def test_other_wrong_requests_say_what_is_wrong(client: httpx2.AsyncClient) -> None:
    cases = [
        (await client.get(NEXT, params={"rater": "A b"}), 400, "rater"),
        (await client.get(NEXT, params={"ratre": "x"}), 400, "ratre"),
        (await client.post("/v1/review/rv-none/decision", json={"choice": "a"}), 404, "id"),
        (await client.post(IMPORT, json={"file": "none.rows.jsonl"}), 404, "file"),
        (await client.post(IMPORT, json={"file": "../etc"}), 400, "file"),
        (await client.post(IMPORT, json={"file": "toy.rows.jsonl", "target": 0}), 400, "target"),
        (await client.get(EXPORT, params={"format": "xml"}), 400, "format"),
        (await client.get(EXPORT, params={"after": "rv-none"}), 404, "after"),
    ]
    for response, status, param in cases:
        assert (response.status_code, response.json()["error"]["param"]) == (status, param)


async def test_an_unusable_file_is_told_by_its_id_without_the_servers_paths(
    tmp_path: Path,
) -> None:
    run_of(tmp_path, {"prompt": "only"})
    async with make_client(make_app(tmp_path)) as client:
        response = await client.post(IMPORT, json={"file": "toy.rows.jsonl"})
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert message.startswith("toy.rows.jsonl: nothing to review in its first record")
    assert str(tmp_path) not in message


async def test_every_call_needs_the_scope_review_and_the_rater_is_the_keys(tmp_path: Path) -> None:
    run_of(tmp_path, row(1))
    key_file = tmp_path / "keys.yaml"
    keys = {scope: add_key(key_file, f"{scope}-key", [scope]) for scope in ("train", "review")}
    app = make_app(tmp_path, api_key_file=key_file)
    for name, status in (("train", 403), ("review", 200)):
        headers = {"authorization": f"Bearer {keys[name]}"}
        async with make_client(app, headers=headers) as client:
            found = [
                await client.post(IMPORT, json={"file": "toy.rows.jsonl"}),
                await client.get(NEXT),
                await client.get("/v1/review/stats"),
                await client.get(EXPORT),
            ]
        assert [one.status_code for one in found] == [status] * 4
    assert found[1].json()["rater"] == "review-key"
