"""What a judge or a reward model says of pairs whose better answer is known: one verdict each.

A pair without a verdict has a reason in its place. Start from `ask_judge` and `ask_reward`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cai.constitution.schema import Constitution
from cai.errors import JudgeError
from cai.evaluate.judge_data import KnownPair
from cai.evaluate.judge_rewards import Reward, score_each
from cai.feedback.asking import gather
from cai.feedback.judge import Judge
from cai.feedback.labels import PairRead, read_pair, sigmoid
from cai.stats.intervals import rate_of

_NO_ORDER = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One pair's verdict, seen from the better answer.

    `read` has both orders: probabilities of the better answer. `p_better` is the label; a tie has
    0.5. Both may be missing: `problem` says why there is no label. `scores` are a reward model's.
    """

    pair: KnownPair
    read: PairRead | None = None
    p_better: float | None = None
    problem: str | None = None
    scores: tuple[float, float] | None = None

    @property
    def right(self) -> float:
        """1 where the better answer is preferred, 0.5 on a tie, 0 else and without a verdict."""
        return 0.0 if self.p_better is None else won(self.p_better)

    @property
    def side(self) -> str | None:
        """The preferred side, as `KnownPair.side` names them; None on a tie and without one."""
        if self.p_better is None or self.p_better == 0.5:
            return None
        return self.pair.side if self.p_better > 0.5 else self.pair.other_side

    def as_dict(self) -> dict[str, Any]:
        """One line of `verdicts.jsonl`, without the texts."""
        shown: dict[str, Any] = {
            "id": self.pair.id,
            "group": self.pair.group,
            "subset": self.pair.subset or None,
            "p_better": self.p_better,
            "problem": self.problem,
            "scores": None if self.scores is None else list(self.scores),
            "p_first_order": None if self.read is None else self.read.p_ab,
            "p_second_order": None if self.read is None else self.read.p_ba,
            "len_better": len(self.pair.better),
            "len_worse": len(self.pair.worse),
        }
        return {name: value for name, value in shown.items() if value is not None}


def won(p: float) -> float:
    """A probability as a result: 1 for more than a half, 0.5 for a half, 0 for less."""
    return 1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0


def rate_dict(results: Sequence[float]) -> dict[str, Any] | None:
    """The rate of results with its interval, as reports have it; None of nothing."""
    rate = rate_of(math.fsum(results), len(results))
    return None if rate is None else rate.as_dict()


async def ask_judge(
    judge: Judge,
    constitution: Constitution,
    pairs: Sequence[KnownPair],
    *,
    principles: Sequence[str] | None = None,
    seed: int = 0,
    on_pair: Callable[[], None] | None = None,
) -> list[Verdict]:
    """The judge's verdict on each pair, in order, both orders asked.

    Raises InputError for a principle that cannot compare; engine errors pass through.
    """

    async def one(pair: KnownPair) -> Verdict:
        try:
            label = await judge.compare(
                pair.conversation,
                pair.better,
                pair.worse,
                constitution,
                row=pair.id,
                seed=seed,
                principles=principles,
                known="a",
            )
            return Verdict(pair, label.read, label.p_a)
        except JudgeError as exc:
            return _without_label(pair, exc)
        finally:
            if on_pair is not None:
                on_pair()

    return await gather([one(pair) for pair in pairs])


async def ask_reward(
    reward: Reward, pairs: Sequence[KnownPair], *, on_pair: Callable[[int], None] | None = None
) -> list[Verdict]:
    """The reward model's verdict on each pair: σ of the difference; each answer is scored once."""
    answers = dict.fromkeys(
        [(pair.conversation, text) for pair in pairs for text in (pair.better, pair.worse)]
    )
    found = await score_each(reward, list(answers), on_scored=on_pair)
    scores = dict(zip(answers, found, strict=True))
    return [
        _by_scores(
            pair, scores[pair.conversation, pair.better], scores[pair.conversation, pair.worse]
        )
        for pair in pairs
    ]


def _by_scores(pair: KnownPair, better: float | None, worse: float | None) -> Verdict:
    if better is None or worse is None:
        return Verdict(pair, problem="not-scored")
    p = sigmoid(better - worse)
    read = PairRead(order_ab={}, order_ba={}, p_ab=p, p_ba=p, mass=_NO_ORDER)
    return Verdict(pair, read, p, "tie" if better == worse else None, (better, worse))


def _without_label(pair: KnownPair, exc: JudgeError) -> Verdict:
    """What was measured before the verdict was refused; a tie still says that it is one."""
    label = exc.details.get("label")
    if not isinstance(label, Mapping):
        return Verdict(pair, problem=exc.reason)
    read = read_pair(label["order_ab"], label["order_ba"])
    if exc.details.get("preferred") == "b":
        read = read.swapped()
    return Verdict(pair, read, 0.5 if exc.reason == "tie" else None, exc.reason)
