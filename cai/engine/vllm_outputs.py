"""vLLM's outputs as records of ours. Pure functions; imports nothing of vLLM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cai.errors import EngineError
from cai.types import Completion, FinishReason, TokenLogprob


def completion(out: Any, top: int | None) -> Completion:
    """A finished CompletionOutput; `top` alternatives were asked for."""
    return Completion(
        text=out.text,
        finish_reason=finish_reason(out.finish_reason) or "abort",
        token_ids=tuple(out.token_ids),
        logprobs=logprobs(out, top),
    )


def finish_reason(reason: str | None) -> FinishReason | None:
    """VLLM's reasons in our three. Raises EngineError for the one that is an error."""
    if reason is None or reason in ("stop", "length"):
        return reason  # type: ignore[return-value]
    if reason == "error":
        raise EngineError("the engine failed on this request; its log says why")
    return "abort"


def logprobs(out: Any, top: int | None) -> tuple[TokenLogprob, ...] | None:
    """Log-probs of the new tokens of a (possibly streamed) CompletionOutput."""
    if top is None or out.logprobs is None:
        return None
    places = out.logprobs[-len(out.token_ids) :] if out.token_ids else []
    if len(places) != len(out.token_ids):
        raise EngineError(f"{len(out.token_ids)} tokens came with {len(places)} log-probs")
    return tuple(
        token_logprob(token_id, place, top)
        for token_id, place in zip(out.token_ids, places, strict=True)
    )


def token_logprob(token_id: int, place: Mapping[int, Any], top: int) -> TokenLogprob:
    """One place's log-probs: the token that stands there, and the best `top`."""
    if token_id not in place:
        raise EngineError(f"the log-probs at a place lack its own token {token_id}")
    chosen = place[token_id]
    ranked = sorted(place.items(), key=lambda item: item[1].rank or math.inf)
    return TokenLogprob(
        id=int(token_id),
        text=chosen.decoded_token or "",
        logprob=float(chosen.logprob),
        top=tuple((int(i), e.decoded_token or "", float(e.logprob)) for i, e in ranked[:top]),
    )
