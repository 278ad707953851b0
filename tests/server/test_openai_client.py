"""The official `openai` client, unchanged, against the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest

from tests.server.helpers import BASE_URL, make_app, make_client


@pytest.fixture
async def official(tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        make_client(make_app(tmp_path)) as http,
        openai.AsyncOpenAI(
            api_key="unused", base_url=f"{BASE_URL}/v1", http_client=http, max_retries=0
        ) as client,
    ):
        yield client


async def test_chat(official: openai.AsyncOpenAI) -> None:
    answer = await official.chat.completions.create(
        model="live",
        messages=[{"role": "system", "content": "Hi"}, {"role": "user", "content": "Hello"}],
        logprobs=True,
        top_logprobs=1,
        seed=1,
        n=2,
        user="somebody",
    )
    assert [choice.message.content for choice in answer.choices] == ["You bad person."] * 2
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert [token.token for token in answer.choices[0].logprobs.content] == [
        "You",
        " bad",
        " person.",
    ]


async def test_stream(official: openai.AsyncOpenAI) -> None:
    stream = await official.chat.completions.create(
        model="live",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "You bad person."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


async def test_stream_with_step_events_can_be_read_without_knowing_them(
    official: openai.AsyncOpenAI,
) -> None:
    stream = await official.chat.completions.create(
        model="live",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        extra_body={"cai": {"constitution": "toy@1", "stream_steps": True}},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Kind words."


async def test_critiqued_answer(official: openai.AsyncOpenAI) -> None:
    answer = await official.chat.completions.create(
        model="live",
        messages=[{"role": "user", "content": "Hello"}],
        extra_body={"cai": {"constitution": "toy"}},
    )
    assert answer.choices[0].message.content == "Kind words."
    assert answer.model_extra is not None
    assert answer.model_extra["cai"]["constitution"] == "toy@1"


async def test_completions(official: openai.AsyncOpenAI) -> None:
    answer = await official.completions.create(
        model="live", prompt="a b", max_tokens=1, echo=True, logprobs=1
    )
    assert answer.choices[0].text == "a bYou"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens == ["a", " b", "You"]


async def test_models(official: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in official.models.list()] == ["live", "scripted"]
    assert (await official.models.retrieve("live")).owned_by == "cai"
    with pytest.raises(openai.NotFoundError):
        await official.models.retrieve("other")


async def test_errors_have_their_classes_and_fields(official: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await official.chat.completions.create(
            model="live", messages=[{"role": "user", "content": "Hello"}], logit_bias={"1": 1}
        )
    assert refused.value.param == "logit_bias"
    assert refused.value.code == "unsupported"
    with pytest.raises(openai.NotFoundError):
        await official.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "Hello"}]
        )


async def test_id_of_the_answer_can_be_found_in_the_log(official: openai.AsyncOpenAI) -> None:
    raw = await official.chat.completions.with_raw_response.create(
        model="live",
        messages=[{"role": "user", "content": "Hello"}],
        extra_headers={"x-request-id": "mine-1"},
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert isinstance(raw.http_response, httpx2.Response)
