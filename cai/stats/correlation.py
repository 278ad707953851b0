"""How two series go together: Pearson's r, and Spearman's ρ with shared ranks for ties. Pure maths.

None where it is not defined: fewer than two points, or a series that does not vary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's linear correlation, from -1 to 1.

    >>> round(pearson([1, 2, 3], [2, 4, 7]), 4)
    0.9934
    """
    pairs = list(zip(x, y, strict=True))
    if len(pairs) < 2:
        return None
    mean_x, mean_y = math.fsum(x) / len(pairs), math.fsum(y) / len(pairs)
    both = math.fsum((a - mean_x) * (b - mean_y) for a, b in pairs)
    spread_x = math.fsum((a - mean_x) ** 2 for a in x)
    spread_y = math.fsum((b - mean_y) ** 2 for b in y)
    if not (spread_x > 0 and spread_y > 0):
        return None
    return max(-1.0, min(1.0, both / math.sqrt(spread_x) / math.sqrt(spread_y)))


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank.

    >>> spearman([1, 2, 30], [5, 6, 7])
    1.0
    """
    return pearson(ranks(x), ranks(y))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, equal values sharing the mean of theirs.

    >>> ranks([30, 10, 30])
    [2.5, 1.0, 2.5]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            found[place] = (start + 1 + end) / 2
        start = end
    return found
