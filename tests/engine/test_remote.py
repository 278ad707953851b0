"""A remote engine: what it sends, and what it reads."""

import json
import math

import httpx2
import pytest

from cai.engine.base import Engine
from cai.engine.remote import RemoteEngine
from cai.errors import (
    ConfigError,
    EngineError,
    InputError,
    PromptError,
    UnsupportedError,
)
from cai.types import ChatPrompt, Message, Sampling, TextPrompt, TokenPrompt, Usage
from tests.engine.remote_helpers import HELLO, Server, chat, connect


async def test_it_is_an_engine_that_knows_its_model():
    engine = await connect(Server())
    assert isinstance(engine, Engine)
    identity = engine.identity()
    assert (identity.model, identity.max_context) == ("http://h:1/v1#m", 4096)
    assert (identity.engine, identity.digest) == ("openai-compatible", None)
    await engine.check()


async def test_without_a_model_the_first_one_is_taken():
    assert (await connect(Server(), "http://h:1/v1/")).identity().model == "http://h:1/v1#m"


async def test_a_model_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ConfigError, match="http://h:1/v1 has no model 'n'; it has: m, other"):
        await connect(Server(), "http://h:1/v1#n")
    with pytest.raises(ConfigError, match="it has: none"):
        await connect(Server(models={"data": []}))


async def test_a_model_name_may_have_any_characters():
    server = Server(models={"data": [{"id": "a#b/c"}]}, completions=chat("x"))
    engine = await connect(server, "http://h:1/v1#a#b/c")
    await engine.generate(HELLO, Sampling())
    assert server.body()["model"] == "a#b/c"


@pytest.mark.parametrize("models", [[], {}, {"data": None}, {"data": [1]}, {"data": [{}]}, "x"])
async def test_what_is_no_list_of_models_is_an_engine_error(models):
    with pytest.raises(EngineError, match="not an OpenAI-compatible list of models"):
        await connect(Server(models=models))


async def test_an_address_without_v1_gets_a_hint():
    def not_found(request):
        return httpx2.Response(404, text="nothing here")

    with pytest.raises(ConfigError, match="mostly ends in /v1"):
        await RemoteEngine.connect("http://h:1", transport=httpx2.MockTransport(not_found))


async def test_a_chat_prompt_becomes_openai_s_request():
    server = Server(completions=chat("Hi."))
    engine = await connect(server)
    generation = await engine.generate(
        HELLO, Sampling(max_tokens=9, seed=3, stop=("x",), top_k=5, logprobs=2)
    )
    assert generation.text == "Hi."
    assert generation.usage == Usage(7, 3)
    assert generation.policy == "http://h:1/v1#m"
    assert server.requests[0].url.path == "/v1/chat/completions"
    assert server.body() == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello"},
        ],
        **{"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
        **{"n": 1, "max_tokens": 9, "stop": ["x"], "seed": 3, "top_k": 5},
        **{"logprobs": True, "top_logprobs": 2},
    }


async def test_text_and_token_prompts_become_completions():
    answer = {"choices": [{"text": "x", "finish_reason": "length"}], "usage": None}
    server = Server(completions=answer)
    engine = await connect(server)
    generation = await engine.generate(TextPrompt("ab"), Sampling(max_tokens=1, logprobs=1))
    assert (generation.text, generation.completions[0].finish_reason) == ("x", "length")
    assert generation.usage == Usage()
    assert server.body()["prompt"] == "ab"
    assert server.body()["logprobs"] == 1
    await engine.generate(TokenPrompt((1, 2)), Sampling(max_tokens=1))
    assert server.body()["prompt"] == [1, 2]
    assert await engine.count_tokens(TokenPrompt((1, 2))) == 2
    with pytest.raises(UnsupportedError, match="set max_tokens"):
        await engine.generate(TextPrompt("ab"), Sampling(max_tokens=None))


async def test_several_answers_come_in_their_order():
    answer = chat("a", "b", "c")
    answer["choices"].reverse()
    engine = await connect(Server(completions=answer))
    generation = await engine.generate(HELLO, Sampling(n=3))
    assert [c.text for c in generation.completions] == ["a", "b", "c"]


async def test_a_seed_counts_as_honoured_unless_the_server_says_otherwise():
    engine = await connect(Server(completions=[chat("x"), chat("x", cai={"seed_honoured": False})]))
    assert (await engine.generate(HELLO, Sampling(seed=1))).seed_honoured is True
    assert (await engine.generate(HELLO, Sampling(seed=1))).seed_honoured is False


async def test_log_probs_are_read_from_a_chat_completion():
    place = {"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}
    answer = chat("Hi")
    answer["choices"][0]["logprobs"] = {"content": [place, {"token": "!", "logprob": -1}]}
    engine = await connect(Server(completions=answer))
    places = (await engine.generate(HELLO, Sampling(logprobs=1))).completions[0].logprobs
    assert [(p.text, p.logprob, p.top) for p in places] == [
        ("Hi", -0.5, ((-1, "Hi", -0.5),)),
        ("!", -1.0, ()),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        *({}, [], 1, "x", None, {"choices": None}, {"choices": []}, {"choices": [1]}),
        *({"choices": [{}]}, {"choices": [{"message": 1}]}, chat("a", "b"), chat("x", usage=3)),
        chat("x", usage={"prompt_tokens": "many"}),
        {"choices": [{"index": "x", "text": "y"}]},
        {"choices": [{"text": "y", "logprobs": {"content": [{}]}}]},
        {"choices": [{"text": "y", "logprobs": {"tokens": ["y"], "token_logprobs": []}}]},
    ],
)
async def test_an_answer_of_another_shape_is_an_engine_error(answer):
    engine = await connect(Server(completions=httpx2.Response(200, content=json.dumps(answer))))
    with pytest.raises(EngineError):
        await engine.generate(HELLO, Sampling())


async def test_half_a_character_is_refused_before_it_is_sent():
    server = Server()
    engine = await connect(server)
    with pytest.raises(PromptError, match="half a character"):
        await engine.generate(ChatPrompt((Message("user", "a\ud800"),)), Sampling())
    with pytest.raises(InputError, match="number"):
        await engine.generate(HELLO, Sampling(temperature=math.nan))
    assert not server.requests
