"""The JSON that a remote engine sends and reads: OpenAI's shapes and our internal calls.

Pure functions between `cai.types` and JSON; foreign JSON becomes a record here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx2

from cai.errors import (
    CaiError,
    ConfigError,
    ContextLengthError,
    EngineDeadError,
    EngineError,
    EngineTimeoutError,
    InputError,
    NotFoundError,
    OverloadedError,
    UnsupportedError,
)
from cai.types import (
    ChatPrompt,
    Chunk,
    Completion,
    EngineIdentity,
    FinishReason,
    Generation,
    LabelScores,
    Prompt,
    Sampling,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    Usage,
)

_DEFAULT = Sampling()
_EXTENSIONS = ("top_k", "min_p", "repetition_penalty")  # not OpenAI's: sent only when set
_PLAIN = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "n")


def sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """The request's fields for how to sample, without those at an extension's default."""
    fields: dict[str, Any] = {name: getattr(sampling, name) for name in _PLAIN}
    fields |= {
        name: getattr(sampling, name)
        for name in _EXTENSIONS
        if getattr(sampling, name) != getattr(_DEFAULT, name)
    }
    if sampling.max_tokens is not None:
        fields["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        fields["seed"] = sampling.seed
    return fields


def internal_body(prompt: TokenPrompt, sampling: Sampling) -> dict[str, Any]:
    """`POST /internal/generate`."""
    body = {"prompt_token_ids": list(prompt.ids)} | sampling_fields(sampling)
    if sampling.logprobs is not None:
        body["logprobs"] = sampling.logprobs
    return body


def score_body(prompt: Prompt, labels: Sequence[str]) -> dict[str, Any]:
    """`POST /internal/score`."""
    if isinstance(prompt, ChatPrompt):
        return {"messages": [m.as_dict() for m in prompt.messages], "labels": list(labels)}
    if isinstance(prompt, TextPrompt):
        raise UnsupportedError("label scoring over HTTP takes messages or token ids")
    return {"prompt_token_ids": list(prompt.ids), "labels": list(labels)}


def read_generation(answer: Any, sampling: Sampling, *, default_policy: str) -> Generation:
    """A whole chat completion or text completion."""
    try:
        choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
        completions = tuple(_completion(choice) for choice in choices)
    except (KeyError, TypeError, ValueError) as exc:
        raise EngineError(f"the server's answer is not OpenAI's shape: {exc!r}") from exc
    extension = answer.get("cai") or {}
    honoured = None if sampling.seed is None else bool(extension.get("seed_honoured", True))
    policy = str(extension.get("policy") or default_policy)
    return Generation(completions, read_usage(answer.get("usage")) or Usage(), policy, honoured)


def read_internal(answer: Any, sampling: Sampling) -> Generation:
    """The answer of `/internal/generate`."""
    completions = tuple(
        Completion(
            text=str(item["text"]),
            finish_reason=finish_reason(item["finish_reason"]) or "abort",
            token_ids=tuple(item["token_ids"]),
            logprobs=None
            if item.get("logprobs") is None
            else tuple(
                TokenLogprob(
                    place["id"],
                    place["text"],
                    place["logprob"],
                    tuple((top["id"], top["text"], top["logprob"]) for top in place["top"]),
                )
                for place in item["logprobs"]
            ),
        )
        for item in answer["completions"]
    )
    honoured = None if sampling.seed is None else bool(answer.get("seed_honoured"))
    usage = read_usage(answer["usage"]) or Usage()
    return Generation(completions, usage, str(answer["policy"]), honoured)


def read_scores(answer: Any) -> LabelScores:
    """The answer of `/internal/score`."""
    return LabelScores(
        {str(label): float(value) for label, value in answer["logprobs"].items()},
        float(answer["mass"]),
        read_usage(answer.get("usage")) or Usage(),
        str(answer["policy"]),
    )


def read_chunks(value: Mapping[str, Any]) -> Iterator[Chunk]:
    """The pieces in one event of a stream."""
    for choice in value.get("choices") or ():
        delta = choice.get("delta")
        text = delta.get("content") if delta is not None else choice.get("text")
        reason = finish_reason(choice.get("finish_reason"))
        if text or reason:
            yield Chunk(int(choice["index"]), text or "", reason, _places(choice))


def with_usage(chunk: Chunk, usage: Usage) -> Chunk:
    """The last chunk of a stream carries the usage."""
    return replace(chunk, usage=usage)


def read_echo(answer: Any) -> tuple[TokenLogprob, ...]:
    """Prompt log-probs from a completion with `echo`, from the second token on."""
    places = _completion_places(answer["choices"][0]["logprobs"] or {})
    num_prompt = int(answer["usage"]["prompt_tokens"])
    return tuple(places[1:num_prompt])


def read_usage(value: Any) -> Usage | None:
    """OpenAI's usage object."""
    if not value:
        return None
    details = value.get("prompt_tokens_details") or {}
    return Usage(
        int(value.get("prompt_tokens") or 0),
        int(value.get("completion_tokens") or 0),
        int(details.get("cached_tokens") or 0),
    )


def model_entries(response: httpx2.Response) -> list[dict[str, Any]]:
    """The entries of `GET /models`."""
    try:
        entries = response.json()["data"]
        return [entry for entry in entries if isinstance(entry["id"], str)]
    except (KeyError, TypeError, ValueError) as exc:
        raise EngineError(f"{response.url} is not an OpenAI-compatible list of models") from exc


def identity_from(value: Mapping[str, Any], address: str) -> EngineIdentity:
    """Our own server's identity, under the address it was reached at."""
    known = {name: value.get(name) for name in EngineIdentity.__slots__ if name in value}
    return EngineIdentity(**{**known, "model": address})  # type: ignore[arg-type]


def finish_reason(reason: Any) -> FinishReason | None:
    """OpenAI's reasons in our three; anything else counts as an abort."""
    if reason is None or reason in ("stop", "length"):
        return reason  # type: ignore[no-any-return]
    return "abort"


def retry_after_s(response: httpx2.Response) -> float:
    """Seconds that the server asks to wait; 0 when it does not say."""
    try:
        return min(60.0, max(0.0, float(response.headers.get("retry-after", "0"))))
    except ValueError:
        return 0.0


def error_from(response: httpx2.Response) -> CaiError:
    """The error tree's class for an answer that is no success."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.status_code == 429:
        text = _message(body, response.status_code)
        return OverloadedError(text, retry_after_s=retry_after_s(response) or 1.0)
    return error_from_body(body, status=response.status_code)


def error_from_body(body: Any, *, status: int) -> CaiError:
    """The same from the envelope alone, as a stream carries it."""
    text = _message(body, status)
    envelope = body.get("error") if isinstance(body, dict) else None
    code = envelope.get("code") if isinstance(envelope, dict) else None
    if status in (401, 403):
        return ConfigError(f"{text}; set OPENAI_API_KEY to a key that may do this")
    if status == 404:
        return NotFoundError(text)
    if status == 503:
        return EngineDeadError(text)
    if status in (408, 504):
        return EngineTimeoutError(text)
    if code == "context_length_exceeded" or "maximum context length" in text:
        return ContextLengthError(text)
    return InputError(text) if 400 <= status < 500 else EngineError(text)


def _message(body: Any, status: int) -> str:
    envelope = body.get("error", body) if isinstance(body, dict) else {}
    text = envelope.get("message") if isinstance(envelope, dict) else None
    return f"the server answers {status}: {str(text)[:500] if text else 'no message'}"


def _completion(choice: Mapping[str, Any]) -> Completion:
    message = choice.get("message")
    text = (message.get("content") if message is not None else choice["text"]) or ""
    places = _places(choice)
    return Completion(
        text=str(text),
        finish_reason=finish_reason(choice.get("finish_reason")) or "abort",
        token_ids=tuple(place.id for place in places or ()),
        logprobs=places,
    )


def _places(choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...] | None:
    logprobs = choice.get("logprobs")
    if not logprobs:
        return None
    if "content" in logprobs:
        return tuple(
            TokenLogprob(
                -1,
                str(place["token"]),
                float(place["logprob"]),
                tuple((-1, str(t["token"]), float(t["logprob"])) for t in place["top_logprobs"]),
            )
            for place in logprobs["content"] or ()
        )
    return tuple(_completion_places(logprobs))


def _completion_places(logprobs: Mapping[str, Any]) -> list[TokenLogprob]:
    tokens = logprobs.get("tokens") or []
    values = logprobs.get("token_logprobs") or []
    tops = logprobs.get("top_logprobs") or [None] * len(tokens)
    return [
        TokenLogprob(
            -1,
            str(token),
            float(value) if value is not None else 0.0,
            tuple((-1, str(text), float(lp)) for text, lp in (top or {}).items()),
        )
        for token, value, top in zip(tokens, values, tops, strict=True)
    ]
