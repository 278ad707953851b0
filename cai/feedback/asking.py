"""Puts one principle's question to an engine in both orders, and reads the answers.

Knows engines and prompts; knows nothing of how principles combine. Start from `ask`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from cai.constitution.schema import Principle
from cai.engine.base import Engine
from cai.errors import ContextLengthError, JudgeError, UnsupportedError
from cai.feedback import labels, prompts, reasoning
from cai.feedback.config import JudgeConfig
from cai.feedback.labels import PairRead, Vote
from cai.types import ChatPrompt, Conversation, LabelScores, Sampling, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a conversation, and the seed for a judge that reasons."""

    conversation: Conversation
    a: str
    b: str
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """One principle's answer in both orders; without a verdict, `problem` says why."""

    principle: str
    vote: Vote | None
    problem: JudgeError | None
    policies: frozenset[str]
    usage: Usage
    reasoning: tuple[str, ...]

    def required(self) -> Asked:
        """Itself; raises the problem when there is no verdict."""
        if self.problem is not None:
            raise self.problem
        return self


class _Order(NamedTuple):
    scores: LabelScores
    usage: Usage
    reasoning: tuple[str, ...] = ()


async def ask(engine: Engine, pair: Pair, principle: Principle, config: JudgeConfig) -> Asked:
    """Ask under one principle which of the pair is better, both orders at once.

    Raises JudgeError when the pair does not fit the engine or it lacks the label tokens; engine
    errors pass through.
    """
    text = principle.compare or ""
    ab, ba = await _both(
        _order(engine, pair, pair.a, pair.b, text, config),
        _order(engine, pair, pair.b, pair.a, text, config),
    )
    vote, problem = None, None
    try:
        read = labels.read_pair(ab.scores.logprobs, ba.scores.logprobs)
        check_mass(min(read.mass), config.min_mass, read)
        vote = Vote(principle.id, read, principle.weight, "veto" in principle.tags)
    except JudgeError as exc:
        exc.details["principle"] = principle.id
        problem = exc
    return Asked(
        principle=principle.id,
        vote=vote,
        problem=problem,
        policies=frozenset({ab.scores.policy, ba.scores.policy}),
        usage=ab.usage + ba.usage,
        reasoning=ab.reasoning + ba.reasoning,
    )


def check_mass(mass: float, min_mass: float, read: PairRead | None = None) -> None:
    """Raise JudgeError when the letters hold too little of the judge's probability."""
    if mass < min_mass:
        raise JudgeError(
            f"the letters hold {mass:.3f} of the judge's probability, {min_mass} is needed",
            reason="low-mass",
            details=read.as_dict() if read is not None else {},
        )


async def gather(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first failure cancels the rest and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, T]) -> tuple[T, T]:
    """`gather` for two, at half its cost: a run does this for each of its pairs."""
    other = asyncio.create_task(second)
    try:
        one = await first
        return one, await other
    except BaseException:
        other.cancel()
        await asyncio.wait([other])
        if not other.cancelled():
            other.exception()  # seen: the first failure is the one that is raised
        raise


async def _order(
    engine: Engine, pair: Pair, first: str, second: str, text: str, config: JudgeConfig
) -> _Order:
    try:
        if config.cot:
            return await _reasoned_order(engine, pair, first, second, text, config)
        asked = prompts.ask_comparison(pair.conversation, first, second, text)
        scores = await engine.score(ChatPrompt(asked), prompts.LABELS)
        return _Order(scores, scores.usage)
    except ContextLengthError as exc:
        raise JudgeError(f"the pair does not fit the judge: {exc}", reason="over-long") from exc
    except UnsupportedError as exc:
        raise JudgeError(f"the judge cannot answer: {exc}", reason="no-label-tokens") from exc


async def _reasoned_order(
    engine: Engine, pair: Pair, first: str, second: str, text: str, config: JudgeConfig
) -> _Order:
    asked = reasoning.ask_reasoning(pair.conversation, first, second, text)
    sampling = Sampling(
        max_tokens=config.cot_max_tokens, temperature=config.cot_temperature, seed=pair.seed
    )
    generation = await engine.generate(ChatPrompt(asked), sampling)
    said = reasoning.reasoning_text(generation.text)
    closed = reasoning.ask_letter(asked, said)
    scores = await engine.score(ChatPrompt(closed), prompts.LABELS)
    return _Order(scores, generation.usage + scores.usage, (said,))
