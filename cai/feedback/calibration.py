"""How far a judge can be trusted, measured while it works, per judge and per principle.

Counts only, so memory does not grow with the number of pairs, and two parts of a run merge.
Start from `Calibration.observe`; `as_dict` is what manifests and cards show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from cai.feedback.labels import read_pair
from cai.feedback.records import PairLabel, Side
from cai.feedback.tally import Tally


class CalibrationLimits(BaseModel):
    """What a run may show before it warns, or refuses to go on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_pairs: int = Field(default=50, ge=1)
    """Pairs judged (or known pairs, for the last two) before a limit is looked at."""

    max_flip_share: float | None = Field(default=0.5, ge=0, le=1)
    """Largest share of pairs whose verdict goes with the position."""

    max_bias: float | None = Field(default=0.25, ge=0, le=0.5)
    """Largest absolute mean position bias, as a probability less 0.5."""

    max_calibration_error: float | None = Field(default=None, ge=0, le=1)
    """Largest expected calibration error on pairs with a known label."""

    min_accuracy: float | None = Field(default=None, ge=0, le=1)
    """Smallest accuracy on pairs with a known label, a missing verdict counted as wrong."""

    on_breach: Literal["warn", "refuse"] = "warn"
    """`refuse` stops the run at the first breach; its rows so far stay."""


class Calibration:
    """Tallies of one run: per judge as a whole, and per principle of each judge."""

    def __init__(self) -> None:
        self.judges: dict[str, Tally] = {}
        self.principles: dict[str, dict[str, Tally]] = {}

    def observe(
        self, label: PairLabel, *, known: Side | None = None, refused: str | None = None
    ) -> None:
        """Count a label. `refused` is the reason when it was measured but will not be used."""
        tally = self._judge(label.policy)
        tally.observe(label.read, label.p_a, known if refused is None else None)
        if refused is not None:
            tally.miss(refused, known=known is not None)
        for vote in label.votes:
            self._principle(label.policy, vote.principle).observe(vote.read, vote.p_a, known)

    def miss(
        self, policy: str, reason: str, *, known: bool = False, principle: str | None = None
    ) -> None:
        """Count a pair without a measured label."""
        self._judge(policy).miss(reason, known=known)
        if principle is not None:
            self._principle(policy, principle).miss(reason, known=known)

    def observe_row(
        self,
        label: Mapping[str, Any],
        p_chosen: float,
        *,
        known: Side | None = None,
        refused: str | None = None,
    ) -> None:
        """Count a label as it stands in a row: so a resumed run's numbers cover all its rows.

        `known` is "a" when the chosen answer of the row is the right one.
        """
        policy = label["judge"]["policy"]
        read = read_pair(label["order_ab"], label["order_ba"])
        tally = self._judge(policy)
        tally.observe(read, p_chosen, known if refused is None else None)
        if refused is not None:
            tally.miss(refused, known=known is not None)
        if "votes" not in label:
            for name in label["principles"]:
                self._principle(policy, name).observe(read, read.p_a, known)
        for vote in label.get("votes", ()):
            one = read_pair(vote["order_ab"], vote["order_ba"])
            self._principle(policy, vote["principle"]).observe(one, one.p_a, known)

    def merge(self, other: Calibration) -> None:
        """Add another part's counts."""
        for policy, tally in other.judges.items():
            self._judge(policy).merge(tally)
        for policy, principles in other.principles.items():
            for name, tally in principles.items():
                self._principle(policy, name).merge(tally)

    def breaches(self, limits: CalibrationLimits) -> list[str]:
        """What is beyond `limits`, in words that name the judge, the value and the limit."""
        return [
            f"judge {policy}: {one.what} is {one.value:.3f}, the limit {one.limit} (n={one.n})"
            for policy, tally in self.judges.items()
            for one in _checks(tally, limits)
            if one.is_breach and one.n >= limits.min_pairs
        ]

    def as_dict(self) -> dict[str, Any]:
        """Per judge: its own numbers, and those of each principle under `principles`."""
        return {
            policy: {
                **tally.as_dict(),
                "principles": {
                    name: one.as_dict()
                    for name, one in sorted(self.principles.get(policy, {}).items())
                },
            }
            for policy, tally in sorted(self.judges.items())
        }

    def _judge(self, policy: str) -> Tally:
        return self.judges.setdefault(policy, Tally())

    def _principle(self, policy: str, name: str) -> Tally:
        return self.principles.setdefault(policy, {}).setdefault(name, Tally())


class _Check(NamedTuple):
    what: str
    value: float | None
    limit: float | None
    is_breach: bool
    n: int


def _checks(tally: Tally, limits: CalibrationLimits) -> list[_Check]:
    n, known = tally.num_pairs, tally.num_asked_known
    bias = None if tally.bias is None else abs(tally.bias)
    accuracy, low = tally.accuracy, limits.min_accuracy
    too_low = accuracy is not None and low is not None and accuracy < low
    return [
        _at_most("share of flips", tally.flip_share, limits.max_flip_share, n),
        _at_most("position bias", bias, limits.max_bias, n),
        _at_most("calibration error", tally.calibration_error, limits.max_calibration_error, known),
        _Check("accuracy", accuracy, low, too_low, known),
    ]


def _at_most(what: str, value: float | None, limit: float | None, n: int) -> _Check:
    is_breach = value is not None and limit is not None and value > limit
    return _Check(what, value, limit, is_breach, n)
