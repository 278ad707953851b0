"""Tests and intervals that may be looked at at any time: confidence sequences for a bounded mean.

A sceptic bets against "the mean is m" with a share λ of the capital in each step; by Ville's
inequality the capital of a true m ever reaches 1/α with probability α at most, whatever the rule
by which one stops. Waudby-Smith and Ramdas (2024, arXiv 2010.09686): the capital process is
K(m) = Π (1 + λ (xᵢ − m)), for both signs of λ as in their hedged capital (theorem 3). λ is mixed
over a fixed grid, after Robbins (1970), so that counts of the values say all. No approximation: it
holds for any number of values. Start from `confidence_sequence`; `paired` makes values of two arms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from cai.stats.intervals import Interval

NUM_BETS: Final = 24
"""Sizes of bet on each side that the mixture holds."""
_SMALLEST, _LARGEST = 0.004, 0.96  # as shares of the largest bet that cannot lose everything

Counts = Mapping[float, int]
"""How often each value was seen."""


class Bounds(NamedTuple):
    """What a value can be at least and at most."""

    low: float
    high: float


UNIT: Final = Bounds(0.0, 1.0)
DIFFERENCE: Final = Bounds(-1.0, 1.0)


def log_evidence(counts: Counts, mean: float, *, bounds: Bounds = UNIT) -> float:
    """Log of the capital of the better side against `mean`; each side began with one half.

    exp(−it), at most 1, is a p-value that holds at every look at once.
    """
    return max(_log_capital(counts, mean, bounds, sign) for sign in (1, -1)) - math.log(2)


def p_value(counts: Counts, mean: float, *, bounds: Bounds = UNIT) -> float:
    """The always valid p-value of "the mean is `mean`": see Johari et al. (2022, arXiv 1512.04922).

    >>> p_value({1.0: 40}, 0.5) < 1e-4, p_value({}, 0.5)
    (True, 1.0)
    """
    return math.exp(min(0.0, -log_evidence(counts, mean, bounds=bounds)))


def confidence_sequence(counts: Counts, *, alpha: float = 0.05, bounds: Bounds = UNIT) -> Interval:
    """The means that are not ruled out: all looks' intervals hold at once, but for `alpha`.

    Without values it is the bounds. A mean is outside exactly if its `p_value` is below `alpha`.
    Raises ValueError for a value out of bounds and an `alpha` that is no share.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it should lie between 0 and 1")
    for value in counts:
        if not bounds.low <= value <= bounds.high:
            raise ValueError(f"the value {value} is not from {bounds.low} to {bounds.high}")
    limit = math.log(2 / alpha)
    low = _edge(counts, bounds, 1, limit)
    high = _edge(counts, bounds, -1, limit)
    return Interval(low, max(low, high))


def mean_of(counts: Counts) -> float | None:
    """The mean of the values; None of nothing."""
    total = sum(counts.values())
    return math.fsum(value * n for value, n in counts.items()) / total if total else None


def paired(
    arms: Iterable[tuple[str, float]], first: str, second: str, *, ratio: tuple[int, int] = (1, 1)
) -> Iterator[float]:
    """Differences second − first of values as they come, one per whole block of both arms.

    A block has `ratio` values of the arms, as an uneven split gives them; the next block begins
    when it is whole. Where both arms have one mean, so have the differences: 0, whatever drifts
    with time for both. `ratio` must not depend on the values.

    >>> list(paired([("a", 1.0), ("a", 0.0), ("b", 1.0), ("b", 0.0)], "a", "b"))
    [0.0, 0.0]
    """
    waiting: dict[str, list[float]] = {first: [], second: []}
    sizes = dict(zip((first, second), ratio, strict=True))
    for arm, value in arms:
        if arm not in waiting:
            continue
        waiting[arm].append(value)
        if all(len(waiting[name]) >= size for name, size in sizes.items()):
            means = {name: math.fsum(waiting[name][:n]) / n for name, n in sizes.items()}
            waiting = {name: waiting[name][n:] for name, n in sizes.items()}
            yield means[second] - means[first]


def counted(values: Iterable[float]) -> Counter[float]:
    """The values as counts; they are rounded to nine places, so that equal means are one."""
    return Counter(round(value, 9) for value in values)


def _edge(counts: Counts, bounds: Bounds, sign: int, limit: float) -> float:
    """Where one side's capital falls to the limit: it is monotone in the mean, so by halving.

    Bets on more (sign 1) lose as the mean grows, and rule out what lies below; bets on less rule
    out what lies above.
    """
    low, high = bounds
    refused, kept = (low, high) if sign > 0 else (high, low)
    if _log_capital(counts, refused, bounds, sign) < limit:
        return refused
    for _ in range(60):
        middle = (refused + kept) / 2
        if _log_capital(counts, middle, bounds, sign) >= limit:
            refused = middle
        else:
            kept = middle
    return kept


def _log_capital(counts: Counts, mean: float, bounds: Bounds, sign: int) -> float:
    """Log of the mean capital over the grid of bets of one sign."""
    logs = []
    for bet in bets(bounds):
        factors = (n * math.log1p(sign * bet * (value - mean)) for value, n in counts.items())
        logs.append(math.fsum(factors))
    top = max(logs)
    return top + math.log(math.fsum(math.exp(one - top) for one in logs) / len(logs))


def bets(bounds: Bounds) -> tuple[float, ...]:
    """The grid of bets: even steps in their logarithm, none that a single value could ruin."""
    largest = 1 / (bounds.high - bounds.low)
    step = math.log(_LARGEST / _SMALLEST) / (NUM_BETS - 1)
    return tuple(largest * _SMALLEST * math.exp(step * index) for index in range(NUM_BETS))
