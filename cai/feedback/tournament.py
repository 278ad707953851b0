"""Which of several answers meet, and what their meetings say: schedule, ratings, cycles.

Knows indices and labels; what an answer is excluded for, and what a ranking looks like, is in
`ranking`. Start from `play`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

from cai.constitution.schema import Constitution
from cai.errors import JudgeError
from cai.feedback.asking import gather
from cai.feedback.config import PairChoice, RankingConfig
from cai.feedback.judge import Judge
from cai.feedback.labels import is_decided
from cai.feedback.records import PairLabel
from cai.stats.ratings import Comparison, Ratings, bradley_terry, components
from cai.types import Conversation

Edge = tuple[int, int]

_MAX_REFITS = 4


@dataclass(slots=True)
class Table:
    """The comparisons of one ranking: asks them, and keeps what came of each.

    `measured` has, for a comparison in `failed`, what the judge measured before it refused.
    """

    judge: Judge
    conversation: Conversation
    answers: Sequence[str]
    constitution: Constitution
    row: str
    seed: int
    principles: Sequence[str] | None
    labels: dict[Edge, PairLabel] = field(default_factory=dict)
    failed: dict[Edge, str] = field(default_factory=dict)
    measured: dict[Edge, Mapping[str, Any]] = field(default_factory=dict)

    async def ask(self, edges: Iterable[Edge]) -> bool:
        """Ask what was not asked yet, all at once; whether there was anything to ask."""
        new = sorted({(min(edge), max(edge)) for edge in edges} - self.asked)
        await gather([self._ask_one(edge) for edge in new])
        return bool(new)

    async def _ask_one(self, edge: Edge) -> None:
        try:
            self.labels[edge] = await self.judge.compare(
                self.conversation,
                self.answers[edge[0]],
                self.answers[edge[1]],
                self.constitution,
                row=self.row,
                seed=self.seed,
                principles=self.principles,
            )
        except JudgeError as exc:
            self.failed[edge] = exc.reason
            self.measured[edge] = exc.details

    @property
    def asked(self) -> set[Edge]:
        """Pairs with a label or a failure."""
        return self.labels.keys() | self.failed.keys()

    def rate(self, fit: Sequence[int], prior_sd: float) -> Ratings:
        """Ratings of the answers `fit`, in that order, from the labels so far."""
        place = {index: position for position, index in enumerate(fit)}
        games = [
            Comparison(place[i], place[j], label.p_a)
            for (i, j), label in sorted(self.labels.items())
        ]
        return bradley_terry(len(fit), games, prior_sd=prior_sd)


async def play(table: Table, fit: Sequence[int], config: RankingConfig) -> Ratings:
    """Compare the answers `fit` until they are linked and training has its pairs; their ratings.

    The ratings are in the order of `fit`. Raises JudgeError when the verdicts do not link them all.
    """
    if len(fit) <= config.all_pairs_up_to:
        await table.ask(combinations(fit, 2))
    else:
        await table.ask(zip(fit, [*fit[1:], fit[0]], strict=True))
        for _ in range(config.rounds):
            order = [fit[place] for place in table.rate(fit, config.prior_sd).order]
            await table.ask(_swiss_round(order, table.asked))
    _require_linked(table, fit)
    for _ in range(_MAX_REFITS):
        ratings = table.rate(fit, config.prior_sd)
        order = [fit[place] for place in ratings.order]
        if config.pairs == "all" or not await table.ask(wanted_pairs(order, config.pairs)):
            return ratings
    return table.rate(fit, config.prior_sd)


def wanted_pairs(order: Sequence[int], how: PairChoice) -> list[Edge]:
    """The (better, worse) pairs that training wants from an order, best first."""
    if how == "best-worst":
        return [(order[0], order[-1])]
    if how == "adjacent":
        return list(pairwise(order))
    return list(combinations(order, 2))


def find_cycles(
    labels: Mapping[Edge, PairLabel], *, band: float = 0.0
) -> tuple[tuple[int, ...], ...]:
    """Groups of answers that beat each other in a circle, by labels outside 0.5 ± `band`."""
    beats: dict[int, set[int]] = {}
    for (i, j), label in labels.items():
        if is_decided(label.p_a, band):
            winner, loser = (i, j) if label.p_a > 0.5 else (j, i)
            beats.setdefault(winner, set()).add(loser)
    reach = {start: _reachable(start, beats) for start in beats}
    groups = {
        tuple(sorted(other for other in reach[start] if start in reach.get(other, ())))
        for start in reach
        if start in reach[start]
    }
    return tuple(sorted(groups))


def _swiss_round(order: Sequence[int], asked: set[Edge]) -> list[Edge]:
    """Each answer with the nearest one in order that it has not met yet."""
    waiting, edges = list(order), []
    while waiting:
        first = waiting.pop(0)
        for other in waiting:
            if (min(first, other), max(first, other)) not in asked:
                waiting.remove(other)
                edges.append((first, other))
                break
    return edges


def _require_linked(table: Table, fit: Sequence[int]) -> None:
    place = {index: position for position, index in enumerate(fit)}
    groups = components(len(fit), [(place[i], place[j]) for i, j in table.labels])
    if len(groups) > 1:
        reasons = sorted(set(table.failed.values()))
        raise JudgeError(
            f"{len(table.failed)} of {len(table.asked)} comparisons have no verdict "
            f"({', '.join(reasons)}), so the answers cannot be put in one order",
            reason=reasons[0] if len(reasons) == 1 else "disconnected",
            details={
                "labels": dict(sorted(table.labels.items())),
                "failed": dict(sorted(table.failed.items())),
                "measured": table.measured,
            },
        )


def _reachable(start: int, beats: Mapping[int, set[int]]) -> set[int]:
    seen: set[int] = set()
    waiting = list(beats.get(start, ()))
    while waiting:
        if (one := waiting.pop()) not in seen:
            seen.add(one)
            waiting.extend(beats.get(one, ()))
    return seen
