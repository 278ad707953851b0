"""The judge's win rate along a run: smoothed, fitted, and whether it has turned down. Pure maths.

An evaluation is a `Seen`; distance is d = √KL to the reference. Start from `find_decline`, which
says when the proxy reward is being gamed; `proxy_curve` and `judge_curve` fit R(d).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from cai.stats.intervals import Z_95, Interval
from cai.stats.overoptimisation import Curve, fit

_AT_REFERENCE = 0.1  # √nats: a policy that no sample can tell from its reference


class Seen(NamedTuple):
    """What is remembered of an evaluation."""

    step: int
    kl: float
    proxy_reward: float
    win_rate: float | None = None
    judge_n: int = 0

    @property
    def distance(self) -> float:
        """√KL in √nats; an estimate below 0 counts as 0."""
        return math.sqrt(max(self.kl, 0.0))


class Pooled(NamedTuple):
    """The win rate of some evaluations together, with the error of Agresti and Coull (1998).

    `centre` is the rate with two successes and two failures (about) added, which keeps the error
    above 0 at rates of 0 and 1.
    """

    mean: float
    centre: float
    error: float

    @classmethod
    def of(cls, stretch: Sequence[Seen]) -> Pooled:
        """Judged evaluations together, each counted by its verdicts."""
        n, won, more = sum(one.judge_n for one in stretch), sum(map(_won, stretch)), Z_95**2
        centre = (won + more / 2) / (n + more)
        return cls(won / n, centre, math.sqrt(centre * (1 - centre) / (n + more)))

    @property
    def interval(self) -> Interval:
        """95 %, within [0, 1]."""
        half = Z_95 * self.error
        return Interval(max(0.0, self.centre - half), min(1.0, self.centre + half))


class Decline(NamedTuple):
    """The judge's win rate turned down while the proxy rose.

    The latest `window` judged evaluations against the `window` in a row before them with the
    highest win rate. It is lower by more than `min_drop` and by more than z standard errors of the
    difference, and the proxy's mean is higher. z is that of a one-sided test at the level
    `false_alarms` / k(k + 1)/2, where k such stretches can be compared so far: the more often one
    looks, the surer one must be. Errors are binomial, which for soft labels and prompts that stay
    the same is an upper bound.
    """

    best: float
    now: float
    best_step: int
    proxy_then: float
    proxy_now: float

    def told(self) -> str:
        """The reason to stop."""
        return (
            f"the judge's win rate fell from {self.best:.3f} (around step {self.best_step}) to "
            f"{self.now:.3f} while the reward rose from {self.proxy_then:.3g} to "
            f"{self.proxy_now:.3g}: the reward no longer measures what the judge values"
        )


def find_decline(
    seen: Sequence[Seen], *, window: int, false_alarms: float, min_drop: float
) -> Decline | None:
    """The decline at the latest evaluation, if there is one: see `Decline`."""
    known = judged(seen)
    num_stretches = len(known) - 2 * window + 1
    if num_stretches < 1:
        return None
    earlier = [known[start : start + window] for start in range(num_stretches)]
    before = max(earlier, key=lambda stretch: Pooled.of(stretch).mean)
    then, now = Pooled.of(before), Pooled.of(known[-window:])
    level = false_alarms / (num_stretches * (num_stretches + 1) / 2)
    least = NormalDist().inv_cdf(1 - level) * math.hypot(then.error, now.error)
    proxy_then, proxy_now = _mean_proxy(before), _mean_proxy(known[-window:])
    if then.mean - now.mean <= max(min_drop, least) or proxy_now <= proxy_then:
        return None
    return Decline(then.mean, now.mean, before[-1].step, proxy_then, proxy_now)


def proxy_curve(seen: Sequence[Seen]) -> Curve | None:
    """R(d) through the proxy reward; what it is at the reference is fitted too."""
    rewards = [one.proxy_reward for one in seen]
    return fit([one.distance for one in seen], rewards, has_start=True)


def judge_curve(seen: Sequence[Seen]) -> Curve | None:
    """R(d) through the log-odds of the win rate, each weighted by its information n·p(1 − p).

    Under Bradley and Terry's model the log-odds of winning are the gain in the judge's reward, so
    the curve of win rates is σ(R(d)), from one half at d = 0. Where an evaluation was made there,
    R(0) is fitted: sampled answers may lose to greedy ones of the reference itself.
    """
    known = judged(seen)
    shares = [(_won(one) + 0.5) / (one.judge_n + 1) for one in known]
    return fit(
        [one.distance for one in known],
        [math.log(p / (1 - p)) for p in shares],
        weights=[one.judge_n * p * (1 - p) for one, p in zip(known, shares, strict=True)],
        has_start=any(one.distance < _AT_REFERENCE for one in known),
    )


def judged(seen: Sequence[Seen]) -> list[Seen]:
    """Those with a win rate."""
    return [one for one in seen if one.win_rate is not None]


def _won(one: Seen) -> float:
    return (one.win_rate or 0.0) * one.judge_n


def _mean_proxy(stretch: Sequence[Seen]) -> float:
    return statistics.fmean(one.proxy_reward for one in stretch)
