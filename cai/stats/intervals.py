"""Rates with their uncertainty: counts in, a rate with a 95 % interval out. Pure maths.

Start from `rate_of`; its `as_dict` is the form that reports use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

Z_95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


class Interval(NamedTuple):
    """Lower and upper bound."""

    low: float
    high: float


class Rate(NamedTuple):
    """A share of `n` trials and its confidence interval."""

    rate: float
    n: int
    ci: Interval

    def as_dict(self) -> dict[str, Any]:
        """`{"rate", "n", "ci"}`, rounded to six places."""
        low, high = self.ci
        return {"rate": round(self.rate, 6), "n": self.n, "ci": [round(low, 6), round(high, 6)]}


def wilson(count: float, n: int, *, z: float = Z_95) -> Interval:
    """Wilson's score interval for `count` of `n`, inside [0, 1] for any count, 0 and n included.

    A tie may count as half a success; the interval is then a little too wide.

    Raises ValueError unless 0 <= count <= n and n > 0.
    """
    if n <= 0 or not 0 <= count <= n:
        raise ValueError(f"no interval for {count} of {n}; need 0 <= count <= n and n > 0")
    return wilson_of_share(count / n, n, z=z)


def wilson_of_share(share: float, n: float, *, z: float = Z_95) -> Interval:
    """Wilson's score interval for a share of `n` trials, a number that need not be whole."""
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return Interval(low, high)


def rate_of(count: float, n: int) -> Rate | None:
    """The rate of `count` in `n` with Wilson's 95 % interval; None when nothing was tried."""
    return Rate(count / n, n, wilson(count, n)) if n else None


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's 95 % interval of the mean of independent values, as of paired differences.

    Raises ValueError for fewer than two.

    >>> [round(end, 3) for end in mean_interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"no interval for {n} values; at least 2 are needed")
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = student_t(n - 1) * math.sqrt(variance / n)
    return Interval(mean - half, mean + half)


def student_t(degrees: int) -> float:
    """The 97.5 % point of Student's t with whole degrees of freedom, to some nine places.

    >>> round(student_t(4), 3)
    2.776
    """
    low, high = Z_95, 13.0
    for _ in range(80):
        middle = (low + high) / 2
        if _inside(middle, degrees) < 0.95:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _inside(t: float, degrees: int) -> float:
    """P(|T| < t), by the finite series for whole degrees (Abramowitz and Stegun, 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, squared = math.sin(angle), math.cos(angle) ** 2
    is_odd = degrees % 2
    term, total = (math.cos(angle), 0.0) if is_odd else (1.0, 0.0)
    for step in range(2 + is_odd, degrees + 1, 2):
        total += term
        term *= squared * (step - 1) / step
    if not is_odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if degrees > 1 else 0.0))
