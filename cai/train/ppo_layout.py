"""Episodes as tensors for one forward pass, and which episodes share a pass. Pure; no networks.

Rows are padded on the right: causal attention then needs no mask, since no real token looks at
padding. Start from `buckets`, then `lay_out` for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cai.train.rollouts import Episode

# Tokens whose computing takes as long as starting another pass: a processor starts one in
# milliseconds, in which a GPU gets through many.
_PASS_COST = {"cpu": 32}
_PASS_COST_ELSEWHERE = 1024


class Layout(NamedTuple):
    """Episodes as tensors. N counts the response tokens of all of them, row by row.

    `places_N` are flat indices into (B, L) of the position that predicts each token: the one
    before it. `last_B` are those of each row's last token.
    """

    ids_BL: Tensor
    places_N: Tensor
    tokens_N: Tensor
    last_B: Tensor


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


def lay_out(episodes: Sequence[Episode], *, device: Any = "cpu") -> Layout:
    """Prompt and response of each episode in a row. Padding repeats id 0 and is never read."""
    width = max(one.num_tokens for one in episodes)
    ids: list[tuple[int, ...]] = []
    places: list[int] = []
    tokens: list[int] = []
    last: list[int] = []
    for index, one in enumerate(episodes):
        padding = (0,) * (width - one.num_tokens)
        ids.append((*one.prompt_ids, *one.response_ids, *padding))
        start = index * width + len(one.prompt_ids) - 1
        places += range(start, start + len(one.response_ids))
        tokens += one.response_ids
        last.append(start + len(one.response_ids))
    return Layout(*(torch.tensor(one, device=device) for one in (ids, places, tokens, last)))
