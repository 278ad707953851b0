"""Counts of verdicts for one judge or one principle: bias, accuracy, calibration.

Memory does not grow with the number of pairs, and two parts' counts merge. Start from `Tally`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cai.feedback.labels import PairRead, logit
from cai.feedback.records import Side

NUM_BINS = 10
_MIN_FIT = 20
_STEP = 0.05  # width of a bin of the logits' histogram, from which the temperature is fitted
_LIMIT = 30.0
_UNIT = 2**64  # biases are summed as whole numbers of 2**-64, so that their order does not matter
_TEMPERATURES = (0.05, 20.0)


class ReliabilityBin(NamedTuple):
    """Known pairs whose confidence fell in one bin: how sure the judge was, how often right."""

    confidence: float
    accuracy: float
    n: int


@dataclass(slots=True)
class Tally:
    """Counts for one judge, or for one principle of it."""

    num_pairs: int = 0
    num_flips: int = 0
    sum_bias: int = 0
    sum_bias_squared: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    num_known: int = 0
    num_right: float = 0.0
    num_right_ab: float = 0.0
    num_right_ba: float = 0.0
    num_known_missing: int = 0
    sum_squared_error: float = 0.0
    bins: dict[int, list[float]] = field(default_factory=dict)
    logits: dict[int, list[float]] = field(default_factory=dict)

    def observe(self, read: PairRead, p_a: float, known: Side | None) -> None:
        """Count one verdict: `p_a` is the label as used, `known` the truth if there is one."""
        self.num_pairs += 1
        self.num_flips += read.flips
        bias = read.position_bias
        self.sum_bias += int(bias * _UNIT)
        self.sum_bias_squared += int(bias * bias * _UNIT)
        if known is None:
            return
        right = read if known == "a" else read.swapped()
        p_right = p_a if known == "a" else 1 - p_a
        self.num_known += 1
        self.num_right += _is_right(p_right)
        self.num_right_ab += _is_right(right.p_ab)
        self.num_right_ba += _is_right(right.p_ba)
        self.sum_squared_error += (1 - p_right) ** 2
        confidence = max(p_right, 1 - p_right)
        index = min(NUM_BINS - 1, int((confidence - 0.5) * 2 * NUM_BINS))
        _add(self.bins, index, confidence, _is_right(p_right))
        z = logit(p_right, limit=_LIMIT)
        _add(self.logits, math.floor(z / _STEP), z, 0.0)

    def miss(self, reason: str, *, known: bool) -> None:
        """Count a pair on which there is no label, whatever was measured."""
        self.refused[reason] += 1
        self.num_known_missing += known

    @property
    def flip_share(self) -> float | None:
        """Share of the verdicts that went with the position."""
        return self.num_flips / self.num_pairs if self.num_pairs else None

    @property
    def bias(self) -> float | None:
        """Mean position bias: P(the answer shown first) less 0.5."""
        return self.sum_bias / _UNIT / self.num_pairs if self.num_pairs else None

    @property
    def num_asked_known(self) -> int:
        """Pairs with a known label that were put to the judge."""
        return self.num_known + self.num_known_missing

    @property
    def accuracy(self) -> float | None:
        """Share of known pairs judged right; a missing verdict is wrong, a tie half."""
        return self.num_right / self.num_asked_known if self.num_asked_known else None

    @property
    def brier(self) -> float | None:
        """Mean squared distance of the probabilities from the known labels: 0 is perfect."""
        return self.sum_squared_error / self.num_known if self.num_known else None

    def reliability(self) -> list[ReliabilityBin]:
        """Confidence (0.5 to 1) against accuracy, in ten bins, empty ones left out."""
        return [
            ReliabilityBin(total / n, right / n, int(n))
            for _, (n, total, right) in sorted(self.bins.items())
        ]

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error: |confidence - accuracy|, averaged over the known pairs."""
        if not self.num_known:
            return None
        gaps = (abs(one.confidence - one.accuracy) * one.n for one in self.reliability())
        return sum(gaps) / self.num_known

    def temperature(self) -> float | None:
        """The temperature that would make the known labels likeliest; above 1: overconfident.

        None under 20 known pairs; at an end of 0.05 to 20 the data do not bound it.
        """
        if self.num_known < _MIN_FIT:
            return None
        points = [(n, total / n) for n, total, _ in self.logits.values()]

        def loss(log_t: float) -> float:
            t = math.exp(log_t)
            return sum(n * _softplus(-z / t) for n, z in points)

        low, high = (math.log(t) for t in _TEMPERATURES)
        return round(math.exp(minimize(loss, low, high)), 4)

    def merge(self, other: Tally) -> None:
        """Add another part's counts."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            elif isinstance(mine, dict):
                for key, values in theirs.items():
                    _add(mine, key, values[1], values[2], n=values[0])
            else:
                setattr(self, name, mine + theirs)

    def as_dict(self) -> dict[str, Any]:
        """What was measured; what was not is absent."""
        known: dict[str, Any] = {}
        if self.num_asked_known:
            asked = self.num_asked_known
            known = {
                "known": asked,
                "missing": self.num_known_missing,
                "accuracy": self.accuracy,
                "accuracy_first_order": self.num_right_ab / asked,
                "accuracy_second_order": self.num_right_ba / asked,
                "calibration_error": self.calibration_error,
                "brier": self.brier,
                "temperature": self.temperature(),
                "reliability": [one._asdict() for one in self.reliability()],
            }
        values = {
            "pairs": self.num_pairs,
            "refused": dict(sorted(self.refused.items())) or None,
            "flip_share": self.flip_share,
            "position_bias": self.bias,
            "position_bias_sd": self._bias_sd(),
            **known,
        }
        return {name: value for name, value in values.items() if value is not None}

    def _bias_sd(self) -> float | None:
        if self.num_pairs < 2:
            return None
        mean = self.sum_bias / _UNIT / self.num_pairs
        total = self.sum_bias_squared / _UNIT
        variance = (total - self.num_pairs * mean**2) / (self.num_pairs - 1)
        return math.sqrt(max(variance, 0.0))


def minimize(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is smallest between `low` and `high`: golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    value_a, value_b = function(a), function(b)
    while high - low > 1e-6:
        if value_a <= value_b:
            high, b, value_b = b, a, value_a
            a = high - ratio * (high - low)
            value_a = function(a)
        else:
            low, a, value_a = a, b, value_b
            b = low + ratio * (high - low)
            value_b = function(b)
    return (low + high) / 2


def _is_right(p: float) -> float:
    return 1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0


def _add(
    table: dict[int, list[float]], key: int, total: float, right: float, *, n: float = 1
) -> None:
    cell = table.setdefault(key, [0, 0.0, 0.0])
    cell[0] += n
    cell[1] += total
    cell[2] += right


def _softplus(z: float) -> float:
    """log(1 + e^z), without overflow."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))
