"""How a reward rises and falls with distance from the reference: R(d) = d(α − β log d). Pure maths.

The form of Gao, Schulman and Hilton (2022), "Scaling Laws for Reward Model Overoptimization"
(arXiv 2210.10760, section 3), for reinforcement learning: d = √KL in √nats, R the gain over the
reference's reward, so that R(0) = 0. Linear in α and β: least squares has a closed form.
Start from `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cai.stats.intervals import Interval, student_t

_FARTHEST = 50.0  # log of a peak farther away than anything that can be trained
_SAME_PLACE = 1e-10  # squared sine of the angle between the columns, below which they are one


class Curve(NamedTuple):
    """α and β with their standard errors, from `n` points.

    α is the slope at d = 1, per √nat; β > 0 bends it down. `error` is the residual standard
    deviation (of a point with weight 1), with `degrees` of freedom. `start` is R(0).
    """

    alpha: float
    beta: float
    alpha_error: float
    beta_error: float
    covariance: float
    error: float
    degrees: int
    n: int
    start: float = 0.0

    def at(self, distance: float) -> float:
        """R(d), from `start` at the reference."""
        return self.start + reward_at(distance, self.alpha, self.beta)

    @property
    def peak(self) -> float | None:
        """Where R is largest: d* = exp(α/β − 1) in √nats. None if β ≤ 0 or it is far off."""
        centre = self._log_peak
        return None if centre is None else math.exp(centre)

    @property
    def peak_interval(self) -> Interval | None:
        """A 95 % interval of the peak, by the delta method on its logarithm.

        With g = (1/β, −α/β²): Var(log d*) = gᵀ Cov(α, β) g. None where there is no peak.
        """
        centre = self._log_peak
        if centre is None:
            return None
        by_alpha, by_beta = 1 / self.beta, -self.alpha / self.beta**2
        variance = (
            (by_alpha * self.alpha_error) ** 2
            + (by_beta * self.beta_error) ** 2
            + 2 * by_alpha * by_beta * self.covariance
        )
        half = student_t(self.degrees) * math.sqrt(max(variance, 0.0))
        return Interval(math.exp(max(centre - half, -700.0)), math.exp(min(centre + half, 700.0)))

    @property
    def _log_peak(self) -> float | None:
        if not self.beta > 0 or self.alpha > (_FARTHEST + 1) * self.beta:
            return None
        return max(self.alpha / self.beta - 1, -_FARTHEST)


def reward_at(distance: float, alpha: float, beta: float) -> float:
    """R(d) = d(α − β log d), continued by R(0) = 0.

    >>> reward_at(1.0, 2.0, 5.0), reward_at(0.0, 2.0, 5.0)
    (2.0, 0.0)
    """
    return distance * (alpha - beta * math.log(distance)) if distance > 0 else 0.0


def fit(
    distances: Sequence[float],
    rewards: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    has_start: bool = False,
) -> Curve | None:
    """Least squares of rewards on d and −d log d, each point counted `weights` times if given.

    Weights are those of inverse variance, up to a factor. R(0) is 0, and points at d = 0 say
    nothing; with `has_start` it is fitted too, for rewards whose zero is not the reference's.
    None when too few points are left, or their distances do not differ enough to tell α from β.
    Raises ValueError for a distance below 0 and what is not finite.
    """
    counted = weights if weights is not None else [1.0] * len(distances)
    points = [
        _checked(point)
        for point in zip(distances, rewards, counted, strict=True)
        if (point[0] != 0 or has_start) and point[2] != 0
    ]
    degrees = len(points) - (3 if has_start else 2)
    if degrees < 1:
        return None
    rows = [(d, reward_at(d, 0.0, 1.0), reward, weight) for d, reward, weight in points]
    mean_x, mean_z, mean_y = _means(rows) if has_start else (0.0, 0.0, 0.0)
    rows = [(x - mean_x, z - mean_z, y - mean_y, w) for x, z, y, w in rows]
    sxx = math.fsum(w * x * x for x, _, _, w in rows)
    sxz = math.fsum(w * x * z for x, z, _, w in rows)
    szz = math.fsum(w * z * z for _, z, _, w in rows)
    determinant = sxx * szz - sxz * sxz
    if not determinant > _SAME_PLACE * sxx * szz:
        return None
    sxy = math.fsum(w * x * y for x, _, y, w in rows)
    szy = math.fsum(w * z * y for _, z, y, w in rows)
    alpha = (szz * sxy - sxz * szy) / determinant
    beta = (sxx * szy - sxz * sxy) / determinant
    left = math.fsum(w * (y - alpha * x - beta * z) ** 2 for x, z, y, w in rows)
    variance = left / degrees
    return Curve(
        alpha=alpha,
        beta=beta,
        alpha_error=math.sqrt(variance * szz / determinant),
        beta_error=math.sqrt(variance * sxx / determinant),
        covariance=-variance * sxz / determinant,
        error=math.sqrt(variance),
        degrees=degrees,
        n=len(rows),
        start=mean_y - alpha * mean_x - beta * mean_z,
    )


def _means(rows: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float]:
    """Weighted means of the columns: what a fitted start takes off each."""
    total = math.fsum(w for *_, w in rows)
    x, z, y = (math.fsum(row[i] * row[3] for row in rows) / total for i in range(3))
    return x, z, y


def _checked(point: tuple[float, float, float]) -> tuple[float, float, float]:
    distance, _, weight = point
    if not all(map(math.isfinite, point)) or distance < 0 or weight < 0:
        raise ValueError(
            f"no fit through (distance, gain, weight) = {point}; "
            "all must be finite, distance and weight not below 0"
        )
    return point
