"""Keeps two kinds of engine request from sharing a batch.

In vLLM 0.32 a batch that holds one request with `logprob_token_ids` gives those tokens to every
request of the batch, so another request's `logprobs` silently lose their alternatives
(`v1/sample/sampler.py`: "prefer logprob_token_ids"). Label scoring is short and is made to wait
for no one: while requests with log-probs run or wait, `Lanes.scoring` answers False and the caller
reads the labels from ordinary log-probs; where they are too rare for that, it takes its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

Kind = Literal["scoring", "logprobs"]

_OTHER: dict[Kind, Kind] = {"scoring": "logprobs", "logprobs": "scoring"}


class Lanes:
    """Many of one kind at a time, never both; who waits is served in order. For one event loop."""

    def __init__(self) -> None:
        self._num_active: dict[Kind, int] = {"scoring": 0, "logprobs": 0}
        self._waiting: deque[tuple[Kind, asyncio.Future[None]]] = deque()

    @contextmanager
    def scoring(self) -> Iterator[bool]:
        """Hold the scoring lane if it is free at once; the value says whether it is held."""
        if not self._is_free("scoring"):
            yield False
            return
        self._num_active["scoring"] += 1
        try:
            yield True
        finally:
            self._leave("scoring")

    @asynccontextmanager
    async def scoring_in_turn(self) -> AsyncIterator[None]:
        """Hold the scoring lane, after those who came before."""
        await self._enter("scoring")
        try:
            yield
        finally:
            self._leave("scoring")

    @asynccontextmanager
    async def logprobs(self) -> AsyncIterator[None]:
        """Hold the log-prob lane; waits for the scoring requests in flight."""
        await self._enter("logprobs")
        try:
            yield
        finally:
            self._leave("logprobs")

    def _is_free(self, kind: Kind) -> bool:
        return not self._waiting and not self._num_active[_OTHER[kind]]

    async def _enter(self, kind: Kind) -> None:
        if self._is_free(kind):
            self._num_active[kind] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((kind, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(kind)  # the turn came together with the cancel
            else:
                self._waiting.remove((kind, turn))
                self._admit()
            raise

    def _leave(self, kind: Kind) -> None:
        self._num_active[kind] -= 1
        self._admit()

    def _admit(self) -> None:
        """Let in those at the head of the queue who may share the lane with who holds it."""
        while self._waiting:
            kind, turn = self._waiting[0]
            if self._num_active[_OTHER[kind]]:
                return
            self._waiting.popleft()
            self._num_active[kind] += 1
            turn.set_result(None)
