"""`POST /v1/feedback`: what is kept, what is refused by field, and who may send it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from cai.policy.feedback import FeedbackStore, StoredFeedback, user_digest
from server.auth import add_key
from tests.policy.registering import opened
from tests.server.helpers import make_client
from tests.server.registered import app_with_policies

FEEDBACK = "/v1/feedback"
ASK = {"role": "user", "content": "Is the fence green?"}
SAID = {"messages": [ASK], "response": "Yes.", "thumbs": "down"}


@pytest.fixture
def client(tmp_path: Path) -> httpx2.AsyncClient:
    return make_client(app_with_policies(tmp_path))


def kept(root: Path) -> list[StoredFeedback]:
    with opened(root / "home") as database:
        return list(FeedbackStore(database).records())


async def test_a_judgement_is_kept_with_its_answer_policy_arm_and_user(
    client: httpx2.AsyncClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = {
        **SAID, "rating": 2, "better": "I cannot see it.", "policy": "second", "arm": "live",
        "user": "Jane Doe",
    }  # fmt: skip
    with caplog.at_level("INFO"):
        response = await client.post(FEEDBACK, json=body)
    assert response.status_code == 200, response.text
    told = response.json()
    assert (told["object"], told["policy"], told["arm"]) == ("feedback", "second", "live")
    (one,) = kept(tmp_path)
    assert (one.id, one.at) == (told["id"], told["created_at"])
    assert (one.messages, one.response, one.better) == ([ASK], "Yes.", "I cannot see it.")
    assert (one.thumbs, one.rating, one.policy_id, one.arm) == ("down", 2, "second", "live")
    assert one.user_digest == user_digest("Jane Doe")
    assert "Jane" not in caplog.text + response.text + one.model_dump_json()
    assert "fence" not in caplog.text


async def test_one_kind_is_enough_and_parts_are_joined(
    client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    }
    for said in ({"thumbs": "up"}, {"rating": 5}, {"better": "No."}):
        body = {"messages": [parts], "response": "Yes.", **said}
        assert (await client.post(FEEDBACK, json=body)).status_code == 200
    assert [one.messages[0]["content"] for one in kept(tmp_path)] == ["ab"] * 3
    assert kept(tmp_path)[0].policy_id is None


async def test_the_served_model_is_known_without_being_registered(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post(FEEDBACK, json={**SAID, "policy": "scripted"})
    assert response.json()["policy"] == "scripted"


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"thumbs": None}, 400, "thumbs"),
        ({"thumbs": "sideways"}, 400, "thumbs"),
        ({"rating": 0}, 400, "rating"),
        ({"rating": 6}, 400, "rating"),
        ({"rating": 4.5}, 400, "rating"),
        ({"rating": True}, 400, "rating"),
        ({"better": " "}, 400, "better"),
        ({"better": "Yes. "}, 400, "better"),
        ({"better": "a\0"}, 400, "better"),
        ({"response": None}, 400, "response"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [ASK, {"role": "assistant", "content": "Yes."}]}, 400, "messages"),
        ({"policy": "thirst"}, 404, "policy"),
        ({"policy": "live"}, 400, "policy"),
        ({"policy": "../first"}, 404, "policy"),
        ({"arm": "../x"}, 400, "arm"),
        ({"user": "u" * 600}, 400, "user"),
        ({"stars": 5}, 400, "stars"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_field(
    client: httpx2.AsyncClient, tmp_path: Path, changes: dict[str, Any], status: int, param: str
) -> None:
    response = await client.post(FEEDBACK, json={**SAID, **changes})
    assert response.status_code == status, response.text
    assert response.json()["error"]["param"] == param
    assert kept(tmp_path) == []


async def test_a_repeated_key_keeps_one(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    headers = {"idempotency-key": "once"}
    found = [await client.post(FEEDBACK, json=SAID, headers=headers) for _ in "12"]
    assert found[0].json() == found[1].json()
    assert len(kept(tmp_path)) == 1


async def test_it_needs_a_key_that_may_review_and_is_kept_with_its_name(tmp_path: Path) -> None:
    key_file = tmp_path / "keys.yaml"
    keys = {scope: add_key(key_file, f"{scope}-key", [scope]) for scope in ("infer", "review")}
    app = app_with_policies(tmp_path / "c", api_key_file=key_file)
    statuses = []
    for key in (None, keys["infer"], keys["review"]):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with make_client(app, headers=headers) as client:
            statuses.append((await client.post(FEEDBACK, json=SAID)).status_code)
    assert statuses == [401, 403, 200]
    assert [one.actor for one in kept(tmp_path / "c")] == ["review-key"]


async def test_it_does_not_wait_for_the_engine(tmp_path: Path) -> None:
    app = app_with_policies(tmp_path, max_running=1, max_queue=0)
    async with app.state.services.admission.slot(), make_client(app) as client:
        assert (await client.post(FEEDBACK, json=SAID)).status_code == 200
