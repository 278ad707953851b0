"""Which principles moved the labels of a data set, or of a comparison of policies.

Shares of the decisive verdicts, labels that turn when a principle is left out, principles that say
the same, and those that never matter. Pure functions over ballots: `ballots_of_rows` reads what a
run stored, `ask_ballots` puts every principle's question anew. Start from `attribute`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from cai.constitution.schema import Composition, Constitution
from cai.engine.base import Engine
from cai.errors import JudgeError
from cai.evaluate.impact_pairs import JudgedPair
from cai.feedback import labels
from cai.feedback.asking import Asked, Pair, ask, gather
from cai.feedback.config import JudgeConfig
from cai.feedback.labels import Vote
from cai.stats.correlation import pearson

DECISIVE = 0.1
"""A verdict is decisive when its label lies outside 0.5 ± this."""

REDUNDANT = 0.9
"""Correlation of two principles' votes from which they are told of as redundant."""

MIN_SHARED = 20
"""Pairs that two principles must both have judged for a correlation to be told."""


class Ballot(NamedTuple):
    """What the principles said of one pair; `decided_by` made its label `p_a`."""

    votes: tuple[Vote, ...]
    p_a: float
    decided_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """One principle's part. `num_turned` is None where no ballot had another vote beside its own.

    `mean_p_a`: how much it liked the answers `a`: those chosen, or those of the first policy.
    """

    id: str
    num_votes: int
    share_decisive: float
    mean_p_a: float
    num_turned: int | None

    @property
    def never_matters(self) -> bool:
        """Whether it decided nothing, and nothing turned without it."""
        return self.share_decisive == 0 and not self.num_turned

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        shown: dict[str, Any] = {
            "id": self.id,
            "votes": self.num_votes,
            "share_decisive": round(self.share_decisive, 6),
            "mean_p_a": round(self.mean_p_a, 6),
            "never_matters": self.never_matters,
        }
        return shown if self.num_turned is None else {**shown, "turned": self.num_turned}


class Redundancy(NamedTuple):
    """Two principles whose votes go together over `num_shared` pairs."""

    first: str
    second: str
    correlation: float
    num_shared: int


@dataclass(frozen=True, slots=True)
class Attribution:
    """Every principle's part in `num_labels` labels, of which `num_decisive` were decisive."""

    num_labels: int
    num_decisive: int
    shares: tuple[Share, ...]
    redundant: tuple[Redundancy, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": 1,
            "labels": self.num_labels,
            "decisive": self.num_decisive,
            "principles": [one.as_dict() for one in self.shares],
            "redundant": [one._asdict() for one in self.redundant],
        }


def attribute(
    ballots: Iterable[Ballot],
    composition: Composition,
    *,
    principles: Sequence[str] = (),
    band: float = DECISIVE,
) -> Attribution:
    """The parts of all principles that voted, and of `principles` that did not, largest first."""
    cast = list(ballots)
    decisive = [one for one in cast if labels.is_decided(one.p_a, band)]
    ids = dict.fromkeys([vote.principle for one in cast for vote in one.votes])
    shares = [
        _share(id, cast, decisive, composition) for id in {**ids, **dict.fromkeys(principles)}
    ]
    ordered = sorted(shares, key=lambda one: (-one.share_decisive, -one.num_votes, one.id))
    return Attribution(len(cast), len(decisive), tuple(ordered), tuple(_redundant(cast, list(ids))))


def ballots_of_rows(
    rows: Iterable[Mapping[str, Any]], *, vetoes: Collection[str] = ()
) -> Iterator[Ballot]:
    """The ballots that a run stored, seen from the chosen answer; rows without a label are left.

    `vetoes` are the ids of principles that may veto, which rows do not tell.
    """
    for row in rows:
        label = row.get("label")
        if not isinstance(label, Mapping) or "principles" not in label:
            continue
        decided_by = tuple(label["principles"])
        stored = label.get("votes") or [{"principle": id, **label} for id in decided_by[:1]]
        votes = tuple(
            Vote(
                one["principle"],
                labels.read_pair(one["order_ab"], one["order_ba"]),
                one.get("weight", 1.0),
                one["principle"] in vetoes,
            )
            for one in stored
        )
        yield Ballot(votes, float(row["p_chosen"]), decided_by)


async def ask_ballots(
    engine: Engine,
    constitution: Constitution,
    pairs: Sequence[JudgedPair],
    *,
    config: JudgeConfig | None = None,
    on_pair: Callable[[], None] | None = None,
) -> list[Ballot]:
    """Ask every principle about every pair. Pairs without any verdict are left out."""
    config = config or JudgeConfig()
    composition = config.composition or constitution.composition
    slots = asyncio.Semaphore(max(1, config.max_in_flight // len(constitution.principles)))

    async def one(pair: JudgedPair) -> Ballot | None:
        shown = Pair(pair.conversation, pair.a, pair.b)
        async with slots:
            try:
                answers: list[Asked] = await gather(
                    [ask(engine, shown, p, config) for p in constitution.candidates("compare")]
                )
                votes = tuple([found.vote for found in answers if found.vote is not None])
                combined = labels.combine(votes, composition, band=config.decided_band)
            except JudgeError:
                return None
        if on_pair is not None:
            on_pair()
        return Ballot(votes, combined.read.p_a, combined.decided_by)

    return [found for found in await gather([one(pair) for pair in pairs]) if found is not None]


def _share(
    id: str, cast: Sequence[Ballot], decisive: Sequence[Ballot], composition: Composition
) -> Share:
    own = [vote for one in cast for vote in one.votes if vote.principle == id]
    parts = sum(1 / len(one.decided_by) for one in decisive if id in one.decided_by)
    shared = [
        one for one in cast if len(one.votes) > 1 and any(v.principle == id for v in one.votes)
    ]
    return Share(
        id=id,
        num_votes=len(own),
        share_decisive=parts / len(decisive) if decisive else 0.0,
        mean_p_a=sum(vote.p_a for vote in own) / len(own) if own else 0.5,
        num_turned=sum(_turns(one, id, composition) for one in shared) if shared else None,
    )


def _turns(ballot: Ballot, id: str, composition: Composition) -> bool:
    """Whether the label prefers the other answer when a principle's vote is left out."""
    rest = [vote for vote in ballot.votes if vote.principle != id]
    p_a = labels.combine(rest, composition).read.p_a
    return (p_a > 0.5) != (ballot.p_a > 0.5)


def _redundant(cast: Sequence[Ballot], ids: Sequence[str]) -> Iterator[Redundancy]:
    by_id: dict[str, dict[int, float]] = {id: {} for id in ids}
    for at, ballot in enumerate(cast):
        for vote in ballot.votes:
            by_id[vote.principle][at] = vote.p_a
    for first, second in combinations(ids, 2):
        shared = sorted(by_id[first].keys() & by_id[second].keys())
        if len(shared) < MIN_SHARED:
            continue
        r = pearson([by_id[first][at] for at in shared], [by_id[second][at] for at in shared])
        if r is not None and r >= REDUNDANT:
            yield Redundancy(first, second, round(r, 4), len(shared))
