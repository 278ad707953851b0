"""`/v1/critiques` and `/v1/revisions`."""

from __future__ import annotations

import httpx2
import pytest

MESSAGES = [{"role": "user", "content": "Hello"}]


async def test_critiques_come_once_per_principle(client: httpx2.AsyncClient) -> None:
    request = {"messages": MESSAGES, "response": "You fool", "constitution": "toy"}
    response = await client.post("/v1/critiques", json=request)
    body = response.json()
    assert body["object"] == "critiques"
    assert body["critiques"] == [
        {"principle": "kind", "critique": "That is unkind.", "finding": True},
        {"principle": "short", "critique": "That is unkind.", "finding": True},
    ]
    assert body["constitution"] == "toy@1"
    assert body["usage"]["completion_tokens"] == 6
    assert response.headers["x-cai-constitution"] == "toy@1"
    assert response.headers["x-cai-policy"] == "scripted"


async def test_critiques_of_named_principles_only(client: httpx2.AsyncClient) -> None:
    request = {
        "messages": MESSAGES, "response": "You fool", "constitution": "toy@draft",
        "principles": ["short"],
    }  # fmt: skip
    body = (await client.post("/v1/critiques", json=request)).json()
    assert [one["principle"] for one in body["critiques"]] == ["short"]
    assert body["constitution"] == "toy@draft"


async def test_revisions_give_the_whole_transcript(client: httpx2.AsyncClient) -> None:
    request = {
        "messages": MESSAGES, "constitution": "toy@1", "revisions": 2,
        "principles": ["kind"], "seed": 4,
    }  # fmt: skip
    response = await client.post("/v1/revisions", json=request)
    body = response.json()
    assert body["object"] == "revision"
    assert body["draft"] == "You bad person."
    assert body["answer"] == "Kind words."
    assert [step["principle"] for step in body["steps"]] == ["kind", "kind"]
    assert body["seed_honoured"] is True
    assert body["usage"]["completion_tokens"] == 3 + 2 * (3 + 2)


async def test_no_revisions_give_the_draft(client: httpx2.AsyncClient) -> None:
    request = {"messages": MESSAGES, "constitution": "toy@1", "revisions": 0}
    body = (await client.post("/v1/revisions", json=request)).json()
    assert (body["answer"], body["steps"]) == ("You bad person.", [])


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        ("/v1/critiques", {"response": ""}, "response"),
        ("/v1/critiques", {"response": None}, "response"),
        ("/v1/critiques", {"revisions": 1}, "revisions"),
        ("/v1/critiques", {"constitution": "a/b"}, "constitution"),
        ("/v1/critiques", {"n": 2}, "n"),
        ("/v1/revisions", {"revisions": 17}, "revisions"),
        ("/v1/revisions", {"messages": []}, "messages"),
        ("/v1/revisions", {"max_tokens": 0}, "max_tokens"),
        ("/v1/revisions", {"principles": ["Kind"]}, "principles[0]"),
        ("/v1/revisions", {"stream": True}, "stream"),
    ],
)
async def test_wrong_field_is_named(
    client: httpx2.AsyncClient, path: str, change: dict[str, object], param: str
) -> None:
    given = {"messages": MESSAGES, "constitution": "toy@1"}
    if path == "/v1/critiques":
        given["response"] = "You fool"
    response = await client.post(path, json={**given, **change})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


async def test_last_message_must_be_the_users(client: httpx2.AsyncClient) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": "Hi"}]
    request = {"messages": messages, "constitution": "toy@1"}
    response = await client.post("/v1/revisions", json=request)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages"
