"""An engine that asks the same question only once, and counts how many it was spared.

Two constitutions that share a principle put the same question to the judge. Wraps any engine.
What is deterministic is kept: `score`, and `generate` at temperature 0; the counts are of `score`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from cai.engine.base import Engine
from cai.types import Chunk, EngineIdentity, Generation, LabelScores, Prompt, Sampling, TokenLogprob

_T = TypeVar("_T")
_Kept = dict[object, asyncio.Task[_T]]


class RememberingEngine:
    """`engine`, with every answer to `score` kept. `num_asked` counts questions it was asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._scores: _Kept[LabelScores] = {}
        self._texts: _Kept[Generation] = {}
        self.num_asked = 0
        self.num_reused = 0

    @property
    def num_questions(self) -> int:
        """How many would have been asked without remembering."""
        return self.num_asked + self.num_reused

    async def score(self, prompt: Prompt, labels: Sequence[str]) -> LabelScores:
        """As the engine's; a question under way is waited for, a failed one is asked again."""
        key = (prompt, tuple(labels))
        if key in self._scores:
            self.num_reused += 1
        else:
            self.num_asked += 1
        return await _once(self._scores, key, lambda: self._engine.score(prompt, labels))

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        """As the engine's; only greedy text is kept."""
        if sampling.temperature > 0:
            return await self._engine.generate(prompt, sampling)
        key = (prompt, sampling)
        return await _once(self._texts, key, lambda: self._engine.generate(prompt, sampling))

    def identity(self) -> EngineIdentity:
        """The engine's own."""
        return self._engine.identity()

    def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """As the engine's."""
        return self._engine.stream(prompt, sampling)

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        """As the engine's."""
        return await self._engine.prompt_logprobs(prompt, top=top)

    async def count_tokens(self, prompt: Prompt) -> int:
        """As the engine's."""
        return await self._engine.count_tokens(prompt)

    async def check(self) -> None:
        """As the engine's."""
        await self._engine.check()

    async def aclose(self) -> None:
        """Stop the questions under way; the engine stays its owner's to close."""
        tasks = [*self._scores.values(), *self._texts.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _once(kept: _Kept[_T], key: object, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    task = kept.get(key)
    if task is None:
        kept[key] = task = asyncio.ensure_future(ask())
        task.add_done_callback(lambda done: _forget_failed(kept, key, done))
    return await asyncio.shield(task)  # another caller may wait for the same answer


def _forget_failed(kept: _Kept[_T], key: object, task: asyncio.Task[_T]) -> None:
    if task.cancelled() or task.exception() is not None:
        kept.pop(key, None)
