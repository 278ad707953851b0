"""Reward models where a judge may stand: a folder, a policy's name, or an address of /v1/rewards.

Training's scorers are reached by name, since they are of this layer. Start from `open_reward`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from cai.errors import InputError
from cai.policy.resolve import resolve_policy
from cai.registry import load_object
from cai.types import Conversation

CHUNK = 64
"""Answers that are scored in one call."""

Answered = tuple[Conversation, str]


class Reward(Protocol):
    """Something that scores answers; the difference of two is the log-odds between them."""

    name: str
    digest: str | None

    async def score(self, answers: Sequence[Answered]) -> list[float]:
        """One finite number per answer. Raises InputError for one that cannot be read."""
        ...

    async def aclose(self) -> None:
        """Give back what is held."""
        ...


def open_reward(ref: str, home: Path, *, device: str | None = None) -> Reward:
    """The reward model that `ref` names. Raises ConfigError, NotFoundError and PolicyError."""
    if ref.lower().startswith(("http://", "https://")):
        return _Remote(load_object("cai.train.remote_reward:RemoteReward")(ref))
    folder = resolve_policy(ref, home)
    return _Local(load_object("cai.train.scorer:RewardScorer").load(folder, device=device))


async def score_each(
    reward: Reward, answers: Sequence[Answered], *, on_scored: Callable[[int], None] | None = None
) -> list[float | None]:
    """A score for each answer; None for one that the model cannot read, as one that is too long.

    Raises the model's InputError when it can read none of them.
    """
    scores: list[float | None] = []
    problem: InputError | None = None
    for start in range(0, len(answers), CHUNK):
        chunk = answers[start : start + CHUNK]
        try:
            scores += await reward.score(chunk)
        except InputError as exc:
            problem = exc
            scores += [await _score_one(reward, one) for one in chunk]
        if on_scored is not None:
            on_scored(len(chunk))
    if problem is not None and all(score is None for score in scores):
        raise problem
    return scores


async def _score_one(reward: Reward, answer: Answered) -> float | None:
    try:
        return (await reward.score([answer]))[0]
    except InputError:
        return None


def _items(answers: Sequence[Answered]) -> list[Any]:
    make = load_object("cai.train.items:Answered")
    return [make(prompt, answer) for prompt, answer in answers]


class _Remote:
    digest: str | None = None

    def __init__(self, remote: Any) -> None:
        self._remote = remote
        self.name: str = remote.name

    async def score(self, answers: Sequence[Answered]) -> list[float]:
        scores: list[float] = await self._remote.score(_items(answers))
        return scores

    async def aclose(self) -> None:
        await self._remote.aclose()


class _Local:
    def __init__(self, scorer: Any) -> None:
        self._scorer = scorer
        self.name: str = scorer.name
        self.digest: str | None = scorer.digest

    async def score(self, answers: Sequence[Answered]) -> list[float]:
        scores: list[float] = (await self._scorer.score_async(_items(answers))).rewards
        return scores

    async def aclose(self) -> None:
        self._scorer.close()
