"""What an arena tells: players, how sure each two are told apart, and what length is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cai.stats.intervals import Interval, Rate, rate_of

CENTRE: Final = 1000.0
SCALE: Final = 400 / math.log(10)
"""Points of a rating per log-odds: 400 points are odds of 10 to 1, as with Elo."""

SEPARATED: Final = 0.975
"""Share of bootstrap samples in which one is above another, from which they count as separated."""


@dataclass(frozen=True, slots=True)
class Player:
    """A rated policy, in points. `ranks` are the best and the worst that its rivals leave open."""

    name: str
    rating: float
    ci: Interval
    ranks: tuple[int, int]
    elo: float
    wins: int
    ties: int
    losses: int
    share: Rate
    is_bounded: bool
    """Whether it won something and lost something; else the prior alone holds its rating."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "policy": self.name,
            "rating": round(self.rating, 2),
            "ci": [round(end, 2) for end in self.ci],
            "ranks": list(self.ranks),
            "elo": round(self.elo, 2),
            "games": self.wins + self.ties + self.losses,
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "win_rate": self.share.as_dict(),
            **({} if self.is_bounded else {"bounded_by_prior": True}),
        }


@dataclass(frozen=True, slots=True)
class Style:
    """What length alone is worth, and the ratings at equal length, with Wald's intervals.

    `weight` is in log-odds per standard deviation `sd` of (longer − shorter) / sum.
    """

    weight: float
    ci: Interval
    sd: float
    num_games: int
    ratings: Mapping[str, tuple[float, Interval]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "covariate": "(len_a - len_b) / (len_a + len_b)",
            "weight": round(self.weight, 6),
            "ci": [round(end, 6) for end in self.ci],
            "sd": round(self.sd, 6),
            "games": self.num_games,
            "players": [
                {"policy": name, "rating": round(rating, 2), "ci": [round(end, 2) for end in ci]}
                for name, (rating, ci) in self.ratings.items()
            ],
        }


@dataclass(frozen=True, slots=True)
class Arena:
    """The players from the best to the worst, and how sure each two are told apart.

    `above` has the share of samples in which the first of a pair is rated above the second.
    """

    players: tuple[Player, ...]
    unrated: Mapping[str, int]
    above: Mapping[tuple[str, str], float]
    met: Mapping[tuple[str, str], tuple[float, int]]
    style: Style | None
    num_games: int
    resampled: str

    def as_dict(self) -> dict[str, Any]:
        """The figures of a result."""
        shown: dict[str, Any] = {
            "games": self.num_games,
            "players": [player.as_dict() for player in self.players],
            "unrated": [{"policy": name, "games": n} for name, n in self.unrated.items()],
            "pairs": [self._pair(a, b) for a, b in self.above],
            "resampled": self.resampled,
            "style": None if self.style is None else self.style.as_dict(),
        }
        return {name: value for name, value in shown.items() if value is not None}

    def _pair(self, a: str, b: str) -> dict[str, Any]:
        share = self.above[a, b]
        won, n = self.met.get((a, b), (0.0, 0))
        rate = rate_of(won, n)
        return {
            "a": a,
            "b": b,
            "p_a_above": round(share, 4),
            "separated": max(share, 1 - share) >= SEPARATED,
            **({} if rate is None else {"win_rate_a": rate.as_dict()}),
        }


def to_points(value: float) -> float:
    """A rating in log-odds as points.

    >>> round(to_points(math.log(10)))
    1400
    """
    return CENTRE + SCALE * value
