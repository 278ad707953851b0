"""Episodes as tensors for one forward pass. Pure; no networks.

Rows are padded on the right: causal attention then needs no mask, since no real token looks at
padding. Which episodes share a pass is up to `cai.train.buckets`; start from `lay_out`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cai.train.rollouts import Episode


class Layout(NamedTuple):
    """Episodes as tensors. N counts the response tokens of all of them, row by row.

    `places_N` are flat indices into (B, L) of the position that predicts each token: the one
    before it. `last_B` are those of each row's last token.
    """

    ids_BL: Tensor
    places_N: Tensor
    tokens_N: Tensor
    last_B: Tensor


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
