"""Our own server's internal calls, and label scores where there are none."""

import math

import httpx2
import pytest

from cai.engine.remote import RemoteEngine
from cai.errors import (
    EngineDeadError,
    EngineError,
    EngineTimeoutError,
    InputError,
    OverloadedError,
    UnsupportedError,
)
from cai.types import Sampling, TextPrompt, TokenPrompt
from tests.engine.loopback import MODELS
from tests.engine.remote_helpers import HELLO, Server, chat, connect


async def test_our_own_server_is_asked_by_its_internal_calls():
    generated = {
        "completions": [
            {
                "text": "x",
                "token_ids": [5],
                "finish_reason": "stop",
                "logprobs": [
                    {
                        "id": 5,
                        "text": "x",
                        "logprob": -0.1,
                        "top": [{"id": 5, "text": "x", "logprob": -0.1}],
                    }
                ],
            }
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1},
        "policy": "sandbox",
        "seed_honoured": False,
    }
    scored = {"logprobs": {"A": -0.1, "B": -9999.0}, "mass": 0.9, "policy": "sandbox"}
    server = Server(internal=True, generate=generated, score=scored, completions=chat("chat"))
    engine = await connect(server)
    identity = engine.identity()
    assert (identity.model, identity.digest) == ("http://h:1/v1#m", "sha256:1")

    generation = await engine.generate(TokenPrompt((1, 2)), Sampling(seed=1, logprobs=1))
    assert server.requests[-1].url.path == "/internal/generate"
    assert server.body()["prompt_token_ids"] == [1, 2]
    assert generation.completions[0].token_ids == (5,)
    assert generation.completions[0].logprobs[0].top == ((5, "x", -0.1),)
    assert (generation.policy, generation.seed_honoured) == ("sandbox", False)

    scores = await engine.score(HELLO, ("A", "B"))
    assert server.requests[-1].url.path == "/internal/score"
    assert server.body() == {
        "messages": [m.as_dict() for m in HELLO.messages],
        "labels": ["A", "B"],
    }
    assert (dict(scores.logprobs), scores.mass) == ({"A": -0.1, "B": -9999.0}, 0.9)
    assert (await engine.generate(HELLO, Sampling())).text == "chat"


@pytest.mark.parametrize(
    "answer", [{}, [], {"completions": [{}]}, {"logprobs": {"A": 1}, "mass": 1}]
)
async def test_an_internal_answer_of_another_shape_is_an_engine_error(answer):
    server = Server(internal=True, generate=(200, answer), score=(200, answer))
    engine = await connect(server)
    with pytest.raises(EngineError, match="shape"):
        await engine.generate(TokenPrompt((1,)), Sampling())
    with pytest.raises(EngineError, match="shape"):
        await engine.score(HELLO, ("A", "B"))


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="<html>a page for every path</html>"),
        httpx2.Response(200, json={}),
        httpx2.Response(200, json=[1]),
        httpx2.Response(200, json={"engine": 1, "version": "1", "device": "cpu"}),
        httpx2.Response(403),
        httpx2.Response(500),
    ],
)
async def test_another_server_at_the_internal_address_is_not_taken_for_ours(answer):
    engine = await connect_when_identity_is(answer)
    assert engine.identity().engine == "openai-compatible"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx2.Response(503), EngineDeadError),
        (httpx2.Response(429), OverloadedError),
        (httpx2.ConnectError("refused"), EngineDeadError),
        (httpx2.ReadTimeout("slow"), EngineTimeoutError),
    ],
)
async def test_our_own_server_is_not_taken_for_another_while_it_is_away(answer, expected):
    with pytest.raises(expected):
        await connect_when_identity_is(answer)


async def connect_when_identity_is(answer):
    """The engine of a server whose list of models is fine and whose identity is `answer`."""

    def handle(request):
        if request.url.path == "/v1/models":
            return httpx2.Response(200, json=MODELS)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return await RemoteEngine.connect("http://h:1/v1#m", transport=httpx2.MockTransport(handle))


async def test_labels_are_read_from_the_best_of_the_first_token_elsewhere():
    """exp(-0.2) + exp(-2) = 0.9541; the letter with a space before it is the same label."""
    top = [("A", -0.2), ("\n", -1.9), (" B", -2.0), ("B", -3.0)]
    place = {
        "token": "A",
        "logprob": -0.2,
        "top_logprobs": [{"token": t, "logprob": p} for t, p in top],
    }
    answer = chat("A")
    answer["choices"][0]["logprobs"] = {"content": [place]}
    server = Server(completions=(200, answer))
    engine = await connect(server)
    scores = await engine.score(HELLO, ("A", "B", "C"))
    assert dict(scores.logprobs) == {"A": -0.2, "B": -2.0, "C": -math.inf}
    assert scores.mass == pytest.approx(0.9541, abs=1e-4)
    sent = server.body()
    assert (sent["max_tokens"], sent["top_logprobs"], sent["temperature"]) == (1, 20, 0.0)


async def test_a_server_without_log_probs_cannot_judge():
    engine = await connect(Server(completions=(200, chat("A"))))
    with pytest.raises(UnsupportedError, match="cannot judge"):
        await engine.score(HELLO, ("A", "B"))
    with pytest.raises(InputError, match="no labels"):
        await engine.score(HELLO, ())


async def test_prompt_log_probs_come_from_an_echo():
    answer = {
        "choices": [
            {
                "text": "abcd",
                "logprobs": {
                    "tokens": ["a", "b", "c", "d"],
                    "token_logprobs": [None, -1.0, -2.0, -3.0],
                    "top_logprobs": [None, {"b": -1.0}, {"x": -0.5}, {}],
                },
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    server = Server(completions=answer)
    places = await (await connect(server)).prompt_logprobs(TextPrompt("abc"), top=1)
    assert [(p.text, p.logprob) for p in places] == [("b", -1.0), ("c", -2.0)]
    assert server.body()["echo"] is True
    with pytest.raises(UnsupportedError, match="chat prompt"):
        await (await connect(server)).prompt_logprobs(HELLO)
    answer["usage"]["prompt_tokens"] = 30
    with pytest.raises(UnsupportedError, match="does not echo"):
        await (await connect(server)).prompt_logprobs(TextPrompt("abc"))
