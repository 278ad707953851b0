"""Two treatments of the same units: is one better? Exact tests and an interval. Pure maths.

A unit's difference is a whole number: what failed under the first less what failed under the
second. With one trial each it is -1, 0 or 1, and the test is McNemar's exact one. Start from
`compare_pairs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from cai.stats.intervals import Z_95, Interval


class PairedComparison(NamedTuple):
    """Mean difference per trial over `n` units, its 95 % interval, the exact two-sided p-value.

    `first_only` and `second_only` are units that differ one way or the other.
    """

    difference: float
    ci: Interval
    p_value: float
    n: int
    first_only: int
    second_only: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded to six places."""
        return {
            "difference": round(self.difference, 6),
            "ci": [round(end, 6) for end in self.ci],
            "p_value": round(self.p_value, 6),
            "n": self.n,
            "first_only": self.first_only,
            "second_only": self.second_only,
        }


def compare_pairs(
    differences: Sequence[int], *, trials: Sequence[int] | None = None
) -> PairedComparison | None:
    """The comparison of units, each with its own number of trials or one; None of nothing.

    Each unit counts the same, by its difference per trial; the test is on the whole numbers.
    Raises ValueError for a difference that so many trials cannot have.
    """
    trials = [1] * len(differences) if trials is None else trials
    shares = [one / num for one, num in zip(differences, trials, strict=True)]
    if any(abs(share) > 1 for share in shares):
        raise ValueError("a difference is larger than its unit's number of trials")
    if not shares:
        return None
    return PairedComparison(
        difference=math.fsum(shares) / len(shares),
        ci=difference_interval(shares),
        p_value=sign_flip_test(differences),
        n=len(differences),
        first_only=sum(one > 0 for one in differences),
        second_only=sum(one < 0 for one in differences),
    )


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """McNemar's exact two-sided p-value from the numbers of units that differ, each way.

    The smaller is binomial with n = their sum and p = 1/2 (McNemar 1947, with exact tails).

    >>> round(mcnemar_exact(1, 9), 6), mcnemar_exact(0, 0), mcnemar_exact(5, 5)
    (0.021484, 1.0, 1.0)
    """
    if first_only < 0 or second_only < 0:
        raise ValueError(f"no test of {first_only} and {second_only} units; counts are not below 0")
    n, fewer = first_only + second_only, min(first_only, second_only)
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / (1 << n))


def sign_flip_test(differences: Sequence[int]) -> float:
    """Exact two-sided p-value of the sum of differences when each sign is a fair coin's.

    Fisher's randomisation test of paired samples, by the whole distribution of the sum; with
    differences of one trial it is `mcnemar_exact`.

    >>> sign_flip_test([2, 2, 1])  # of 8 sums, ±5 alone lie as far out
    0.25
    """
    sizes = [abs(one) for one in differences if one]
    observed = abs(sum(differences))
    reach = sum(sizes)
    ways = [0] * (2 * reach + 1)  # number of sign patterns with each sum, from -reach to reach
    ways[reach] = 1
    for size in sizes:
        moved = [0] * len(ways)
        for place, number in enumerate(ways):
            if number:
                moved[place - size] += number
                moved[place + size] += number
        ways = moved
    far = sum(number for place, number in enumerate(ways) if abs(place - reach) >= observed)
    return far / (1 << len(sizes))


def difference_interval(differences: Sequence[float]) -> Interval:
    """95 % interval of the mean of paired differences, each from -1 to 1.

    Agresti and Min (2005): half a unit is added to each cell of the table of pairs, which keeps the
    width above 0 where no pair differs. For shares of several trials the same pseudo-units (one
    difference of each sign, at weight one half, and one of none) are added.
    """
    n = len(differences) + 2
    mean = math.fsum(differences) / n
    variance = (math.fsum(one * one for one in differences) + 1 - n * mean * mean) / (n * n)
    half = Z_95 * math.sqrt(max(variance, 0.0))
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))
