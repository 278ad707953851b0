"""How well probabilities fit what is known: Brier score and expected calibration error. Pure maths.

What is known may itself be a probability: a soft label counts as that share of a success. Start
from `brier` and `calibration_error`, over (predicted, known) for each pair's first answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

NUM_BINS = 10


def brier(predicted: Sequence[float], known: Sequence[float]) -> float | None:
    """Mean squared distance of the predictions from what is known; None of nothing.

    >>> round(brier([0.8, 0.4], [1.0, 0.0]), 4)
    0.1
    """
    if not predicted:
        return None
    gaps = ((p - k) ** 2 for p, k in zip(predicted, known, strict=True))
    return math.fsum(gaps) / len(predicted)


def calibration_error(
    predicted: Sequence[float], known: Sequence[float], *, num_bins: int = NUM_BINS
) -> float | None:
    """Expected calibration error of a choice between two: |confidence - right|, over equal bins.

    Confidence is the probability of the likelier side, 0.5 to 1; right is the known probability
    of that side. None of nothing.

    >>> round(calibration_error([0.9, 0.9, 0.1, 0.1], [1, 1, 0, 1]), 4)
    0.15
    """
    bins: dict[int, list[tuple[float, float]]] = {}
    for p, k in zip(predicted, known, strict=True):
        confidence, right = (p, k) if p >= 0.5 else (1 - p, 1 - k)
        index = min(num_bins - 1, int((confidence - 0.5) * 2 * num_bins))
        bins.setdefault(index, []).append((confidence, right))
    if not bins:
        return None
    gaps = (abs(math.fsum(c - r for c, r in found)) for found in bins.values())
    return math.fsum(gaps) / len(predicted)
