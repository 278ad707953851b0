"""A policy's answers to suites: each prompt, and each further turn of its user, one after another.

Knows engines and prompts; knows nothing of checks. Start from `answer_suites`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cai.engine.base import Engine
from cai.errors import ContextLengthError
from cai.evaluate.suites import ReadySuite, SuitePrompt
from cai.feedback.asking import gather
from cai.types import ChatPrompt, Conversation, Message, Sampling


class AskConfig(NamedTuple):
    """How a policy is asked."""

    samples: int = 1
    """Answers to each prompt, each in a conversation of its own."""
    temperature: float = 1.0
    max_tokens: int = 512
    seed: int = 0
    concurrency: int = 64
    """Conversations at work at once."""


class Turn(NamedTuple):
    """What was said up to an answer, and the answer."""

    messages: Conversation
    answer: str


@dataclass(frozen=True, slots=True)
class Answered:
    """One sample of a policy's answers to one prompt; a `problem` says why there are none."""

    suite: str
    policy: str
    prompt: SuitePrompt
    sample: int
    turns: tuple[Turn, ...]
    num_cut: int = 0
    """Answers that the limit of tokens cut off."""
    problem: str | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """The same for the same prompt and sample of every policy."""
        return self.suite, self.prompt.id or "", self.sample

    def as_dict(self) -> dict[str, Any]:
        """A line of `answers.jsonl`."""
        line: dict[str, Any] = {
            "suite": self.suite,
            "policy": self.policy,
            "prompt": self.prompt.id,
            "sample": self.sample,
            "tags": list(self.prompt.tags),
            "messages": [one.as_dict() for one in self.messages],
            "answers": [one.answer for one in self.turns],
        }
        if self.num_cut:
            line["cut"] = self.num_cut
        if self.problem is not None:
            line["problem"] = self.problem
        return line

    @property
    def messages(self) -> Conversation:
        """The whole conversation, the last answer included."""
        if not self.turns:
            return self.prompt.messages
        return (*self.turns[-1].messages, Message("assistant", self.turns[-1].answer))


async def answer_suites(
    engine: Engine,
    policy: str,
    suites: Sequence[ReadySuite],
    config: AskConfig,
    *,
    on_answer: Callable[[], None] | None = None,
) -> list[Answered]:
    """Every sample of every prompt, in order; `on_answer` is called once for each.

    A conversation that outgrows the engine's context has a problem; engine errors pass through.
    """
    slots = asyncio.Semaphore(config.concurrency)

    async def one(suite: str, prompt: SuitePrompt, sample: int) -> Answered:
        async with slots:
            answered = await _converse(engine, suite, policy, prompt, sample, config)
        if on_answer is not None:
            on_answer()
        return answered

    return await gather(
        [
            one(ready.suite.name, prompt, sample)
            for ready in suites
            for prompt in ready.prompts
            for sample in range(config.samples)
        ]
    )


async def _converse(
    engine: Engine, suite: str, policy: str, prompt: SuitePrompt, sample: int, config: AskConfig
) -> Answered:
    messages = prompt.messages
    turns: list[Turn] = []
    num_cut = 0
    for number, said_next in enumerate((*prompt.then, None)):
        sampling = Sampling(
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            seed=seed_of(config.seed, suite, prompt.id or "", sample, number),
        )
        try:
            made = await engine.generate(ChatPrompt(messages), sampling)
        except ContextLengthError:
            return Answered(suite, policy, prompt, sample, (), problem="context-length")
        turns.append(Turn(messages, made.text.strip()))
        num_cut += made.completions[0].finish_reason == "length"
        if said_next is not None:
            answer, next_ = Message("assistant", turns[-1].answer), Message("user", said_next)
            messages = (*messages, answer, next_)
    return Answered(suite, policy, prompt, sample, tuple(turns), num_cut)


def seed_of(*parts: object) -> int:
    """A seed that hangs on nothing but `parts`, as on the prompt, the sample and the turn."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
