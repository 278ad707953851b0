"""vLLM in this process: continuous batching over everything in flight, prefix caching on.

Start from `EmbeddedEngine.start(model, options)`. Knows nothing of
constitutions, files or HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING, Any

from cai.engine.lanes import Lanes
from cai.engine.ownership import Guardian, engine_pids, owned_children, sweep
from cai.engine.template import ChatRenderer
from cai.engine.vllm_outputs import completion, finish_reason, logprobs, token_logprob
from cai.engine.vllm_start import engine_arguments, identify, launch
from cai.errors import (
    ContextLengthError,
    EngineDeadError,
    EngineError,
    InputError,
    UnsupportedError,
)
from cai.types import (
    ChatPrompt,
    Chunk,
    EngineIdentity,
    Generation,
    LabelScores,
    Prompt,
    Sampling,
    TextPrompt,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    from vllm import SamplingParams

logger = logging.getLogger(__name__)

_TOP_FOR_LABELS = 20  # vLLM's default max_logprobs


class EmbeddedEngine:
    """An engine on vLLM's AsyncLLM. Made by `start`; the constructor is not for callers."""

    def __init__(
        self, llm: Any, renderer: ChatRenderer, identity: EngineIdentity, guardian: Guardian
    ) -> None:
        self._llm = llm
        self._renderer = renderer
        self._identity = identity
        self._guardian: Guardian | None = guardian
        self._lanes = Lanes()
        self._ids = count()
        self._label_ids: dict[tuple[str, ...], list[int]] = {}
        self._honours_seed = identity.device != "cpu"
        self._vocab_size = int(llm.model_config.get_vocab_size())

    @classmethod
    async def start(
        cls,
        model: str,
        options: Mapping[str, Any] | None = None,
        *,
        served_name: str | None = None,
    ) -> EmbeddedEngine:
        """Load `model` (a local folder or a hub id) and wait until it can answer.

        `options` are vLLM's own engine arguments by name. Raises ConfigError for an unknown one,
        for a model folder with code in it, or when vLLM refuses the model.
        """
        arguments = await asyncio.to_thread(engine_arguments, model, dict(options or {}))
        swept = sweep()
        if swept:
            logger.warning("swept engine processes of an earlier crash: %s", swept)
        guardian = Guardian()
        try:
            with owned_children():
                llm = await asyncio.to_thread(launch, arguments)
        except BaseException:
            guardian.close()
            raise
        renderer = ChatRenderer(llm.get_tokenizer())
        identity = await asyncio.to_thread(identify, llm, renderer, served_name or model)
        return cls(llm, renderer, identity, guardian)

    def identity(self) -> EngineIdentity:
        return self._identity

    @property
    def renderer(self) -> ChatRenderer:
        """How this engine turns messages into tokens."""
        return self._renderer

    def pids(self) -> list[int]:
        """The engine's processes."""
        return engine_pids()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        prompt_ids = self._prompt_ids(prompt)
        params = self._sampling_params(sampling, len(prompt_ids), stream=False)
        async with self._logprob_lane(sampling):
            output = await self._run(prompt_ids, params)
        completions = tuple(
            completion(out, sampling.logprobs)
            for out in sorted(output.outputs, key=lambda out: int(out.index))
        )
        usage = Usage(
            len(prompt_ids),
            sum(len(c.token_ids) for c in completions),
            int(output.num_cached_tokens or 0),
        )
        return Generation(completions, usage, self._identity.model, self._seed_honoured(sampling))

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        prompt_ids = self._prompt_ids(prompt)
        params = self._sampling_params(sampling, len(prompt_ids), stream=True)
        num_completion = num_cached = num_finished = 0
        async with (
            self._logprob_lane(sampling),
            aclosing(self._outputs(prompt_ids, params)) as outputs,
        ):
            async for output in outputs:
                num_cached = int(output.num_cached_tokens or num_cached)
                for out in output.outputs:
                    num_completion += len(out.token_ids)
                    num_finished += out.finish_reason is not None
                    is_last = num_finished == sampling.n and out.finish_reason is not None
                    yield Chunk(
                        index=int(out.index),
                        text=out.text,
                        finish_reason=finish_reason(out.finish_reason),
                        logprobs=logprobs(out, sampling.logprobs),
                        usage=Usage(len(prompt_ids), num_completion, num_cached)
                        if is_last
                        else None,
                    )

    async def score(self, prompt: Prompt, labels: Sequence[str]) -> LabelScores:
        prompt_ids = self._prompt_ids(prompt)
        label_ids = self._labels(tuple(labels))
        found = await self._score_ids(prompt_ids, label_ids)
        logprobs = {label: found[i] for label, i in zip(labels, label_ids, strict=True)}
        mass = math.fsum(math.exp(value) for value in logprobs.values())
        return LabelScores(logprobs, mass, Usage(len(prompt_ids), 1), self._identity.model)

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        prompt_ids = self._prompt_ids(prompt)
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=top,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async with self._lanes.logprobs():
            output = await self._run(prompt_ids, params)
        places = output.prompt_logprobs[1:]
        return tuple(
            token_logprob(token_id, place, top)
            for token_id, place in zip(prompt_ids[1:], places, strict=True)
        )

    async def count_tokens(self, prompt: Prompt) -> int:
        return len(self._prompt_ids(prompt, check=False))

    async def check(self) -> None:
        try:
            await self._llm.check_health()
        except Exception as exc:
            raise EngineDeadError(f"the engine is dead: {type(exc).__name__}") from exc

    async def aclose(self) -> None:
        guardian, self._guardian = self._guardian, None
        if guardian is None:
            return
        await asyncio.to_thread(self._llm.shutdown)
        await asyncio.to_thread(guardian.close)

    def _prompt_ids(self, prompt: Prompt, *, check: bool = True) -> list[int]:
        if isinstance(prompt, ChatPrompt):
            ids = self._renderer.render(prompt.messages)
        elif isinstance(prompt, TextPrompt):
            ids = self._renderer.encode_text(prompt.text)
        else:
            ids = list(prompt.ids)
            self._check_ids(ids)
        if check:
            self._check_length(len(ids))
        return ids

    def _check_ids(self, ids: Sequence[int]) -> None:
        for token_id in ids:
            if not 0 <= token_id < self._vocab_size:
                raise InputError(
                    f"token id {token_id} is outside the vocabulary (0 to {self._vocab_size - 1})",
                    param="prompt",
                )

    def _check_length(self, num_tokens: int) -> None:
        limit = self._identity.max_context
        assert limit is not None
        if num_tokens == 0:
            raise InputError("the prompt has no tokens", param="prompt")
        if num_tokens >= limit:
            raise ContextLengthError(
                f"the prompt has {num_tokens} tokens and the model's context holds {limit} with "
                "the answer; shorten the conversation",
                param="messages",
            )

    def _sampling_params(
        self, sampling: Sampling, num_prompt: int, *, stream: bool
    ) -> SamplingParams:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        assert self._identity.max_context is not None
        room = self._identity.max_context - num_prompt
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
            seed=sampling.seed if self._honours_seed else None,
            logprobs=sampling.logprobs,
            output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
        )

    def _seed_honoured(self, sampling: Sampling) -> bool | None:
        return None if sampling.seed is None else self._honours_seed

    @contextlib.asynccontextmanager
    async def _logprob_lane(self, sampling: Sampling) -> AsyncIterator[None]:
        if sampling.logprobs is None:
            yield
        else:
            async with self._lanes.logprobs():
                yield

    async def _score_ids(self, prompt_ids: list[int], label_ids: list[int]) -> dict[int, float]:
        while True:
            with self._lanes.scoring() as alone:
                found = await self._next_token_logprobs(prompt_ids, label_ids if alone else None)
            if all(token_id in found for token_id in label_ids):
                return found
            await self._lanes.until_no_logprobs()

    async def _next_token_logprobs(
        self, prompt_ids: list[int], label_ids: list[int] | None
    ) -> dict[int, float]:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprobs=None if label_ids else _TOP_FOR_LABELS,
            logprob_token_ids=label_ids,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._run(prompt_ids, params)
        place = output.outputs[0].logprobs[0]
        return {int(token_id): float(entry.logprob) for token_id, entry in place.items()}

    def _labels(self, labels: tuple[str, ...]) -> list[int]:
        if labels not in self._label_ids:
            self._label_ids[labels] = _label_token_ids(self._renderer, labels)
        return self._label_ids[labels]

    async def _run(self, prompt_ids: list[int], params: SamplingParams) -> Any:
        last = None
        async with aclosing(self._outputs(prompt_ids, params)) as outputs:
            async for output in outputs:
                last = output
        if last is None:
            raise EngineError("the engine ended a request without an output")
        return last

    async def _outputs(
        self, prompt_ids: list[int], params: SamplingParams
    ) -> AsyncGenerator[Any, None]:
        from vllm.inputs import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError as VllmEngineDead

        request_id = f"cai-{next(self._ids)}"
        try:
            async with aclosing(
                self._llm.generate(tokens_input(prompt_ids), params, request_id)
            ) as outputs:
                async for output in outputs:
                    yield output
        except VllmEngineDead as exc:
            raise EngineDeadError("the engine died while it answered") from exc
        except ValueError as exc:
            raise InputError(f"vLLM refuses the request: {exc}") from exc


def _label_token_ids(renderer: ChatRenderer, labels: tuple[str, ...]) -> list[int]:
    ids = []
    for label in labels:
        encoded = renderer.encode_content(label)
        if len(encoded) != 1:
            raise UnsupportedError(
                f"the label '{label}' is {len(encoded)} tokens for this model; use one-token labels"
            )
        ids += encoded
    if len(set(ids)) != len(ids):
        raise UnsupportedError(f"two of the labels {list(labels)} are the same token")
    return ids
