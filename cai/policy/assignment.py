"""Who gets which policy under an A/B split: pure, and light to import.

What is left of 100 percent goes to the policy that is live. Start from `assign`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Final

LIVE: Final = "live"
"""Stands for whichever policy is live."""

Split = Mapping[str, float]
"""Percent of `live` traffic by policy id."""


def assign(split: Split, key: str) -> str:
    """The policy that the owner of `key` is given: an id of the split, or `live`.

    The same split and key give the same one, in any process and whatever the split's order.
    A changed share moves no more keys than it must: they come from `live` for the most part.
    Rendezvous hashing with weights: each arm draws a lot by key, and the best lot wins.
    """
    shares = {**split, LIVE: 100.0 - sum(split.values())}
    lots = {arm: _lot(arm, key) / share for arm, share in shares.items() if share > 1e-9}
    return min(lots, key=lambda arm: (lots[arm], arm), default=LIVE)


def _lot(arm: str, key: str) -> float:
    """An exponential draw, the same for the same arm and key."""
    digest = hashlib.sha256(f"{arm}\n{key}".encode("utf-8", "surrogatepass")).digest()
    uniform = (int.from_bytes(digest[:8]) + 0.5) / 2**64
    return -math.log(uniform)
