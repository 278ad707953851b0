"""Which two policies should meet next: where the order is open and one more game tells the most.

The gain of a game is the information that it is expected to bring on the differences r_i − r_j
whose order is open: ½ log(v / v') nats each, with v the variance before and v' after, times how
open the order is (the entropy of "i is above j"). Where two have met on every prompt, games with
others still tell of them. Nothing here asks anyone; start from `Schedule`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from cai.stats.linear import Matrix
from cai.stats.ratings import Comparison, Ratings, bradley_terry

Stopped = Literal["resolved", "budget", "exhausted"]
Two = tuple[int, int]


class ScheduleConfig(BaseModel):
    """When two policies count as told apart, and how much may be spent on all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    """Probability of an order from which it is settled, above 0.5 and below 1."""
    share: float = Field(default=0.4, gt=0, le=1)
    """Most comparisons, as a share of a full round robin."""
    min_games: int = Field(default=10, ge=1)
    """Games that each policy plays before any of its orders counts as settled."""
    prior_sd: float = Field(default=1.5, gt=0, le=100)
    """Width of the prior on ratings in log-odds; a wide one leaves who always won unsettled."""
    batch: int = Field(default=16, ge=1, le=1024)
    """Comparisons asked at one time, before the ratings are looked at again."""

    def budget(self, num_round_robin: int) -> int:
        """Most comparisons, of so many in a full round robin."""
        return math.ceil(self.share * num_round_robin)

    def fewest(self, num_prompts: int) -> tuple[int, int]:
        """Policies and comparisons without which none has `min_games`: on so many prompts.

        >>> ScheduleConfig(min_games=10).fewest(20), ScheduleConfig(min_games=10).fewest(5)
        ((2, 10), (3, 15))
        """
        num_players = max(2, math.ceil(self.min_games / max(1, num_prompts)) + 1)
        return num_players, math.ceil(num_players * self.min_games / 2)


class Match(NamedTuple):
    """Two policies by number, and the number of the prompt on which they meet."""

    i: int
    j: int
    prompt: int


class Schedule:
    """Hands out matches until all orders are settled, the budget is spent, or prompts run out."""

    def __init__(
        self,
        num_players: int,
        prompts: Mapping[Two, Sequence[int]],
        config: ScheduleConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        """`prompts` has, for each two policies i < j, the prompts that both answered."""
        self.config = config or ScheduleConfig()
        self.num_asked = 0
        self.num_round_robin = sum(map(len, prompts.values()))
        self._num_players = num_players
        self._left = {two: _shuffled(prompts[two], seed, two) for two in sorted(prompts)}
        self._sums: dict[Two, list[float]] = {}

    @property
    def budget(self) -> int:
        """Most comparisons."""
        return self.config.budget(self.num_round_robin)

    def record(self, i: int, j: int, p: float) -> None:
        """Take in a result: the probability that i's answer is the better one."""
        two, result = ((i, j), p) if i < j else ((j, i), 1 - p)
        total = self._sums.setdefault(two, [0.0, 0.0])
        total[0] += result
        total[1] += 1

    def next(self) -> list[Match]:
        """The next matches; none when `stopped` says why."""
        if self.stopped is not None:
            return []
        ratings, matches = self.ratings(), list[Match]()
        covariance = [list(row) for row in ratings.covariance]
        room = min(self.config.batch, self.budget - self.num_asked)
        worth = {two: _entropy(ratings.confidence(*two)) for two in self._open(ratings)}
        while len(matches) < room and any(self._left.values()):
            two = max(
                (two for two, left in self._left.items() if left),
                key=lambda two: _gain(covariance, two, _stiffness(ratings, two), worth),
            )
            matches.append(Match(*two, self._left[two].pop()))
            _learn(covariance, two, _stiffness(ratings, two))
        self.num_asked += len(matches)
        return matches

    @property
    def stopped(self) -> Stopped | None:
        """Why there is nothing more to ask; None while there is."""
        if not self._open(self.ratings()):
            return "resolved"
        if self.num_asked >= self.budget:
            return "budget"
        return None if any(self._left.values()) else "exhausted"

    def ratings(self) -> Ratings:
        """The ratings so far, in log-odds."""
        games = [Comparison(i, j, won / n, n) for (i, j), (won, n) in self._sums.items()]
        return bradley_terry(self._num_players, games, prior_sd=self.config.prior_sd)

    def _open(self, ratings: Ratings) -> list[Two]:
        """The pairs whose order is not settled."""
        played = [0.0] * self._num_players
        for (i, j), (_, n) in self._sums.items():
            played[i] += n
            played[j] += n
        few = {i for i, n in enumerate(played) if n < self.config.min_games}
        return [
            (i, j)
            for i, j in combinations(range(self._num_players), 2)
            if (i, j) in self._left
            and (i in few or j in few or _sureness(ratings, i, j) < self.config.confidence)
        ]


def _sureness(ratings: Ratings, i: int, j: int) -> float:
    p = ratings.confidence(i, j)
    return max(p, 1 - p)


def _stiffness(ratings: Ratings, two: Two) -> float:
    """Fisher's information of one game on the difference of two ratings: p(1 − p)."""
    p = ratings.p_wins(*two)
    return p * (1 - p)


def _variance(covariance: Matrix, two: Two) -> float:
    i, j = two
    return max(covariance[i][i] + covariance[j][j] - 2 * covariance[i][j], 0.0)


def _gain(covariance: Matrix, two: Two, stiffness: float, worth: Mapping[Two, float]) -> float:
    """What one game more is expected to tell of all open orders."""
    i, j = two
    scale = stiffness / (1 + stiffness * _variance(covariance, two))
    lean = [row[i] - row[j] for row in covariance]
    total = 0.0
    for (a, b), entropy in worth.items():
        before = max(_variance(covariance, (a, b)), 1e-12)
        after = before - scale * (lean[a] - lean[b]) ** 2
        total += max(entropy, 1e-6) * 0.5 * math.log(before / max(after, 1e-15))
    return total


def _learn(covariance: Matrix, two: Two, stiffness: float) -> None:
    """What the covariance will be after one game more (Sherman and Morrison), in place."""
    i, j = two
    lean = [row[i] - row[j] for row in covariance]
    scale = stiffness / (1 + stiffness * _variance(covariance, two))
    for a, row in enumerate(covariance):
        for b in range(len(row)):
            row[b] -= scale * lean[a] * lean[b]


def _entropy(p: float) -> float:
    """Of a yes or no with probability p, in nats."""
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def _shuffled(prompts: Sequence[int], seed: int, two: Two) -> list[int]:
    """The prompts in an order of the pair's own, the same for the same seed."""
    return random.Random(f"{seed} {two}").sample(list(prompts), len(prompts))
