"""The JSON that a remote engine sends and reads: OpenAI's shapes and our internal calls.

Pure functions between `cai.types` and JSON; foreign JSON becomes a record here and nowhere else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cai.engine.remote_errors import error_from_body, status_of
from cai.errors import EngineError, UnsupportedError
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


@contextmanager
def _shape() -> Iterator[None]:
    """Foreign JSON that is not of the expected shape is an EngineError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        what = f"{type(exc).__name__}: {exc}"[:200]
        raise EngineError(f"the server's answer is not of the expected shape: {what}") from exc


def read_generation(answer: Any, sampling: Sampling, *, default_policy: str) -> Generation:
    """A whole chat completion or text completion."""
    with _shape():
        indexed = enumerate(answer["choices"])
        choices = sorted(indexed, key=lambda place: int(place[1].get("index", place[0])))
        completions = tuple(_completion(choice) for _, choice in choices)
        extension = extension_of(answer)
        usage = read_usage(answer.get("usage")) or Usage()
    _check_number(completions, sampling)
    policy = str(extension.get("policy") or default_policy)
    return Generation(completions, usage, policy, seed_honoured(extension, sampling))


def read_internal(answer: Any, sampling: Sampling) -> Generation:
    """The answer of `/internal/generate`."""
    with _shape():
        completions = tuple(
            Completion(
                text=str(item["text"]),
                finish_reason=finish_reason(item["finish_reason"]) or "abort",
                token_ids=tuple(int(i) for i in item["token_ids"]),
                logprobs=_internal_places(item.get("logprobs")),
            )
            for item in answer["completions"]
        )
        honoured = seed_honoured(answer, sampling)
        usage, policy = read_usage(answer["usage"]) or Usage(), str(answer["policy"])
    _check_number(completions, sampling)
    return Generation(completions, usage, policy, honoured)


def read_scores(answer: Any, labels: Sequence[str]) -> LabelScores:
    """The answer of `/internal/score`."""
    with _shape():
        return LabelScores(
            {label: float(answer["logprobs"][label]) for label in labels},
            float(answer["mass"]),
            read_usage(answer.get("usage")) or Usage(),
            str(answer["policy"]),
        )


def labels_from_top(generation: Generation, labels: Sequence[str]) -> LabelScores:
    """Label scores from the alternatives of the first token; -inf for one that is not among them.

    Raises UnsupportedError when the server gives no alternatives.
    """
    places = generation.completions[0].logprobs
    if not places or not places[0].top:
        raise UnsupportedError("the server gives no log-probs of alternatives: it cannot judge")
    found: dict[str, float] = {}
    for _, text, logprob in places[0].top:
        found[text.strip()] = max(logprob, found.get(text.strip(), -math.inf))
    logprobs = {label: found.get(label, -math.inf) for label in labels}
    mass = math.fsum(math.exp(value) for value in logprobs.values())
    return LabelScores(logprobs, mass, generation.usage, generation.policy)


def read_event(data: bytes) -> Mapping[str, Any]:
    """One event of a stream. Raises the error that it carries."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise EngineError(f"an event of the server's stream is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise EngineError("an event of the server's stream is not an object")
    if value.get("error"):
        raise error_from_body(value, status=status_of(value))
    return value


def read_chunks(value: Mapping[str, Any], *, policy: str) -> list[Chunk]:
    """The pieces in one event of a stream."""
    chunks = []
    with _shape():
        for choice in value.get("choices") or ():
            delta = choice.get("delta")
            text = delta.get("content") if delta is not None else choice.get("text")
            reason, places = finish_reason(choice.get("finish_reason")), _places(choice)
            if text or reason or places:
                index = int(choice.get("index", 0))
                chunks.append(Chunk(index, str(text or ""), reason, places, policy=policy))
    return chunks


def read_echo(answer: Any) -> tuple[TokenLogprob, ...]:
    """Prompt log-probs from a completion with `echo`, from the second token on."""
    with _shape():
        places = _completion_places(answer["choices"][0]["logprobs"] or {})
        num_prompt = int(answer["usage"]["prompt_tokens"])
    if len(places) < num_prompt:
        raise UnsupportedError("the server does not echo the prompt with its log-probs")
    return tuple(places[1:num_prompt])


def read_usage(value: Any) -> Usage | None:
    """OpenAI's usage object."""
    if not value:
        return None
    with _shape():
        details = value.get("prompt_tokens_details") or {}
        return Usage(
            int(value.get("prompt_tokens") or 0),
            int(value.get("completion_tokens") or 0),
            int(details.get("cached_tokens") or 0),
        )


def extension_of(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What our own server says beside OpenAI's fields; empty for another's."""
    extension = value.get("cai")
    return extension if isinstance(extension, dict) else {}


def seed_honoured(extension: Mapping[str, Any], sampling: Sampling) -> bool | None:
    """A server that says nothing of the seed it accepted is taken to honour it."""
    return None if sampling.seed is None else bool(extension.get("seed_honoured", True))


def model_entries(answer: Any, address: str) -> list[Mapping[str, Any]]:
    """The entries of `GET /models`."""
    try:
        return [entry for entry in answer["data"] if isinstance(entry["id"], str)]
    except (KeyError, TypeError) as exc:
        raise EngineError(f"{address}/models is not an OpenAI-compatible list of models") from exc


def policy_of(entry: Mapping[str, Any]) -> str | None:
    """The policy that an entry of our own server's models stands for."""
    extension = entry.get("cai")
    policy = extension.get("policy") if isinstance(extension, Mapping) else None
    return policy if isinstance(policy, str) and policy else None


def identity_from(value: Any, address: str) -> EngineIdentity:
    """Our own server's identity, under the address it was reached at."""
    with _shape():
        known = {name: value[name] for name in EngineIdentity.__slots__ if name in value}
        texts = [known[name] for name in ("engine", "version", "device")]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("engine, version and device are texts")
        return EngineIdentity(**{**known, "model": address})


def finish_reason(reason: Any) -> FinishReason | None:
    """OpenAI's reasons in our three; anything else counts as an abort."""
    if reason is None or reason in ("stop", "length"):
        return reason  # type: ignore[no-any-return]
    return "abort"


def _check_number(completions: Sequence[Completion], sampling: Sampling) -> None:
    if len(completions) != sampling.n:
        raise EngineError(f"the server gave {len(completions)} answers and {sampling.n} were asked")


def _completion(choice: Mapping[str, Any]) -> Completion:
    message = choice.get("message")
    text = (message.get("content") if message is not None else choice["text"]) or ""
    return Completion(
        text=str(text),
        finish_reason=finish_reason(choice.get("finish_reason")) or "abort",
        logprobs=_places(choice),
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
                tuple(
                    (-1, str(other["token"]), float(other["logprob"]))
                    for other in place.get("top_logprobs") or ()
                ),
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


def _internal_places(places: Any) -> tuple[TokenLogprob, ...] | None:
    if places is None:
        return None
    return tuple(
        TokenLogprob(
            int(place["id"]),
            str(place["text"]),
            float(place["logprob"]),
            tuple((int(t["id"]), str(t["text"]), float(t["logprob"])) for t in place["top"]),
        )
        for place in places
    )
