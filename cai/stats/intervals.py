"""Rates with their uncertainty: counts in, a rate with a 95 % interval out. Pure maths.

Start from `rate_of`; its `as_dict` is the form that reports use.
"""

from __future__ import annotations

import math
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


def wilson(count: int, n: int, *, z: float = Z_95) -> Interval:
    """Wilson's score interval for `count` of `n`, inside [0, 1] for any count, 0 and n included.

    Raises ValueError unless 0 <= count <= n and n > 0.
    """
    if n <= 0 or not 0 <= count <= n:
        raise ValueError(f"no interval for {count} of {n}; need 0 <= count <= n and n > 0")
    share = count / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == n else min(1.0, centre + half)
    return Interval(low, high)


def rate_of(count: int, n: int) -> Rate | None:
    """The rate of `count` in `n` with Wilson's 95 % interval; None when nothing was tried."""
    return Rate(count / n, n, wilson(count, n)) if n else None
