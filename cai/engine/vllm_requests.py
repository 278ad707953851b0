"""Our requests in vLLM's terms, and vLLM's errors in ours.

Beside `embedded.py`, `vllm_start.py` and `worker.py` the only place that imports vLLM.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.errors import EngineDeadError, EngineError, InputError, OverloadedError
from cai.types import Sampling

if TYPE_CHECKING:
    from vllm import SamplingParams

_SEED_BITS = 2**63 - 1  # vLLM takes -1 for no seed, and its transport no more than 64 bits


def answer_params(
    sampling: Sampling, *, room: int, honours_seed: bool, is_streamed: bool
) -> SamplingParams:
    """For an answer of at most `room` tokens. Raises InputError for what vLLM refuses."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    if sampling.n > 1 and sampling.temperature == 0:
        raise InputError(
            f"n is {sampling.n} at temperature 0, where all answers are the same; "
            "ask for one, or raise the temperature",
            param="n",
        )
    seed = None if sampling.seed is None or not honours_seed else sampling.seed & _SEED_BITS
    with vllm_errors():
        return SamplingParams(
            n=sampling.n,
            max_tokens=room if sampling.max_tokens is None else min(sampling.max_tokens, room),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            stop=list(sampling.stop) or None,
            seed=seed,
            logprobs=sampling.logprobs,
            output_kind=RequestOutputKind.DELTA if is_streamed else RequestOutputKind.FINAL_ONLY,
        )


def next_token_params(*, label_ids: list[int] | None = None, top: int = 0) -> SamplingParams:
    """For the next token's log-probs: those of `label_ids`, or the best `top`."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprobs=None if label_ids else top,
        logprob_token_ids=label_ids,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def prompt_params(top: int) -> SamplingParams:
    """For the log-probs of the prompt's own tokens, each with the best `top` at its place."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    with vllm_errors():
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=top,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def adapter_request(name: str, number: int, folder: Path) -> Any:
    """VLLM's name for a LoRA adapter; `number` must be the adapter's alone, for good."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(folder))


@contextlib.contextmanager
def vllm_errors() -> Iterator[None]:
    """Raise vLLM's errors as ours; most of its refusals are no ValueError."""
    from vllm.exceptions import GracefulHTTPError, VLLMClientError, VLLMServerError
    from vllm.v1.engine.exceptions import EngineDeadError as VllmEngineDead

    try:
        yield
    except VllmEngineDead as exc:
        raise EngineDeadError("the engine died while it answered") from exc
    except (VLLMClientError, ValueError) as exc:
        param = getattr(exc, "parameter", None)
        raise InputError(f"vLLM refuses the request: {exc}", param=param) from exc
    except GracefulHTTPError as exc:
        raise OverloadedError(f"the engine's queue is full: {exc}") from exc
    except VLLMServerError as exc:
        cause = exc.__cause__ or exc
        raise EngineError(f"the engine failed: {type(cause).__name__}: {cause}") from exc
