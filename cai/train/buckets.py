"""Which rows share a forward pass, so that little of it is padding. Pure; no networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Tokens whose computing takes as long as starting another pass: a processor starts one in
# milliseconds, in which a GPU gets through many.
_PASS_COST = {"cpu": 32}
_PASS_COST_ELSEWHERE = 1024


def buckets(lengths: Sequence[int], *, max_rows: int, device_type: str = "cpu") -> list[list[int]]:
    """Rows grouped by length so that padding and the number of passes together cost least.

    A group costs its rows × its longest row, and a constant per pass; of all ways to cut between
    rows of different length the cheapest, found by dynamic programming. A group of more than
    `max_rows` is cut on. [10, 10, 1000, 990] makes two groups, with ten tokens of padding.
    """
    pass_cost = _PASS_COST.get(device_type, _PASS_COST_ELSEWHERE)
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    changes = (i for i in range(1, len(order)) if lengths[order[i]] != lengths[order[i - 1]])
    ends = [0, *changes, len(order)]
    best: list[tuple[int, int]] = [(0, 0)]  # up to each end: cost, and which end the group follows
    for k, end in enumerate(ends[1:], start=1):
        longest = lengths[order[end - 1]]
        sizes = [end - start for start in ends[:k]]
        costs = (n * longest + math.ceil(n / max_rows) * pass_cost for n in sizes)
        best.append(min((best[j][0] + cost, j) for j, cost in enumerate(costs)))
    groups: list[list[int]] = []
    k = len(ends) - 1
    while k:
        j = best[k][1]
        group = order[ends[j] : ends[k]]
        groups += [group[i : i + max_rows] for i in range(0, len(group), max_rows)]
        k = j
    return groups[::-1]
