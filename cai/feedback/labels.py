"""From label log-probs to a soft label: pure maths, no engine, no text.

A pair is shown in both orders; each order gives the log-probs of "A" and "B". Normalised and
averaged over the orders they give the probability that the first answer is preferred, and what is
left over is the position bias. Start from `read_pair`; several principles meet in `combine`.
Method: Bai et al. 2022 (arXiv 2212.08073), section 4; both orders: Lee et al. 2023 (2309.00267).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cai.constitution.schema import Composition
from cai.errors import JudgeError

COT_CLAMP = (0.4, 0.6)
"""Where chain-of-thought labels are held, as in the paper: their raw confidence is too high."""

_FLOOR = -744.0  # about the log of the smallest float: JSON has no minus infinity
_ROUNDING = 0.01  # a log-prob may exceed 0 by an engine's float16 rounding, not by more


class OrderRead(NamedTuple):
    """One order, read: the probability of the answer shown first, and the mass of both labels."""

    p_first: float
    mass: float


@dataclass(frozen=True, slots=True)
class PairRead:
    """Both orders of one pair. `a` and `b` are the caller's answers, not the letters shown.

    `order_ab` shows `a` as A, `order_ba` shows `b` as A; both are unnormalised log-probs.
    """

    order_ab: Mapping[str, float]
    order_ba: Mapping[str, float]
    p_ab: float
    p_ba: float
    mass: tuple[float, float]

    @property
    def p_a(self) -> float:
        """Probability that `a` is preferred, averaged over both orders."""
        return (self.p_ab + self.p_ba) / 2

    @property
    def position_bias(self) -> float:
        """P(the answer shown first), averaged over both orders, less 0.5."""
        return (self.p_ab + (1 - self.p_ba)) / 2 - 0.5

    @property
    def margin(self) -> float:
        """How far the label is from undecided, from 0 to 1, whoever is ahead."""
        return abs(2 * self.p_a - 1)

    @property
    def flips(self) -> bool:
        """Whether the same position, not the same answer, was preferred in both orders."""
        return flips(self.p_ab, self.p_ba)

    def swapped(self) -> PairRead:
        """The same reading with `a` and `b` exchanged."""
        return PairRead(
            order_ab=self.order_ba,
            order_ba=self.order_ab,
            p_ab=1 - self.p_ba,
            p_ba=1 - self.p_ab,
            mass=(self.mass[1], self.mass[0]),
        )

    def as_dict(self) -> dict[str, Any]:
        """The raw numbers, from which all others follow."""
        return {
            "order_ab": dict(self.order_ab),
            "order_ba": dict(self.order_ba),
            "mass": list(self.mass),
            "position_bias": self.position_bias,
        }


@dataclass(frozen=True, slots=True)
class Vote:
    """What one principle said of a pair."""

    principle: str
    read: PairRead
    weight: float = 1.0
    is_veto: bool = False

    @property
    def p_a(self) -> float:
        """Probability that `a` is preferred under this principle."""
        return self.read.p_a


class Combined(NamedTuple):
    """Several votes as one: the reading, and the ids of the principles that made it."""

    read: PairRead
    decided_by: tuple[str, ...]


def read_pair(order_ab: Mapping[str, float], order_ba: Mapping[str, float]) -> PairRead:
    """Both orders' log-probs of "A" and "B" as one reading. Raises JudgeError on unusable ones.

    >>> read = read_pair({"A": -0.110, "B": -2.306}, {"A": -1.902, "B": -0.162})
    >>> round(read.p_a, 3), round(read.position_bias, 3)
    (0.875, 0.025)
    """
    first, second = read_order(order_ab), read_order(order_ba)
    return PairRead(
        order_ab=_finite(order_ab),
        order_ba=_finite(order_ba),
        p_ab=first.p_first,
        p_ba=1 - second.p_first,
        mass=(first.mass, second.mass),
    )


def read_order(logprobs: Mapping[str, float]) -> OrderRead:
    """One order's log-probs, normalised. Raises JudgeError when there is no verdict in them.

    A label at minus infinity has probability 0, which is a verdict as long as the other has any.
    """
    missing = [label for label in ("A", "B") if label not in logprobs]
    if missing:
        raise JudgeError(
            f"the judge gave no log-prob for {' and '.join(missing)}", reason="no-label-tokens"
        )
    a, b = logprobs["A"], logprobs["B"]
    if not (a <= _ROUNDING and b <= _ROUNDING):  # NaN compares false
        raise JudgeError(f"the judge's log-probs are not any: A {a}, B {b}", reason="not-a-number")
    if max(a, b) == -math.inf:
        raise JudgeError("both labels have probability 0", reason="low-mass")
    mass = min(1.0, math.exp(min(a, 0.0)) + math.exp(min(b, 0.0)))
    return OrderRead(sigmoid(a - b), mass)


def flips(p_ab: float, p_ba: float, *, band: float = 0.0) -> bool:
    """Whether the two orders decide for different answers, both by more than `band`."""
    return (p_ab > 0.5 + band and p_ba < 0.5 - band) or (p_ab < 0.5 - band and p_ba > 0.5 + band)


def is_decided(p: float, band: float) -> bool:
    """Whether a label lies outside 0.5 ± `band`; the edge counts as undecided."""
    return abs(p - 0.5) > band + 1e-12


def combine(votes: Sequence[Vote], composition: Composition, *, band: float = 0.1) -> Combined:
    """One reading from the votes of several principles, as the constitution's composition says.

    `sample` and `mean`: the weighted mean. `priority`: the first vote outside 0.5 ± `band`; when
    none is, the weighted mean. `veto`: the mean of the decided vetoes where there are any, else of
    the other votes.
    """
    if not votes:
        raise JudgeError("no principle voted", reason="no-principle")
    if composition == "priority":
        decided = [vote for vote in votes if is_decided(vote.p_a, band)][:1]
        return _mean(decided or votes)
    if composition == "veto":
        vetoes = [vote for vote in votes if vote.is_veto and is_decided(vote.p_a, band)]
        return _mean(vetoes or [vote for vote in votes if not vote.is_veto] or votes)
    return _mean(votes)


def _mean(votes: Sequence[Vote]) -> Combined:
    names = tuple(vote.principle for vote in votes)
    if len(votes) == 1:
        return Combined(votes[0].read, names)
    total = sum(vote.weight for vote in votes)
    weights = [vote.weight / total if total > 0 else 1 / len(votes) for vote in votes]

    def mean(values: Sequence[float]) -> float:
        return sum(w * v for w, v in zip(weights, values, strict=True))

    p_ab = mean([vote.read.p_ab for vote in votes])
    p_ba = mean([vote.read.p_ba for vote in votes])
    mass = (mean([v.read.mass[0] for v in votes]), mean([v.read.mass[1] for v in votes]))
    return Combined(
        PairRead(
            order_ab=_logprobs(p_ab, mass[0]),
            order_ba=_logprobs(1 - p_ba, mass[1]),
            p_ab=p_ab,
            p_ba=p_ba,
            mass=mass,
        ),
        names,
    )


def _logprobs(p_first: float, mass: float) -> dict[str, float]:
    """Log-probs that normalise to `p_first` and hold `mass`."""
    return {"A": _log(p_first * mass), "B": _log((1 - p_first) * mass)}


def _finite(logprobs: Mapping[str, float]) -> dict[str, float]:
    return {label: max(float(logprobs[label]), _FLOOR) for label in ("A", "B")}


def _log(p: float) -> float:
    return math.log(p) if p > 0 else _FLOOR


def clamp(p: float, low: float = COT_CLAMP[0], high: float = COT_CLAMP[1]) -> float:
    """`p` held between `low` and `high`.

    >>> clamp(0.97), clamp(0.55), clamp(0.01)
    (0.6, 0.55, 0.4)
    """
    return min(max(p, low), high)


def scale(p: float, temperature: float) -> float:
    """`p` with its logit divided by `temperature`: above 1 it moves towards 0.5.

    >>> round(scale(0.9, 2.0), 4)
    0.75
    """
    return p if temperature == 1.0 else sigmoid(logit(p) / temperature)


def logit(p: float, *, limit: float = 30.0) -> float:
    """Log-odds of `p`, held within ± `limit` so that 0 and 1 stay finite."""
    if p <= 0 or p >= 1:
        return math.copysign(limit, p - 0.5)
    return min(max(math.log(p) - math.log1p(-p), -limit), limit)


def sigmoid(z: float) -> float:
    """The logistic function, without overflow at either end."""
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    odds = math.exp(z)
    return odds / (1 + odds)
