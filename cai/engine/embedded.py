"""vLLM in this process: continuous batching over everything in flight, prefix caching on.

Start from `EmbeddedEngine.start(model, options)`. `swap` replaces the weights of the running
engine. Knows nothing of constitutions, manifests or HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.engine.adapters import Adapter, Adapters
from cai.engine.gate import Gate
from cai.engine.label_ids import LabelIds
from cai.engine.lanes import Lanes
from cai.engine.ownership import Guardian, engine_pids, sweep
from cai.engine.prompt_ids import PromptEncoder
from cai.engine.pulse import Pulse
from cai.engine.swap import Loaded, Weights
from cai.engine.template import ChatRenderer
from cai.engine.vllm_outputs import completion, finish_reason, logprobs, token_logprob
from cai.engine.vllm_requests import (
    answer_params,
    next_token_params,
    prompt_params,
    vllm_errors,
)
from cai.engine.vllm_start import engine_arguments, launch, look_at, renderer_for
from cai.errors import (
    EngineDeadError,
    EngineError,
    UnsupportedError,
)
from cai.types import (
    Chunk,
    EngineIdentity,
    Generation,
    LabelScores,
    Prompt,
    Sampling,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    from vllm import SamplingParams

logger = logging.getLogger(__name__)

_TOP_FOR_LABELS = 20  # vLLM's default max_logprobs


@dataclass(slots=True)
class _Held:
    """VLLM's object, in one place for the engine and its views: closing lets go of it in all."""

    llm: Any


class EmbeddedEngine:
    """An engine on vLLM's AsyncLLM. Made by `start`; the constructor is not for callers."""

    def __init__(
        self, llm: Any, renderer: ChatRenderer, loaded: Loaded, guardian: Guardian
    ) -> None:
        self._held = _Held(llm)
        self._renderer = renderer
        self._gate = Gate()
        self._adapters = Adapters(llm)
        self._adapter: Adapter | None = None  # whose view of the engine this is
        self._weights = Weights(llm, self._gate, loaded, before=self._adapters.forget)
        self._guardian: Guardian | None = guardian
        self._lanes = Lanes()
        self._pulse = Pulse()
        self._pulse.follow(llm.output_processor)
        self._ids = count()
        self._running: set[str] = set()
        self._labels = LabelIds(renderer)
        self._honours_seed = loaded.identity.device != "cpu"
        self._encoder = PromptEncoder(
            renderer,
            max_context=int(llm.model_config.max_model_len),
            vocab_size=int(llm.model_config.get_vocab_size()),
        )
        most = int(llm.model_config.max_logprobs)
        self._top_for_labels = _TOP_FOR_LABELS if most < 0 else min(_TOP_FOR_LABELS, most)

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
        llm = None
        try:
            llm = await launch(arguments)
            renderer = await asyncio.to_thread(renderer_for, llm)
            loaded = await asyncio.to_thread(look_at, llm, renderer, served_name or model)
            return cls(llm, renderer, loaded, guardian)
        except BaseException:
            if llm is not None:
                llm.shutdown()
            guardian.close()
            raise

    @property
    def _llm(self) -> Any:
        return self._held.llm

    def identity(self) -> EngineIdentity:
        if self._adapter is not None:
            return self._adapter.identity
        return self._weights.loaded.identity

    @property
    def loaded(self) -> Loaded:
        """The policy that answers now, and the folder that it came from."""
        return self._weights.loaded

    @property
    def dtype(self) -> str:
        """What the engine computes in: float32, bfloat16 or float16."""
        return str(self._llm.model_config.dtype).removeprefix("torch.")

    @property
    def renderer(self) -> ChatRenderer:
        """How this engine turns messages into tokens."""
        return self._renderer

    def pids(self) -> list[int]:
        """The engine's processes."""
        return engine_pids()

    def silent_s(self) -> float:
        """Seconds for which it has said nothing in its work, or to what `check` asked; else 0."""
        is_replacing = self._weights.is_replacing  # which has a limit of its own
        return self._pulse.silent_s(is_working=self.num_unfinished() > 0 and not is_replacing)

    def num_unfinished(self) -> int:
        """Requests that the engine still works on."""
        if self._llm is None:
            return 0
        return int(self._llm.output_processor.get_num_unfinished_requests())

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        prompt_ids = self._encoder.encode(prompt)
        params = self._params(sampling, len(prompt_ids), is_streamed=False)
        async with self._gate.admitted(), self._logprob_lane(sampling):
            policy = self.identity().model
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
        return Generation(completions, usage, policy, self._seed_honoured(sampling))

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        prompt_ids = self._encoder.encode(prompt)
        params = self._params(sampling, len(prompt_ids), is_streamed=True)
        num_completion = num_cached = num_finished = 0
        async with (
            self._gate.admitted() as entry,
            self._logprob_lane(sampling),
            aclosing(self._outputs(prompt_ids, params)) as outputs,
        ):
            policy = self.identity().model
            async for output in outputs:
                entry.settle()  # the engine has it, and finishes it however slow the reader is
                num_cached = int(output.num_cached_tokens or num_cached)
                for out in output.outputs:
                    num_completion += len(out.token_ids)
                    num_finished += out.finish_reason is not None
                    chunk = _chunk(out, sampling, policy)
                    if out.finish_reason is not None and num_finished == sampling.n:
                        usage = Usage(len(prompt_ids), num_completion, num_cached)
                        honoured = self._seed_honoured(sampling)
                        yield replace(chunk, usage=usage, seed_honoured=honoured)
                    elif chunk.text or chunk.logprobs or chunk.finish_reason:
                        yield chunk

    async def score(self, prompt: Prompt, labels: Sequence[str]) -> LabelScores:
        label_ids = self._labels.of(tuple(labels))
        prompt_ids = self._encoder.encode(prompt)
        async with self._gate.admitted():
            policy = self.identity().model
            found = await self._score_ids(prompt_ids, label_ids)
        logprobs = {label: found[i] for label, i in zip(labels, label_ids, strict=True)}
        mass = math.fsum(math.exp(value) for value in logprobs.values())
        return LabelScores(logprobs, mass, Usage(len(prompt_ids), 1), policy)

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        prompt_ids = self._encoder.encode(prompt)
        if self._adapters.max_loaded:
            return await self._place_by_place(prompt_ids, top)
        params = prompt_params(top)
        async with self._gate.admitted(), self._lanes.logprobs():
            output = await self._run(prompt_ids, params)
        places = output.prompt_logprobs[1:]
        return tuple(
            token_logprob(token_id, place, top)
            for token_id, place in zip(prompt_ids[1:], places, strict=True)
        )

    async def _place_by_place(self, prompt_ids: list[int], top: int) -> tuple[TokenLogprob, ...]:
        """Each token's log-prob as the next one after those before it, a request each.

        vLLM 0.32 on CPU dies of log-probs of a prompt once it takes adapters: their layers are set
        up for the sampled places alone, and the head is given all.
        """
        if top:
            raise UnsupportedError(
                "an engine that takes adapters gives log-probs of a prompt without alternatives; "
                "ask for none"
            )
        async with self._gate.admitted():
            places = await asyncio.gather(
                *(
                    self._score_ids(prompt_ids[:i], [prompt_ids[i]])
                    for i in range(1, len(prompt_ids))
                )
            )
        text = self._llm.get_tokenizer().decode
        return tuple(
            TokenLogprob(token_id, text([token_id]), place[token_id])
            for token_id, place in zip(prompt_ids[1:], places, strict=True)
        )

    async def count_tokens(self, prompt: Prompt) -> int:
        return len(self._encoder.encode(prompt, check=False))

    async def reset_prefix_cache(self) -> None:
        """Forget every cached prefix: after a change of weights, or to measure from nothing."""
        await self._llm.reset_prefix_cache()

    def paused(self) -> AbstractAsyncContextManager[None]:
        """Let nobody in but this task and those it starts, until the end of the block.

        Requests inside go on; others wait and fail in no way. A swap inside can be tried, and
        taken back, before anybody else is answered by it.
        """
        return self._gate.held()

    async def swap(
        self,
        folder: Path,
        *,
        name: str | None = None,
        digest: str | None = None,
        hash_files: bool = True,
    ) -> Loaded:
        """Answer with the weights in `folder` from now on; returns what answered before.

        The folder must have the same architecture, tensor names and shapes, tokenizer and chat
        template (PolicyError before the engine is touched, naming each difference); floating
        dtypes may differ and are cast. Requests inside finish under the old weights, others wait.
        No completion mixes two policies. LoRA adapters of the old weights are dropped.

        The identity then has `name` (the folder's path by default) and `digest`: the one given,
        else that of the files, else None with `hash_files` False, which saves reading them twice.

        Raises ReloadError when loading fails: the old weights answer again, or, where their folder
        is gone or changed, nobody does until a swap succeeds. A cancel while requests finish leaves
        all as it was; a later one is raised after the swap has ended. Nothing stays paused.
        """
        return await self._weights.swap(folder, name=name, digest=digest, hash_files=hash_files)

    async def swap_back(self, previous: Loaded) -> None:
        """Answer again with what a `swap` returned.

        Raises ReloadError when its folder is gone or changed, before the engine is touched.
        """
        await self._weights.swap_back(previous)

    def condemn(self, reason: str) -> None:
        """Answer nobody (EngineDeadError with `reason`) until a swap succeeds."""
        self._weights.condemn(reason)

    async def add_adapter(
        self, folder: Path, *, name: str, digest: str | None = None
    ) -> EmbeddedEngine:
        """Load a LoRA adapter beside the weights; returns the engine as that policy answers.

        The view shares everything with this engine, which is the one to close and to swap. It
        raises EngineDeadError once the adapter is dropped, by hand or by a swap of its base.
        Raises PolicyError for an adapter that will not do, ConflictError where there is no place.
        """
        base = self._weights.loaded.identity
        await self._adapters.load(folder, base, name=name, digest=digest)
        return self.adapter(name)

    def adapter(self, name: str) -> EmbeddedEngine:
        """The engine as a loaded adapter answers. Raises NotFoundError naming those there are."""
        view = copy.copy(self)
        view._adapter = self._adapters.get(name)
        return view

    def adapters(self) -> list[str]:
        """Names of the loaded adapters."""
        return self._adapters.names()

    async def drop_adapter(self, name: str) -> None:
        """Unload an adapter; what it still answers fails."""
        await self._adapters.drop(name)

    @property
    def can_sleep(self) -> bool:
        """Whether `sleep` leaves what it can; on a GPU only vLLM's sleep mode frees anything."""
        model = self._llm.model_config
        return bool(model.enable_sleep_mode) or self._weights.loaded.identity.device == "cpu"

    async def sleep(self) -> None:
        """Leave the device's memory to others; nothing may run. On CPU it frees nothing."""
        await self._llm.sleep(level=1)

    async def wake(self) -> None:
        """Take the device's memory again."""
        await self._llm.wake_up()

    async def check(self) -> None:
        self._check_open()
        try:
            await self._llm.check_health()
        except Exception as exc:
            raise EngineDeadError(f"the engine is dead: {type(exc).__name__}") from exc
        if not self._weights.is_replacing:
            self._pulse.ask(self._llm.is_paused)  # vLLM's own check asks its core nothing

    async def aclose(self) -> None:
        guardian, self._guardian = self._guardian, None
        if guardian is None:
            return
        llm, self._held.llm = self._llm, None  # vLLM frees some of what it holds with its object
        self._adapters.close()
        self._pulse.close()
        await self._weights.close()
        try:
            with contextlib.suppress(Exception):  # a dead engine has nothing to abort
                await llm.abort(list(self._running))
            if llm.output_handler is not None:
                llm.output_handler.cancel()  # else it reports the end of the core as a failure
            await asyncio.to_thread(llm.shutdown)
        finally:
            await asyncio.to_thread(guardian.close)

    def _check_open(self) -> None:
        if self._guardian is None:
            raise EngineDeadError("the engine is closed")
        if self._adapter is not None:
            self._adapter.check()
        self._weights.check()

    def _params(self, sampling: Sampling, num_prompt: int, *, is_streamed: bool) -> SamplingParams:
        room = self._encoder.max_context - num_prompt
        return answer_params(
            sampling, room=room, honours_seed=self._honours_seed, is_streamed=is_streamed
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
        with self._lanes.scoring() as is_alone:
            found = await self._next_token_logprobs(prompt_ids, label_ids if is_alone else None)
        if all(token_id in found for token_id in label_ids):
            return found
        async with self._lanes.scoring_in_turn():
            return await self._next_token_logprobs(prompt_ids, label_ids)

    async def _next_token_logprobs(
        self, prompt_ids: list[int], label_ids: list[int] | None
    ) -> dict[int, float]:
        params = next_token_params(label_ids=label_ids, top=self._top_for_labels)
        output = await self._run(prompt_ids, params)
        place = output.outputs[0].logprobs[0]
        return {int(token_id): float(entry.logprob) for token_id, entry in place.items()}

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

        self._check_open()
        request_id = f"cai-{next(self._ids)}"
        self._running.add(request_id)
        lora = None if self._adapter is None else self._adapter.request
        try:
            with vllm_errors():
                async with aclosing(
                    self._llm.generate(
                        tokens_input(prompt_ids), params, request_id, lora_request=lora
                    )
                ) as outputs:
                    async for output in outputs:
                        self._check_open()  # what `aclose` aborts is no answer
                        yield output
        finally:
            self._running.discard(request_id)


def _chunk(out: Any, sampling: Sampling, policy: str) -> Chunk:
    return Chunk(
        index=int(out.index),
        text=out.text,
        finish_reason=finish_reason(out.finish_reason),
        logprobs=logprobs(out, sampling.logprobs),
        policy=policy,
    )
