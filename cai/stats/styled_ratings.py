"""Bradley–Terry ratings with a covariate beside them, as for the length of answers. Pure maths.

logit P(i beats j) = r_i − r_j + β s, where s says how much more of the style i's answer has. β is
what the style alone is worth, and the ratings are what is left without it. The form of the style
control in Chiang et al. (2024, arXiv 2403.04132) and its leaderboard. Start from `fit_styled`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cai.stats.linear import Matrix, cholesky, inverse, solve
from cai.stats.ratings import Comparison, Ratings, centred, sigmoid, softplus


class Styled(NamedTuple):
    """Ratings at equal style; `weight` is β in log-odds per unit of style, `error` its own."""

    ratings: Ratings
    weight: float
    error: float


def fit_styled(
    num_items: int,
    comparisons: Sequence[Comparison],
    styles: Sequence[float],
    *,
    prior_sd: float = 3.0,
) -> Styled:
    """The ratings and the weight of style that make the comparisons likeliest.

    `styles` has one number per comparison, i's less j's. Ratings and weight have a normal prior of
    `prior_sd` log-odds around 0. Raises ValueError when the lengths differ.
    """
    games = list(zip(comparisons, styles, strict=True))
    values = [0.0] * (num_items + 1)
    for _ in range(100):
        slope, curvature = _derivatives(values, games, prior_sd)
        step = solve(cholesky(curvature), slope)
        values = _shortened(values, step, games, prior_sd)
        if max(map(abs, step)) < 1e-10:
            break
    covariance = inverse(_derivatives(values, games, prior_sd)[1])
    level = math.fsum(values[:-1]) / max(num_items, 1)
    ratings = Ratings(
        tuple([value - level for value in values[:-1]]),
        centred([row[:-1] for row in covariance[:-1]]),
    )
    return Styled(ratings, values[-1], math.sqrt(max(covariance[-1][-1], 0.0)))


def standardised(values: Sequence[float]) -> tuple[list[float], float]:
    """`values` over their root mean square, and that; all 0 stays as it is, with 0.

    The mean is not taken off: equal style is to stay 0.

    >>> standardised([3.0, -3.0])
    ([1.0, -1.0], 3.0)
    """
    spread = math.sqrt(math.fsum(value * value for value in values) / max(len(values), 1))
    return ([value / spread for value in values], spread) if spread else (list(values), 0.0)


Game = tuple[Comparison, float]


def _logit(values: Sequence[float], game: Game) -> float:
    (i, j, _, _), style = game
    return values[i] - values[j] + values[-1] * style


def _derivatives(
    values: Sequence[float], games: Sequence[Game], prior_sd: float
) -> tuple[list[float], Matrix]:
    """Slope of the log-posterior, and its negative curvature; the style is the last unknown."""
    size = len(values)
    slope = [-value / prior_sd**2 for value in values]
    curvature = [[prior_sd**-2 if i == j else 0.0 for j in range(size)] for i in range(size)]
    for game in games:
        (i, j, p, weight), style = game
        expected = sigmoid(_logit(values, game))
        stiffness = weight * expected * (1 - expected)
        parts = ((i, 1.0), (j, -1.0), (size - 1, style))
        for row, part in parts:
            slope[row] += weight * (p - expected) * part
            for column, other in parts:
                curvature[row][column] += stiffness * part * other
    return slope, curvature


def _shortened(
    values: Sequence[float], step: Sequence[float], games: Sequence[Game], prior_sd: float
) -> list[float]:
    """Where the step leads, halved as long as it would lose likelihood."""
    before = _loss(values, games, prior_sd)
    for halvings in range(40):
        moved = [value + part * 0.5**halvings for value, part in zip(values, step, strict=True)]
        if _loss(moved, games, prior_sd) <= before + 1e-12:
            return moved
    return list(values)


def _loss(values: Sequence[float], games: Sequence[Game], prior_sd: float) -> float:
    prior = math.fsum(value * value for value in values) / (2 * prior_sd**2)
    parts = []
    for game in games:
        (_, _, p, weight), gap = game[0], _logit(values, game)
        parts.append(weight * (p * softplus(-gap) + (1 - p) * softplus(gap)))
    return prior + math.fsum(parts)
