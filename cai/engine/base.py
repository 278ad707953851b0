"""The engine protocol: generate, stream, score, say who you are, close.

Everything above this layer (loop, judge, pipeline, server) knows engines only through it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, runtime_checkable

from cai.types import Chunk, EngineIdentity, Generation, LabelScores, Prompt, Sampling, TokenLogprob


@runtime_checkable
class Engine(Protocol):
    """A model that can be asked. Safe for many concurrent calls on one event loop.

    Cancelling a call (or closing a stream's iterator) aborts its generation in the engine.

    Every call raises ContextLengthError when the prompt does not fit, OverloadedError when the
    queue is full, EngineDeadError when the engine is gone, EngineTimeoutError when a limit ran out.
    """

    def identity(self) -> EngineIdentity:
        """Who answers now; recorded with everything made."""
        ...

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        """`sampling.n` completions, whole."""
        ...

    def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """The same, in pieces as they come. The last chunk carries the usage."""
        ...

    async def score(self, prompt: Prompt, labels: Sequence[str]) -> LabelScores:
        """Log-probs of `labels` as the next token: one prefill, no text.

        Raises UnsupportedError when a label is not a single token for this model, or two labels
        begin with the same token.
        """
        ...

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        """Log-prob of each prompt token given those before it, from the second token on."""
        ...

    async def count_tokens(self, prompt: Prompt) -> int:
        """How many tokens the prompt takes, where the engine can tell without generating.

        Raises UnsupportedError where it cannot.
        """
        ...

    async def check(self) -> None:
        """Return when the engine is alive and answering; raise an EngineError otherwise."""
        ...

    async def aclose(self) -> None:
        """Stop, and free what is held. Repeated calls do nothing."""
        ...
