"""Rates of trials that come in clusters, as several answers to one prompt. Pure maths.

Answers to one prompt are alike, so they tell less than as many answers to as many prompts. Start
from `clustered_rate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from cai.stats.intervals import Rate, wilson_of_share


def clustered_rate(clusters: Iterable[tuple[int, int]]) -> Rate | None:
    """The rate over clusters of (count, trials), with a 95 % interval; None when nothing was tried.

    Wilson's interval for the effective number of independent trials, p(1 − p) over the variance of
    the rate between clusters (a ratio estimate, linearised); at least the number of clusters and at
    most that of trials, so one trial per cluster gives the plain interval. Effective sizes in score
    intervals: Dean and Pagano (2015), J. Survey Stat. Methodol. 3(4).

    >>> clustered_rate([(2, 2), (0, 2), (2, 2), (0, 2)]).ci == wilson_of_share(0.5, 4)
    True
    """
    found = [(count, trials) for count, trials in clusters if trials]
    total = sum(trials for _, trials in found)
    if not total:
        return None
    share = sum(count for count, _ in found) / total
    size = effective_size(found, share)
    return Rate(share, total, wilson_of_share(share, size))


def effective_size(clusters: list[tuple[int, int]], share: float) -> float:
    """How many independent trials tell as much about the rate as these clusters."""
    num, total = len(clusters), sum(trials for _, trials in clusters)
    if num == total or num < 2 or not 0 < share < 1:
        return float(num)
    squares = math.fsum((count - share * trials) ** 2 for count, trials in clusters)
    variance = num / (num - 1) * squares / total**2
    if variance == 0:
        return float(total)
    return min(float(total), max(float(num), share * (1 - share) / variance))
