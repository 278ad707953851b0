"""Chat completions: OpenAI's shapes, and what `cai` adds to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cai.engine.scripted import ScriptedEngine, last_text
from cai.types import ChatPrompt, Message, Prompt, Sampling
from tests.server.helpers import chat_body, events, make_app, make_client, scripted

CHAT = "/v1/chat/completions"
TOY = {"constitution": "toy@1"}


class Recorder:
    """An answer that remembers what it was asked."""

    def __init__(self, text: str = "Hello") -> None:
        self.text = text
        self.prompts: list[Prompt] = []
        self.samplings: list[Sampling] = []

    def __call__(self, prompt: Prompt, sampling: Sampling) -> str:
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        return self.text


async def ask(tmp_path: Path, recorder: Recorder, **fields: Any) -> dict[str, Any]:
    async with make_client(make_app(tmp_path, ScriptedEngine(recorder))) as client:
        response = await client.post(CHAT, json=chat_body(**fields))
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_plain_answer_has_openai_shape_and_names_its_policy(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post(CHAT, json=chat_body("One two"))
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "You bad person.", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    # Two words in, three out.
    assert body["usage"]["prompt_tokens"] == 2
    assert body["usage"]["completion_tokens"] == 3
    assert body["usage"]["total_tokens"] == 5
    assert body["cai"] == {"policy": "scripted"}
    assert response.headers["x-cai-policy"] == "scripted"
    assert body["id"] == "chatcmpl-" + response.headers["x-request-id"]


async def test_every_sampling_field_reaches_the_engine(tmp_path: Path) -> None:
    recorder = Recorder()
    await ask(
        tmp_path, recorder, max_completion_tokens=9, temperature=0.5, top_p=0.4, top_k=3,
        min_p=0.1, presence_penalty=0.2, frequency_penalty=0.3, repetition_penalty=1.1,
        stop=["x", "y"], seed=-4, n=2, logprobs=True, top_logprobs=2,
    )  # fmt: skip
    assert recorder.samplings[0] == Sampling(
        max_tokens=9, temperature=0.5, top_p=0.4, top_k=3, min_p=0.1, presence_penalty=0.2,
        frequency_penalty=0.3, repetition_penalty=1.1, stop=("x", "y"), seed=-4, n=2, logprobs=2,
    )  # fmt: skip


async def test_defaults_are_openais_and_no_limit_means_the_context(tmp_path: Path) -> None:
    recorder = Recorder()
    await ask(tmp_path, recorder, temperature=None, n=None, stop=None)
    assert recorder.samplings == [Sampling(max_tokens=None, temperature=1.0)]


async def test_parts_are_joined_and_developer_speaks_as_system(tmp_path: Path) -> None:
    recorder = Recorder()
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "you"}]
    messages = [{"role": "developer", "content": "Be kind"}, {"role": "user", "content": parts}]
    await ask(tmp_path, recorder, messages=messages)
    expected = (Message("system", "Be kind"), Message("user", "Hello you"))
    assert recorder.prompts == [ChatPrompt(expected)]


async def test_n_gives_n_choices(tmp_path: Path) -> None:
    body = await ask(tmp_path, Recorder(), n=3)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]


async def test_logprobs_have_bytes_and_alternatives(tmp_path: Path) -> None:
    body = await ask(tmp_path, Recorder("Żółw"), logprobs=True, top_logprobs=1)
    (token,) = body["choices"][0]["logprobs"]["content"]
    assert token["token"] == "Żółw"
    assert bytes(token["bytes"]).decode() == "Żółw"
    assert token["logprob"] == 0.0
    assert len(token["top_logprobs"]) == 1


async def test_seed_says_whether_it_was_honoured(tmp_path: Path) -> None:
    assert (await ask(tmp_path / "a", Recorder(), seed=3))["cai"]["seed_honoured"] is True
    assert "seed_honoured" not in (await ask(tmp_path / "b", Recorder()))["cai"]


async def test_limit_beyond_the_context_is_refused(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(max_context=10))
    async with make_client(app) as client:
        response = await client.post(CHAT, json=chat_body(max_tokens=10))
        long_prompt = await client.post(CHAT, json=chat_body("word " * 20))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "max_tokens"
    assert response.json()["error"]["code"] == "context_length_exceeded"
    assert long_prompt.status_code == 400
    assert long_prompt.json()["error"]["code"] == "context_length_exceeded"


async def test_stream_carries_the_answer_and_ends_with_done(client: httpx2.AsyncClient) -> None:
    body = chat_body(stream=True, stream_options={"include_usage": True}, seed=1)
    response = await client.post(CHAT, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-cai-policy"] == "scripted"
    *parts, done = [data for _, data in events(response.text)]
    assert done == "[DONE]"
    *chunks, counted = [json.loads(part) for part in parts]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "You bad person."
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["cai"] == {"policy": "scripted", "seed_honoured": True}
    assert counted["choices"] == []
    assert counted["usage"]["completion_tokens"] == 3
    assert {chunk["id"] for chunk in (*chunks, counted)} == {chunks[0]["id"]}


async def test_stream_of_n_has_every_index(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, json=chat_body(stream=True, n=2, logprobs=True))
    parts = [json.loads(data) for _, data in events(response.text) if data != "[DONE]"]
    ends = [p["choices"][0] for p in parts if p["choices"][0]["finish_reason"]]
    assert [end["index"] for end in ends] == [0, 1]
    assert all(end["logprobs"]["content"] for end in ends)


async def test_error_before_the_first_chunk_of_a_stream_is_a_status(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(max_context=3))
    async with make_client(app) as client:
        response = await client.post(CHAT, json=chat_body("a b c d", stream=True))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


async def test_critiqued_answer_is_the_revision_and_usage_sums_all_steps(
    client: httpx2.AsyncClient,
) -> None:
    """Draft 3, critique 3, revision 2 tokens: 8 in all."""
    response = await client.post(CHAT, json=chat_body(cai=TOY))
    body = response.json()
    assert body["choices"][0]["message"]["content"] == "Kind words."
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 8
    assert body["cai"]["constitution"] == "toy@1"
    assert body["cai"]["digest"].startswith("sha256:")
    assert body["cai"]["policy"] == "scripted"
    assert "steps" not in body["cai"]
    assert response.headers["x-cai-constitution"] == "toy@1"
    assert response.headers["x-cai-constitution-digest"] == body["cai"]["digest"]


async def test_steps_are_returned_when_asked_for(client: httpx2.AsyncClient) -> None:
    options = {**TOY, "revisions": 2, "principles": ["short", "kind"], "return_steps": True}
    body = (await client.post(CHAT, json=chat_body(cai=options))).json()
    assert body["cai"]["draft"] == "You bad person."
    assert [step["principle"] for step in body["cai"]["steps"]] == ["short", "kind"]
    assert body["cai"]["steps"][0]["critique"] == "That is unkind."
    assert body["cai"]["steps"][0]["revision"] == "Kind words."


async def test_same_seed_draws_the_same_principles(client: httpx2.AsyncClient) -> None:
    options = {**TOY, "revisions": 8, "return_steps": True}

    async def drawn(seed: int) -> list[str]:
        body = chat_body(cai=options, seed=seed)
        steps = (await client.post(CHAT, json=body)).json()["cai"]["steps"]
        return [step["principle"] for step in steps]

    assert await drawn(5) == await drawn(5)
    assert len({tuple(await drawn(seed)) for seed in range(6)}) > 1


async def test_critiqued_stream_carries_only_the_final_answer(client: httpx2.AsyncClient) -> None:
    body = chat_body(cai=TOY, stream=True, stream_options={"include_usage": True})
    response = await client.post(CHAT, json=body)
    found = events(response.text)
    assert {name for name, _ in found} == {None}
    chunks = [json.loads(data) for _, data in found[:-1]]
    contents = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
    assert "".join(contents) == "Kind words."
    # Not "bad" alone: the hexadecimal ids can hold it by chance.
    assert "person" not in response.text
    assert chunks[-1]["usage"]["completion_tokens"] == 8
    assert chunks[-2]["cai"]["constitution"] == "toy@1"
    assert response.headers["x-cai-constitution"] == "toy@1"


async def test_step_events_come_by_name_before_the_answer(client: httpx2.AsyncClient) -> None:
    options = {**TOY, "revisions": 2, "stream_steps": True}
    response = await client.post(CHAT, json=chat_body(cai=options, stream=True))
    found = events(response.text)
    assert [name for name, _ in found[:3]] == ["cai.step"] * 3
    assert {name for name, _ in found[3:]} == {None}
    steps = [json.loads(data)["cai"] for _, data in found[:3]]
    assert steps[0] == {"step": 0, "draft": "You bad person."}
    assert [step["step"] for step in steps] == [0, 1, 2]
    assert steps[1]["critique"] == "That is unkind."


async def test_reasoning_stays_out_of_a_critiqued_answer_and_in_a_plain_one(
    tmp_path: Path,
) -> None:
    def answer(prompt: Prompt, sampling: Sampling) -> str:
        said = "No change needed." if "[critique]" in last_text(prompt) else "Hello."
        return f"<think>hm</think>{said}"

    async with make_client(make_app(tmp_path, ScriptedEngine(answer))) as client:
        options = {**TOY, "return_steps": True}
        critiqued = (await client.post(CHAT, json=chat_body(cai=options))).json()
        plain = (await client.post(CHAT, json=chat_body())).json()
    assert critiqued["choices"][0]["message"]["content"] == "Hello."
    assert critiqued["cai"]["draft_reasoning"] == "hm"
    assert critiqued["cai"]["steps"][0]["status"] == "no_change"
    assert plain["choices"][0]["message"]["content"] == "<think>hm</think>Hello."


async def test_without_a_limit_a_critiqued_answer_leaves_room_for_later_steps(
    tmp_path: Path,
) -> None:
    recorder = Recorder("No change needed.")
    await ask(tmp_path, recorder, cai=TOY)
    assert {sampling.max_tokens for sampling in recorder.samplings} == {512}


@pytest.mark.parametrize("principle", ["knid", "no-such"])
async def test_unknown_principle_is_a_404_that_names_the_others(
    client: httpx2.AsyncClient, principle: str
) -> None:
    body = chat_body(cai={**TOY, "principles": [principle]})
    response = await client.post(CHAT, json=body)
    assert response.status_code == 404
    assert "kind, short" in response.json()["error"]["message"]


async def test_edited_release_is_refused_by_name(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    path = tmp_path / "toy" / "1.yaml"
    path.write_text(path.read_text().replace("unkind", "kind"))
    async with make_client(app) as client:
        response = await client.post(CHAT, json=chat_body(cai=TOY))
    error = response.json()["error"]
    assert response.status_code == 409
    assert error["code"] == "tampered_release"
    assert error["message"].startswith("toy/1.yaml: ")
    assert str(tmp_path) not in error["message"]
