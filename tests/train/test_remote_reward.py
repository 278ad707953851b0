"""The client of remote reward models: what it sends, what it refuses, when it asks again."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from cai.errors import ConfigError, EngineDeadError, EngineError, OverloadedError
from cai.train.items import Answered, RenderedText
from cai.train.remote_reward import RemoteReward
from cai.types import Message

URL = "http://127.0.0.1:5000/get_reward"
TEXTS = [RenderedText("a b"), RenderedText("c")]


class Server:
    """Answers with `replies` in turn (the last for ever) and keeps what it was sent."""

    def __init__(self, *replies: Any) -> None:
        self.replies = replies
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, int):
            return httpx2.Response(reply, json={"error": {"message": "not now"}})
        return httpx2.Response(200, content=reply if isinstance(reply, str) else json.dumps(reply))

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


def client(server: Server, url: str = URL, **options: Any) -> RemoteReward:
    return RemoteReward(url, transport=httpx2.MockTransport(server), **options)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.engine.remote_calls._backoff_s", lambda _attempt: 0.0)


async def test_texts_go_as_query_to_the_very_address() -> None:
    server = Server({"rewards": [1, -0.5]})
    assert await client(server).score(TEXTS) == [1.0, -0.5]
    assert str(server.requests[0].url) == URL
    assert server.bodies() == [{"query": ["a b", "c"]}]


async def test_prompts_go_along_where_every_text_has_one() -> None:
    server = Server({"rewards": [1.0]})
    await client(server).score([RenderedText("a b", "a ")])
    assert server.bodies() == [{"query": ["a b"], "prompts": ["a "]}]


async def test_conversations_go_as_messages() -> None:
    server = Server({"rewards": [1.0]})
    await client(server).score([Answered((Message("user", "Hi"),), "Yes?")])
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    assert server.bodies() == [{"messages": [said]}]


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "http://127.0.0.1:5000/v1/rewards/"])
async def test_of_a_host_alone_our_own_call_is_asked(url: str) -> None:
    server = Server({"rewards": [1.0]})
    await client(server, url).score(TEXTS[:1])
    assert server.requests[0].url.path == "/v1/rewards"


async def test_many_items_are_asked_in_batches_and_stay_in_order() -> None:
    def reply(request: httpx2.Request) -> httpx2.Response:
        texts = json.loads(request.content)["query"]
        return httpx2.Response(200, json={"rewards": [float(text) for text in texts]})

    asked = RemoteReward(URL, batch_size=2, transport=httpx2.MockTransport(reply))
    assert await asked.score([RenderedText(str(i)) for i in range(5)]) == [0, 1, 2, 3, 4]
    assert await asked.score([]) == []


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ('{"rewards": [1.0, NaN]}', r"rewards\[1\] is nan"),
        ('{"rewards": [1.0, 1e999]}', r"rewards\[1\] is inf"),
        ({"rewards": [1.0]}, "1 rewards for 2 items"),
        ({"rewards": [1.0, 2.0, 3.0]}, "3 rewards for 2 items"),
        ({"rewards": [1.0, None]}, r"rewards\[1\] is no number"),
        ({"rewards": [True, 1.0]}, r"rewards\[0\] is no number"),
        ({"rewards": [[1.0], [2.0]]}, r"rewards\[0\] is no number"),
        ({"rewards": 1.0}, "no list 'rewards'"),
        ([1.0, 2.0], "no list 'rewards'"),
    ],
)
async def test_an_answer_without_a_finite_number_per_item_is_refused(
    reply: Any, words: str
) -> None:
    server = Server(reply)
    with pytest.raises(EngineError, match=words):
        await client(server).score(TEXTS)
    assert len(server.requests) == 1


@pytest.mark.parametrize("first", [429, 503, httpx2.ConnectError("refused")])
async def test_what_may_pass_is_asked_again(first: Any) -> None:
    server = Server(first, first, {"rewards": [1.0, 2.0]})
    assert await client(server).score(TEXTS) == [1.0, 2.0]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "error"),
    [(429, OverloadedError), (httpx2.ConnectError("refused"), EngineDeadError)],
)
async def test_attempts_are_bounded(reply: Any, error: type[Exception]) -> None:
    server = Server(reply)
    with pytest.raises(error):
        await client(server, max_attempts=3).score(TEXTS)
    assert len(server.requests) == 3


async def test_its_own_key_goes_along_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of an OpenAI account is no business of whoever serves a reward model."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai")
    monkeypatch.delenv("REWARD_API_KEY", raising=False)
    server = Server({"rewards": [1.0, 2.0]})
    await client(server).score(TEXTS)
    monkeypatch.setenv("REWARD_API_KEY", " from-environment\n")
    await client(server).score(TEXTS)
    await client(server, api_key="given").score(TEXTS)
    sent = [request.headers.get("authorization") for request in server.requests]
    assert sent == [None, "Bearer from-environment", "Bearer given"]


async def test_a_refused_key_is_told_with_the_variable_to_set() -> None:
    with pytest.raises(ConfigError, match=r"not now; set REWARD_API_KEY to a key"):
        await client(Server(401)).score(TEXTS)


@pytest.mark.parametrize("url", ["", "host:5000", "ftp://host/x", "http://", "http://h/x?a=b"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no address of a reward model"):
        RemoteReward(url)
