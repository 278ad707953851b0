"""What an episode is worth: by a reward model here, one behind an address, or the AI judge.

Each source scores a batch; None is an episode without a verdict, which the loop leaves out and
counts. Start from `ModelRewards`, `RemoteRewards` or `JudgeRewards`; `shaped` comes after them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cai.errors import JudgeError
from cai.feedback.guards import find_problem
from cai.train.items import RenderedText
from cai.train.rollouts import Episode, PromptIds
from cai.types import Conversation

if TYPE_CHECKING:
    from cai.constitution.schema import Constitution
    from cai.feedback.judge import Judge
    from cai.train.remote_reward import RemoteReward
    from cai.train.scorer import RewardScorer


class PpoPrompt(NamedTuple):
    """A conversation to answer: its id in the data, its messages, and its tokens."""

    id: str
    messages: Conversation
    ids: PromptIds


class Answer(NamedTuple):
    """An episode with the prompt that it answers and its text, without control tokens."""

    prompt: PpoPrompt
    episode: Episode
    text: str


class Rewards(Protocol):
    """A source of rewards."""

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        """One reward per answer, in order; None where there is no verdict."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class ModelRewards:
    """A reward model in this process that reads the policy's own tokens."""

    def __init__(self, scorer: RewardScorer) -> None:
        self._scorer = scorer

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        episodes = [answer.episode for answer in answers]
        return list(self._scorer.score([[*e.prompt_ids, *e.response_ids] for e in episodes]))

    def close(self) -> None:
        self._scorer.close()


class RemoteRewards:
    """A reward model behind an address: it is sent the text, in the policy's own template."""

    def __init__(self, runner: asyncio.Runner, remote: RemoteReward, tokenizer: Any) -> None:
        self._runner = runner
        self._remote = remote
        self._tokenizer = tokenizer

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        items = [self._rendered(answer.episode) for answer in answers]
        return list(self._runner.run(self._remote.score(items)))

    def close(self) -> None:
        self._runner.run(self._remote.aclose())

    def _rendered(self, episode: Episode) -> RenderedText:
        """Decoded as one: of an answer alone, SentencePiece drops the leading space."""
        whole = (*episode.prompt_ids, *episode.response_ids)
        return RenderedText(self._decoded(whole), self._decoded(episode.prompt_ids))

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))


class JudgeRewards:
    """The AI judge: probability that the answer beats the reference's greedy answer, 0 to 1.

    `baselines` has those answers by prompt id. The same words are a tie, 0.5, and an answer that
    cannot be judged (empty, a loop) loses, 0; neither is asked about.
    """

    def __init__(
        self,
        runner: asyncio.Runner,
        judge: Judge,
        constitution: Constitution,
        baselines: Mapping[str, str],
        *,
        seed: int,
    ) -> None:
        self._runner = runner
        self._judge = judge
        self._constitution = constitution
        self._baselines = baselines
        self._seed = seed

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return self._runner.run(self._score(answers))

    def close(self) -> None:
        self._runner.run(self._judge.engine.aclose())

    async def _score(self, answers: Sequence[Answer]) -> list[float | None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._win(answer)) for answer in answers]
        return [task.result() for task in tasks]

    async def _win(self, answer: Answer) -> float | None:
        baseline = self._baselines[answer.prompt.id]
        if answer.text.split() == baseline.split():
            return 0.5
        if find_problem(answer.text, self._judge.config.guards) is not None:
            return 0.0
        try:
            label = await self._judge.compare(
                answer.prompt.messages,
                answer.text,
                baseline,
                self._constitution,
                row=answer.prompt.id,
                seed=self._seed,
            )
        except JudgeError as exc:
            return 0.5 if exc.reason == "tie" else None
        return label.p_a


def shaped(
    reward: float, *, has_ended: bool, clip: float | None, missing_eos_penalty: float
) -> float:
    """A reward held within ±`clip`, less the penalty where the length cap cut the answer."""
    held = reward if clip is None else min(max(reward, -clip), clip)
    return held if has_ended else held - missing_eos_penalty
