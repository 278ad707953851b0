"""Several answers to one prompt into one order, by comparisons and Bradley–Terry over soft labels.

All pairs for a few answers; a ring and Swiss rounds for more. Pairs without a verdict are borne as
long as the rest links all answers. Start from `rank`; `choose_pairs` takes what training needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from cai.constitution.schema import Constitution
from cai.errors import InputError, JudgeError
from cai.feedback.config import PairChoice, RankingConfig
from cai.feedback.guards import find_problem, talks_to_judge
from cai.feedback.judge import Judge
from cai.feedback.records import PairLabel
from cai.feedback.tournament import Edge, Table, find_cycles, play, wanted_pairs
from cai.stats.ratings import Ratings
from cai.types import Conversation

MIN_ANSWERS, MAX_ANSWERS = 2, 9


@dataclass(frozen=True, slots=True)
class Ranking:
    """Answers in order, by index, with what the order rests on.

    `scores` are log-odds with mean 0 and `errors` their standard errors; both are None for an
    answer in `excluded`, which no judge saw. `labels` and `failed` have keys (i, j) with i < j;
    `measured` has what the judge measured before it refused a pair of `failed`.
    `cycles` are groups in which each answer beats another and is beaten by one.
    """

    order: tuple[int, ...]
    scores: tuple[float | None, ...]
    errors: tuple[float | None, ...]
    labels: Mapping[Edge, PairLabel]
    failed: Mapping[Edge, str] = field(default_factory=dict)
    measured: Mapping[Edge, Mapping[str, Any]] = field(default_factory=dict)
    excluded: Mapping[int, str] = field(default_factory=dict)
    same_as: Mapping[int, int] = field(default_factory=dict)
    cycles: tuple[tuple[int, ...], ...] = ()
    confidence: tuple[float, ...] = ()

    def label(self, i: int, j: int) -> PairLabel | None:
        """The label of a pair with `i` as its `a`; None when it was not compared or failed."""
        if i < j:
            return self.labels.get((i, j))
        found = self.labels.get((j, i))
        return found and found.swapped()

    def as_dict(self) -> dict[str, Any]:
        """For manifests and the wire. `confidence` is of each answer over the next in order."""
        return {
            "order": list(self.order),
            "scores": list(self.scores),
            "errors": list(self.errors),
            "confidence": list(self.confidence),
            "cycles": [list(group) for group in self.cycles],
            "pairs": [
                {"a": i, "b": j, "p_a": label.p_a, "label": label.as_dict()}
                for (i, j), label in sorted(self.labels.items())
            ],
            "failed": [{"a": i, "b": j, "reason": why} for (i, j), why in self.failed.items()],
            "excluded": {str(index): why for index, why in self.excluded.items()},
            "same_as": {str(index): first for index, first in self.same_as.items()},
        }


class ChosenPair(NamedTuple):
    """A pair for training: indices, and the label with the chosen answer as `a`."""

    chosen: int
    rejected: int
    label: PairLabel


class Choice(NamedTuple):
    """Pairs for training, and (better, worse, reason) of those wanted that cannot be used."""

    pairs: list[ChosenPair]
    left_out: list[tuple[int, int, str]]


async def rank(
    judge: Judge,
    conversation: Conversation,
    answers: Sequence[str],
    constitution: Constitution,
    *,
    row: str,
    seed: int = 0,
    config: RankingConfig | None = None,
    principles: Sequence[str] | None = None,
) -> Ranking:
    """Order 2 to 9 answers to `conversation`, the best first.

    All comparisons of a row are under the same principle (drawn by `row`), so that they can agree
    on an order. Empty and degenerate answers are excluded, identical ones share a place. The pairs
    that `config.pairs` wants are compared even where the schedule left them out.
    Raises JudgeError when fewer than two answers can be judged, or when the verdicts do not link
    them all; engine errors pass through.
    """
    if not MIN_ANSWERS <= len(answers) <= MAX_ANSWERS:
        raise InputError(
            f"{len(answers)} answers; a ranking takes {MIN_ANSWERS} to {MAX_ANSWERS}",
            param="responses",
        )
    settings = config or RankingConfig()
    excluded = _excluded(judge, conversation, answers)
    same_as = _same_as(answers, excluded)
    fit = [i for i in range(len(answers)) if i not in excluded and i not in same_as]
    if len(fit) < 2:
        reason = next(iter(excluded.values()), "identical")
        raise JudgeError(
            f"{len(fit)} of {len(answers)} answers can be judged, at least 2 are needed",
            reason=reason,
        )
    table = Table(judge, conversation, answers, constitution, row, seed, principles)
    ratings = await play(table, fit, settings)
    return _ranking(table, fit, ratings, len(answers), excluded, same_as)


def choose_pairs(
    ranking: Ranking, how: PairChoice = "best-worst", *, min_margin: float = 0.0
) -> Choice:
    """The pairs of a ranking that training gets, the better answer of each as chosen.

    A pair whose own label goes against the order (a cycle) is left out, and so is one without a
    verdict or with a margin under `min_margin`; `left_out` says which and why.
    """
    order = [i for i in ranking.order if i not in ranking.same_as]
    choice = Choice([], [])
    for better, worse in wanted_pairs(order, how):
        label = ranking.label(better, worse)
        if label is None:
            edge = (min(better, worse), max(better, worse))
            if edge in ranking.failed:
                choice.left_out.append((better, worse, ranking.failed[edge]))
        elif label.p_a <= 0.5:
            choice.left_out.append((better, worse, "against-order"))
        elif label.margin < min_margin:
            choice.left_out.append((better, worse, "small-margin"))
        else:
            choice.pairs.append(ChosenPair(better, worse, label))
    return choice


def _excluded(judge: Judge, conversation: Conversation, answers: Sequence[str]) -> dict[int, str]:
    guards = judge.config.guards
    excluded: dict[int, str] = {}
    for index, text in enumerate(answers):
        if finding := find_problem(text, guards):
            excluded[index] = finding.reason
        elif guards.talks_to_judge == "refuse" and talks_to_judge(text, conversation):
            excluded[index] = "talks-to-judge"
    return excluded


def _same_as(answers: Sequence[str], excluded: Mapping[int, str]) -> dict[int, int]:
    """Later copies of an answer, each with the index of the first."""
    first: dict[str, int] = {}
    same: dict[int, int] = {}
    for index, text in enumerate(answers):
        if index in excluded:
            continue
        original = first.setdefault(" ".join(text.split()), index)
        if original != index:
            same[index] = original
    return same


def _ranking(
    table: Table,
    fit: Sequence[int],
    ratings: Ratings,
    num_answers: int,
    excluded: Mapping[int, str],
    same_as: Mapping[int, int],
) -> Ranking:
    place = {index: position for position, index in enumerate(fit)}
    place |= {copy: place[first] for copy, first in same_as.items()}
    order = sorted(place, key=lambda index: (ratings.order.index(place[index]), index))
    errors = ratings.errors
    return Ranking(
        order=tuple(order),
        scores=tuple(ratings.values[place[i]] if i in place else None for i in range(num_answers)),
        errors=tuple(errors[place[i]] if i in place else None for i in range(num_answers)),
        labels=dict(sorted(table.labels.items())),
        failed=dict(sorted(table.failed.items())),
        measured=table.measured,
        excluded=excluded,
        same_as=same_as,
        cycles=find_cycles(table.labels, band=table.judge.config.tie_band),
        confidence=tuple(
            0.5 if place[i] == place[j] else ratings.confidence(place[i], place[j])
            for i, j in pairwise(order)
        ),
    )
