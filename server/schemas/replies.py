"""The JSON of replies, in OpenAI's shapes, with `cai` beside them.

Plain dicts go straight to bytes: nothing here is validated a second time. Start from
`chat_completion` and `json_response`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json
from starlette.responses import Response

from cai.critique.records import Transcript
from cai.types import Completion, FinishReason, Generation, TokenLogprob, Usage

JSON = dict[str, Any]

_LOWEST_LOGPROB = -9999.0  # what OpenAI's API says for a probability of zero


def json_response(body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A 200 with a JSON body."""
    return Response(to_json(body), headers=headers, media_type="application/json")


def policy_headers(policy: str) -> dict[str, str]:
    """Which policy answered."""
    return {"x-cai-policy": quote(policy, safe="/@:.+-_~ ")}


def loop_headers(transcript: Transcript) -> dict[str, str]:
    """Which policy answered, under which constitution."""
    return {
        **policy_headers(transcript.policy),
        **constitution_headers(transcript.constitution, transcript.constitution_digest),
    }


def constitution_headers(ref: str, digest: str) -> dict[str, str]:
    """Which constitution was used: its reference, and the digest of its content."""
    return {"x-cai-constitution": ref, "x-cai-constitution-digest": digest}


def usage_json(usage: Usage) -> JSON:
    """OpenAI's token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def about(policy: str, seed_honoured: bool | None) -> JSON:
    """`cai` of a plain answer."""
    cai: JSON = {"policy": policy}
    if seed_honoured is not None:
        cai["seed_honoured"] = seed_honoured
    return cai


def chat_completion(id: str, generation: Generation) -> JSON:
    """A plain chat completion."""
    return {
        "id": id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": generation.policy,
        "choices": [
            _chat_choice(index, completion)
            for index, completion in enumerate(generation.completions)
        ],
        "usage": usage_json(generation.usage),
        "cai": about(generation.policy, generation.seed_honoured),
    }


def chat_answer(id: str, transcript: Transcript, *, with_steps: bool) -> JSON:
    """A critiqued and revised answer as a chat completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": transcript.answer, "refusal": None},
        "logprobs": None,
        "finish_reason": answer_finish_reason(transcript),
    }
    return {
        "id": id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": transcript.policy,
        "choices": [choice],
        "usage": usage_json(transcript.usage),
        "cai": about_loop(transcript, with_steps=with_steps),
    }


def answer_finish_reason(transcript: Transcript) -> FinishReason:
    """A revision that was cut off is never the answer, so only a draft can be."""
    is_revised = any(step.status == "revised" for step in transcript.steps)
    return "stop" if is_revised or transcript.draft_finish_reason == "stop" else "length"


def about_loop(transcript: Transcript, *, with_steps: bool) -> JSON:
    """`cai` of a critiqued answer."""
    cai = {
        "constitution": transcript.constitution,
        "digest": transcript.constitution_digest,
        **about(transcript.policy, transcript.seed_honoured),
    }
    return {**cai, **steps_json(transcript)} if with_steps else cai


def steps_json(transcript: Transcript) -> JSON:
    """The draft and what was done to it."""
    told: JSON = {"draft": transcript.draft}
    if transcript.draft_reasoning is not None:
        told["draft_reasoning"] = transcript.draft_reasoning
    told["steps"] = [step.as_dict() for step in transcript.steps]
    return told


def revision(id: str, transcript: Transcript) -> JSON:
    """A whole transcript."""
    return {
        "id": id,
        "object": "revision",
        "answer": transcript.answer,
        "finish_reason": answer_finish_reason(transcript),
        **about_loop(transcript, with_steps=True),
        "usage": usage_json(transcript.usage),
    }


def text_choice(
    index: int,
    completion: Completion,
    *,
    logprobs: JSON | None,
    text: str | None = None,
) -> JSON:
    """One choice of a text completion."""
    return {
        "index": index,
        "text": completion.text if text is None else text,
        "logprobs": logprobs,
        "finish_reason": finish_reason(completion.finish_reason),
    }


def finish_reason(reason: str | None) -> str | None:
    """OpenAI knows no abort: an answer that was broken off is one that was cut."""
    return "length" if reason == "abort" else reason


def chat_logprobs(logprobs: Sequence[TokenLogprob] | None, *, top: int) -> JSON | None:
    """OpenAI's form for chats."""
    if logprobs is None:
        return None
    content = [
        {
            **_token(token.text, token.logprob),
            "top_logprobs": [_token(text, value) for _, text, value in token.top[:top]],
        }
        for token in logprobs
    ]
    return {"content": content, "refusal": None}


def text_logprobs(
    logprobs: Sequence[TokenLogprob | None],
    *,
    top: int,
    first_text: str = "",
    start: int = 0,
) -> JSON:
    """OpenAI's form for text. None is a first token, whose log-prob nobody knows."""
    tokens = [first_text if token is None else token.text for token in logprobs]
    offsets = []
    for text in tokens:
        offsets.append(start)
        start += len(text)
    return {
        "tokens": tokens,
        "token_logprobs": [None if t is None else finite(t.logprob) for t in logprobs],
        "top_logprobs": [None if t is None else _best(t, top) for t in logprobs],
        "text_offset": offsets,
    }


def finite(logprob: float) -> float:
    """JSON has no infinity."""
    return max(logprob, _LOWEST_LOGPROB)


def _chat_choice(index: int, completion: Completion) -> JSON:
    top = max((len(token.top) for token in completion.logprobs or ()), default=0)
    return {
        "index": index,
        "message": {"role": "assistant", "content": completion.text, "refusal": None},
        "logprobs": chat_logprobs(completion.logprobs, top=top),
        "finish_reason": finish_reason(completion.finish_reason),
    }


def _token(text: str, logprob: float) -> JSON:
    return {
        "token": text,
        "logprob": finite(logprob),
        "bytes": list(text.encode("utf-8", "surrogatepass")),
    }


def _best(token: TokenLogprob, top: int) -> dict[str, float]:
    best = {text: finite(value) for _, text, value in token.top[:top]}
    best.setdefault(token.text, finite(token.logprob))
    return best
