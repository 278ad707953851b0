"""Two arms of live traffic: what people, or a judge, say of each, and what to do about it.

The test holds however often it is looked at, so a recommendation may be acted on as soon as it is
made. A user counts once in each arm, by what was said first: those who say more are one person.
Pure functions over feedback; start from `compare_arms` and `recommend`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from cai.errors import DataError
from cai.policy.assignment import LIVE, Split
from cai.registry import choices
from cai.stats.intervals import Interval, mean_interval, rate_of
from cai.stats.sequential import (
    DIFFERENCE,
    UNIT,
    Counts,
    confidence_sequence,
    counted,
    mean_of,
    p_value,
    paired,
)

if TYPE_CHECKING:
    from cai.policy.feedback import StoredFeedback  # needs what the database needs

Metric = Literal["thumbs", "rating", "judge"]
Action = Literal["promote", "rollback", "drop", "stop", "continue"]

MAX_RATIO: Final = 10
"""Most values of one arm that are set against one of the other."""

_THUMBS = {"up": 1.0, "down": 0.0}


class Arms(NamedTuple):
    """The arm that is held against, most often the live policy, and the one on trial."""

    a: str
    b: str


@dataclass(frozen=True, slots=True)
class ABTest:
    """What is known of two arms after `n` blocks of values.

    `estimate` is b's mean less a's (thumbs: share of thumbs up; rating: on a scale from 0 to 1), or
    under `judge` how often b wins; `even` is what it is where neither is better. `ci` is a
    confidence sequence: the intervals of all looks hold together with probability 1 − `alpha`.
    """

    metric: Metric
    arms: Arms
    per_arm: Mapping[str, Mapping[str, Any]]
    estimate: float | None
    even: float
    ci: Interval
    p_value: float
    alpha: float
    n: int
    repeated: int = 0
    """Feedback passed over because its user had been counted in the arm."""

    def as_dict(self) -> dict[str, Any]:
        """The figures of a result."""
        shown: dict[str, Any] = {
            "metric": self.metric,
            "arms": {arm: dict(told) for arm, told in self.per_arm.items()},
            "quantity": "win rate of b" if self.metric == "judge" else "mean of b less mean of a",
            "a": self.arms.a,
            "b": self.arms.b,
            "estimate": None if self.estimate is None else round(self.estimate, 6),
            "even": self.even,
            "ci": [round(end, 6) for end in self.ci],
            "p_value": float(f"{self.p_value:.6g}"),
            "alpha": self.alpha,
            "n": self.n,
            "repeated_users": self.repeated,
        }
        return {name: value for name, value in shown.items() if value is not None}


class Recommendation(NamedTuple):
    """What to do, with which arm, and why; `arm` is None where nothing is to be done to one."""

    action: Action
    arm: str | None
    why: str


def compare_arms(
    records: Iterable[StoredFeedback],
    arms: Arms,
    metric: Literal["thumbs", "rating"],
    *,
    alpha: float = 0.05,
    ratio: tuple[int, int] = (1, 1),
) -> ABTest:
    """Test the arms by what people said, in the order in which they said it.

    Values meet in blocks of `ratio`: see `cai.stats.sequential.paired`. Raises DataError where an
    arm has no value, or several policies answered under its name.
    """
    seen = list(records)
    check_arms(seen, arms)
    told, repeated = once_per_user(seen, arms, metric)
    values = [(str(one.arm), _value(one, metric)) for one in told]
    per_arm = {
        arm: _told_of(metric, [value for name, value in values if name == arm]) for arm in arms
    }
    for arm, figures in per_arm.items():
        if not figures["n"]:
            raise DataError(
                f"nobody gave {metric} to the arm '{arm}' yet; look again later, or take another "
                "--metric"
            )
    counts = counted(paired(values, *arms, ratio=ratio))
    return _tested(metric, arms, per_arm, counts, alpha, even=0.0, repeated=repeated)


def compare_wins(
    wins_of_b: Sequence[float], arms: Arms, *, alpha: float = 0.05, no_verdict: int = 0
) -> ABTest:
    """Test the arms by a judge's probabilities that b's answer is better, in their order.

    Raises DataError without any.
    """
    if not wins_of_b:
        raise DataError("the judge gave no verdict on the arms; see its constitution and engine")
    rate = rate_of(sum(wins_of_b), len(wins_of_b))
    assert rate is not None, "there are verdicts"
    other = rate_of(len(wins_of_b) - sum(wins_of_b), len(wins_of_b))
    assert other is not None, "there are verdicts"
    per_arm = {
        arms.a: {"n": len(wins_of_b), "win_rate": other.as_dict()},
        arms.b: {"n": len(wins_of_b), "win_rate": rate.as_dict()},
    }
    if no_verdict:
        per_arm = {arm: {**told, "no_verdict": no_verdict} for arm, told in per_arm.items()}
    return _tested("judge", arms, per_arm, counted(wins_of_b), alpha, even=0.5)


def recommend(
    test: ABTest, *, before_live: str | None = None, margin: float = 0.0
) -> Recommendation:
    """What the test says to do. `before_live` is the policy that a rollback would go back to.

    With a `margin` the trial ends as well when the difference is surely smaller than that.
    """
    if test.estimate is None:
        return Recommendation("continue", None, f"{test.metric}: no whole block of values yet")
    low, high = test.ci.low - test.even, test.ci.high - test.even
    told = f"{test.metric}: {test.estimate:+.3f} [{test.ci.low:+.3f}, {test.ci.high:+.3f}]"
    told += f" after {test.n} blocks, at any look"
    if low > 0 or high < 0:
        winner, loser = (test.arms.b, test.arms.a) if low > 0 else test.arms
        return _settled(winner, loser, before_live, told)
    if margin and -margin < low and high < margin:
        return Recommendation("stop", None, f"the arms differ by less than {margin:g}; {told}")
    return Recommendation("continue", None, f"neither is shown to be better; {told}")


def check_arms(records: Sequence[StoredFeedback], arms: Arms) -> None:
    """Raise DataError for an arm without feedback, and for one that stood for several policies."""
    seen = sorted({one.arm for one in records if one.arm is not None})
    for arm in arms:
        if arm not in seen:
            raise DataError(f"there is no feedback from the arm '{arm}'{choices(arm, seen)}")
        policies = sorted({one.policy_id for one in records if one.arm == arm and one.policy_id})
        if len(policies) > 1:
            raise DataError(
                f"the arm '{arm}' was answered by {len(policies)} policies "
                f"({', '.join(policies[:4])}); give a time since which it is one, with --since"
            )


def once_per_user(
    records: Iterable[StoredFeedback], arms: Arms, metric: Metric
) -> tuple[list[StoredFeedback], int]:
    """The first of each user in each arm, and how many were passed over; the unnamed all count."""
    found: list[StoredFeedback] = []
    known, repeated = set[tuple[str, str]](), 0
    for one in records:
        if one.arm not in arms or (metric != "judge" and getattr(one, metric) is None):
            continue
        key = (str(one.arm), one.user_digest or one.id)
        if key in known:
            repeated += 1
            continue
        known.add(key)
        found.append(one)
    return found, repeated


def block_ratio(split: Split, arms: Arms) -> tuple[int, int]:
    """How many values of each arm make a block, by the shares that the arms have of the traffic.

    >>> block_ratio({"new": 10.0}, Arms("live", "new"))
    (9, 1)
    """
    shares = {LIVE: 100.0 - sum(split.values()), **split}
    a, b = shares.get(arms.a, 0.0), shares.get(arms.b, 0.0)
    if not (a > 0 and b > 0):
        return (1, 1)
    larger = min(MAX_RATIO, max(1, round(max(a, b) / min(a, b))))
    return (larger, 1) if a >= b else (1, larger)


def _settled(winner: str, loser: str, before_live: str | None, told: str) -> Recommendation:
    better = f"{winner} is better than {loser}; {told}"
    if loser == LIVE:
        action: Action = "rollback" if winner == before_live else "promote"
        return Recommendation(action, winner, better)
    return Recommendation("drop", loser, better)


def _tested(
    metric: Metric,
    arms: Arms,
    per_arm: Mapping[str, Mapping[str, Any]],
    counts: Counts,
    alpha: float,
    *,
    even: float,
    repeated: int = 0,
) -> ABTest:
    bounds = UNIT if metric == "judge" else DIFFERENCE
    return ABTest(
        metric=metric,
        arms=arms,
        per_arm=per_arm,
        estimate=mean_of(counts),
        even=even,
        ci=confidence_sequence(counts, alpha=alpha, bounds=bounds),
        p_value=p_value(counts, even, bounds=bounds),
        alpha=alpha,
        n=sum(counts.values()),
        repeated=repeated,
    )


def _value(one: StoredFeedback, metric: Literal["thumbs", "rating"]) -> float:
    if metric == "thumbs":
        assert one.thumbs is not None, "only feedback with thumbs is counted"
        return _THUMBS[one.thumbs]
    assert one.rating is not None, "only feedback with a rating is counted"
    return (one.rating - 1) / 4


def _told_of(metric: str, values: Sequence[float]) -> dict[str, Any]:
    """One arm's own figures, with the plain interval of a single look."""
    told: dict[str, Any] = {"n": len(values)}
    if metric == "thumbs" and (rate := rate_of(sum(values), len(values))) is not None:
        return {**told, "up": rate.as_dict()}
    if values:
        ratings = [1 + 4 * value for value in values]
        told["mean_rating"] = round(sum(ratings) / len(ratings), 6)
    if len(values) > 1:
        told["ci"] = [round(end, 6) for end in mean_interval(ratings)]
    return told
