"""`POST /v1/preferences`: order, labels with both orders' log-probs, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cai.engine.scripted import last_text
from tests.server.helpers import answer, make_app, make_client

QUALITY = {"worst": 0.1, "middle": 0.5, "best": 0.9}


def prefers_quality(prompt: Any, labels: Any) -> dict[str, float]:
    """P(A) from the qualities of the two answers, with a bias of 0.1 towards the first shown."""
    text = last_text(prompt)
    shown = text.split("reply A\n")[1]
    first = next(q for word, q in QUALITY.items() if shown.startswith(word))
    second = next(q for word, q in QUALITY.items() if text.split("reply B\n")[1].startswith(word))
    p_first = min(0.99, 0.5 + (first - second) / 2 + 0.05)
    return {"A": math.log(p_first), "B": math.log(1 - p_first)}


@pytest.fixture
def judging(tmp_path: Path) -> httpx2.AsyncClient:
    from cai.engine.scripted import ScriptedEngine

    return make_client(make_app(tmp_path, ScriptedEngine(answer, prefers_quality)))


def body(responses: list[str], **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    return {"messages": messages, "responses": responses, "constitution": "toy@1", **fields}


async def test_three_answers_come_back_in_order_with_traceable_labels(
    judging: httpx2.AsyncClient,
) -> None:
    response = await judging.post(
        "/v1/preferences",
        json=body(["middle answer", "best answer", "worst answer"], principles=["kind"]),
    )
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["order"] == [1, 0, 2]
    assert found["scores"][1] > found["scores"][0] > found["scores"][2]
    assert len(found["pairs"]) == 3
    first = found["pairs"][0]
    assert (first["a"], first["b"]) == (0, 1)
    # A first: 0.5 - 0.2 + 0.05 = 0.35; A second: 1 - (0.5 + 0.2 + 0.05) = 0.25; mean 0.30
    assert first["p_a"] == pytest.approx(0.30)
    assert first["label"]["position_bias"] == pytest.approx(0.05)
    assert first["label"]["principles"] == ["kind"]
    assert set(first["label"]["order_ab"]) == {"A", "B"}
    assert response.headers["x-cai-constitution"].startswith("toy@1")
    assert found["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("responses", "words"),
    [
        (["only one"], "responses"),
        (["best answer"] * 10, "responses"),
        (["best answer", "best answer"], "identical"),
        (["", ""], "empty"),
        (["::::", "::::"], "degenerate"),
    ],
)
async def test_answers_that_cannot_be_judged_are_a_400_that_says_why(
    judging: httpx2.AsyncClient, responses: list[str], words: str
) -> None:
    response = await judging.post("/v1/preferences", json=body(responses))
    assert response.status_code == 400, response.text
    assert words in response.text


async def test_a_judge_without_a_verdict_is_no_label(tmp_path: Path) -> None:
    from cai.engine.scripted import ScriptedEngine

    engine = ScriptedEngine(answer, lambda _p, labels: dict.fromkeys(labels, -9.0))
    async with make_client(make_app(tmp_path, engine)) as client:
        response = await client.post("/v1/preferences", json=body(["best a", "worst b"]))
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "no_verdict"
