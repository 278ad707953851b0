"""Ratings from comparisons: Bradley–Terry with a prior, and Elo. Pure maths, no dependencies.

Comparisons may be soft (a probability instead of a win). The prior keeps ratings finite when one
side wins everything. Start from `bradley_terry`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cai.stats.linear import Matrix, cholesky, inverse, solve


class Comparison(NamedTuple):
    """`i` was preferred to `j` with probability `p` (0.5 is a tie), counted `weight` times."""

    i: int
    j: int
    p: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Ratings:
    """Log-odds per item, with mean 0. `covariance` is of the ratings, given that mean."""

    values: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """Standard error of each rating."""
        return tuple(math.sqrt(max(row[i], 0.0)) for i, row in enumerate(self.covariance))

    @property
    def order(self) -> tuple[int, ...]:
        """Items from the best to the worst; equal ones by index."""
        return tuple(sorted(range(len(self.values)), key=lambda i: (-self.values[i], i)))

    def p_wins(self, i: int, j: int) -> float:
        """Probability that `i` wins a comparison with `j`."""
        return sigmoid(self.values[i] - self.values[j])

    def confidence(self, i: int, j: int) -> float:
        """Probability that `i` is rated above `j`, given the errors of both."""
        c = self.covariance
        sd = math.sqrt(max(c[i][i] + c[j][j] - 2 * c[i][j], 1e-18))
        return 0.5 * (1 + math.erf((self.values[i] - self.values[j]) / (sd * math.sqrt(2))))


def bradley_terry(
    num_items: int, comparisons: Iterable[Comparison], *, prior_sd: float = 3.0
) -> Ratings:
    """The ratings that make the comparisons likeliest, under a normal prior of `prior_sd` log-odds.

    Items that no chain of comparisons links are compared through the prior alone: see `components`.

    >>> two_thirds = [Comparison(0, 1, 1.0, 200.0), Comparison(1, 0, 1.0, 100.0)]
    >>> round(bradley_terry(2, two_thirds, prior_sd=1e3).p_wins(0, 1), 3)
    0.667
    """
    if num_items == 0:
        return Ratings((), ())
    games = list(comparisons)
    values = [0.0] * num_items
    for _ in range(100):
        slope, curvature = _derivatives(values, games, prior_sd)
        step = solve(cholesky(curvature), slope)
        values = _improve(values, step, games, prior_sd)
        if max(abs(s) for s in step) < 1e-10:
            break
    _, curvature = _derivatives(values, games, prior_sd)
    # The prior has the mean at 0; with a wide one rounding moves it, since the games do not care.
    mean = math.fsum(values) / num_items
    return Ratings(tuple([value - mean for value in values]), centred(inverse(curvature)))


def elo(
    num_items: int, comparisons: Iterable[Comparison], *, k: float = 32.0, start: float = 1000.0
) -> tuple[float, ...]:
    """Elo ratings after the comparisons, in their order.

    >>> [round(rating) for rating in elo(2, [Comparison(0, 1, 1.0)])]
    [1016, 984]
    """
    ratings = [start] * num_items
    for i, j, p, weight in comparisons:
        expected = 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400))
        change = k * weight * (p - expected)
        ratings[i] += change
        ratings[j] -= change
    return tuple(ratings)


def components(num_items: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Groups of items that links hold together, each sorted, by their first item."""
    parent = list(range(num_items))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in links:
        parent[max(root(i), root(j))] = min(root(i), root(j))
    groups: dict[int, list[int]] = {}
    for i in range(num_items):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def _derivatives(
    values: Sequence[float], games: Sequence[Comparison], prior_sd: float
) -> tuple[list[float], Matrix]:
    """Slope of the log-posterior, and its negative curvature."""
    precision = prior_sd**-2
    slope = [-v * precision for v in values]
    curvature = [
        [precision if i == j else 0.0 for j in range(len(values))] for i in range(len(values))
    ]
    for i, j, p, weight in games:
        expected = sigmoid(values[i] - values[j])
        pull, stiffness = weight * (p - expected), weight * expected * (1 - expected)
        slope[i] += pull
        slope[j] -= pull
        curvature[i][i] += stiffness
        curvature[j][j] += stiffness
        curvature[i][j] -= stiffness
        curvature[j][i] -= stiffness
    return slope, curvature


def _improve(
    values: list[float], step: Sequence[float], games: Sequence[Comparison], prior_sd: float
) -> list[float]:
    """A Newton step, halved until it does not lose likelihood."""
    before = _loss(values, games, prior_sd)
    size = 1.0
    while size > 1e-8:
        moved = [v + size * s for v, s in zip(values, step, strict=True)]
        if _loss(moved, games, prior_sd) <= before + 1e-12:
            return moved
        size /= 2
    return values


def _loss(values: Sequence[float], games: Sequence[Comparison], prior_sd: float) -> float:
    loss = sum(v * v for v in values) / (2 * prior_sd**2)
    for i, j, p, weight in games:
        gap = values[i] - values[j]
        loss += weight * (p * softplus(-gap) + (1 - p) * softplus(gap))
    return loss


def centred(matrix: Matrix) -> tuple[tuple[float, ...], ...]:
    """The covariance once the common level of all items is taken out."""
    size = len(matrix)
    means = [sum(row) / size for row in matrix]
    total = sum(means) / size
    return tuple(
        tuple(matrix[i][j] - means[i] - means[j] + total for j in range(size)) for i in range(size)
    )


def sigmoid(z: float) -> float:
    """The logistic function, without overflow."""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def softplus(z: float) -> float:
    """log(1 + e^z), without overflow."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))
