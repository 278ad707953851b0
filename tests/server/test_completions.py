"""Text completions: texts, token ids, batches, echo with log-probs, streams."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2

from cai.engine.scripted import ScriptedEngine
from cai.types import Completion, Generation, Prompt, Sampling, TokenLogprob, TokenPrompt, Usage
from tests.server.helpers import events, make_app, make_client

TEXT = "/v1/completions"


class Letters(ScriptedEngine):
    """Token 0 is `a`, token 1 is `b`, …; a token's log-prob is minus its id; says `z` next."""

    def __init__(self) -> None:
        super().__init__(lambda _prompt, _sampling: "z")

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        assert isinstance(prompt, TokenPrompt)
        said = Completion("z", "length", (25,), (_letter(25),))
        return Generation((said,) * sampling.n, Usage(len(prompt.ids), 1), "letters")

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        assert isinstance(prompt, TokenPrompt)
        return tuple(_letter(id_) for id_ in prompt.ids[1:])


def _letter(id_: int) -> TokenLogprob:
    text = chr(ord("a") + id_)
    return TokenLogprob(id_, text, -float(id_), ((0, "a", 0.0), (id_, text, -float(id_))))


async def test_text_is_continued_in_openais_shape(client: httpx2.AsyncClient) -> None:
    response = await client.post(TEXT, json={"prompt": "One two", "max_tokens": 2})
    body = response.json()
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "You bad", "logprobs": None, "finish_reason": "length"}
    ]
    assert body["usage"]["prompt_tokens"] == 2
    assert response.headers["x-cai-policy"] == "scripted"


async def test_prompts_and_n_are_numbered_prompt_by_prompt(client: httpx2.AsyncClient) -> None:
    body = (await client.post(TEXT, json={"prompt": ["a", "b c"], "n": 2})).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 3


async def test_echo_of_token_ids_gives_every_token_its_logprob(tmp_path: Path) -> None:
    """Tokens c, b, d: the first has no log-prob, then -1 and -3; the offsets count letters."""
    async with make_client(make_app(tmp_path, Letters())) as client:
        request = {"prompt": [2, 1, 3], "max_tokens": 1, "echo": True, "logprobs": 1}
        body = (await client.post(TEXT, json=request)).json()
    choice = body["choices"][0]
    assert choice["text"] == "cbdz"
    assert choice["logprobs"]["tokens"] == ["c", "b", "d", "z"]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -3.0, -25.0]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3]
    assert choice["logprobs"]["top_logprobs"][0] is None
    assert choice["logprobs"]["top_logprobs"][1] == {"a": 0.0, "b": -1.0}


async def test_echo_alone_samples_nothing(tmp_path: Path) -> None:
    async with make_client(make_app(tmp_path, Letters())) as client:
        request = {"prompt": [[2, 1], [3]], "max_tokens": 0, "echo": True, "logprobs": 0}
        body = (await client.post(TEXT, json=request)).json()
    assert [choice["text"] for choice in body["choices"]] == ["cb", "d"]
    assert body["choices"][0]["logprobs"]["token_logprobs"] == [None, -1.0]
    assert body["choices"][1]["logprobs"]["token_logprobs"] == [None]
    assert body["usage"]["completion_tokens"] == 0
    assert body["usage"]["prompt_tokens"] == 3


async def test_echo_of_text_keeps_the_text_as_it_was(client: httpx2.AsyncClient) -> None:
    request = {"prompt": "one two  three", "max_tokens": 0, "echo": True, "logprobs": 1}
    choice = (await client.post(TEXT, json=request)).json()["choices"][0]
    assert choice["text"] == "one two  three"
    assert choice["logprobs"]["tokens"] == ["one", " two", "  three"]
    assert choice["logprobs"]["text_offset"] == [0, 3, 7]


async def test_infinite_logprobs_become_numbers(tmp_path: Path) -> None:
    class Impossible(Letters):
        async def prompt_logprobs(
            self, prompt: Prompt, *, top: int = 0
        ) -> tuple[TokenLogprob, ...]:
            return (TokenLogprob(1, "b", float("-inf")),)

    async with make_client(make_app(tmp_path, Impossible())) as client:
        request = {"prompt": [0, 1], "max_tokens": 0, "echo": True, "logprobs": 0}
        body = (await client.post(TEXT, json=request)).json()
    assert body["choices"][0]["logprobs"]["token_logprobs"] == [None, -9999.0]


async def test_stream_carries_text_and_offsets(client: httpx2.AsyncClient) -> None:
    request = {"prompt": "x", "stream": True, "logprobs": 1, "stream_options": {}}
    response = await client.post(TEXT, json=request)
    *parts, done = [data for _, data in events(response.text)]
    assert done == "[DONE]"
    choices = [json.loads(part)["choices"][0] for part in parts]
    assert "".join(choice["text"] for choice in choices) == "You bad person."
    assert [choice["logprobs"]["text_offset"] for choice in choices] == [[0], [3], [7]]


async def test_a_prompt_of_a_batch_that_fails_is_the_answer(client: httpx2.AsyncClient) -> None:
    response = await client.post(TEXT, json={"prompt": [[1], [2]]})
    assert response.status_code == 400
    assert "tokenizer" in response.json()["error"]["message"]
