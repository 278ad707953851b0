"""Keeps two kinds of engine request from sharing a batch.

In vLLM 0.32 a batch that holds one request with `logprob_token_ids` gives those tokens to every
request of the batch, so another request's `logprobs` silently lose their alternatives
(`v1/sample/sampler.py`: "prefer logprob_token_ids"). Label scoring is short and is made to wait
for no one: while requests with log-probs run or wait, `Lanes.scoring` answers False and the caller
reads the labels from ordinary log-probs instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Lanes:
    """Counts what is in flight of each kind. For one event loop."""

    def __init__(self) -> None:
        self._num_scoring = 0
        self._num_logprobs = 0
        self._idle_scoring = asyncio.Event()
        self._idle_scoring.set()
        self._idle_logprobs = asyncio.Event()
        self._idle_logprobs.set()

    @contextmanager
    def scoring(self) -> Iterator[bool]:
        """Hold the scoring lane if it is free; the value says whether it is held."""
        if self._num_logprobs:
            yield False
            return
        self._num_scoring += 1
        self._idle_scoring.clear()
        try:
            yield True
        finally:
            self._num_scoring -= 1
            if not self._num_scoring:
                self._idle_scoring.set()

    @asynccontextmanager
    async def logprobs(self) -> AsyncIterator[None]:
        """Hold the log-prob lane; waits for the scoring requests in flight."""
        self._num_logprobs += 1
        self._idle_logprobs.clear()
        try:
            await self._idle_scoring.wait()
            yield
        finally:
            self._num_logprobs -= 1
            if not self._num_logprobs:
                self._idle_logprobs.set()

    async def until_no_logprobs(self) -> None:
        """Wait until the scoring lane is free."""
        await self._idle_logprobs.wait()
