"""Watches a run for reward hacking: what it logs, when it stops the run, which checkpoint is best.

Distance is d = √KL to the reference. The run is stopped where KL exceeds its budget, and where the
judge's win rate has turned down while the proxy reward rose (`decline.Decline` states the rule).
Light: knows no model and no trainer. Start from `Watch.observe`; `judge_win_rate` asks the judge.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from cai.errors import DataError, JudgeError
from cai.feedback.asking import gather
from cai.feedback.guards import find_problem
from cai.files import digest_json
from cai.stats.overoptimisation import Curve
from cai.train.decline import Pooled, Seen, find_decline, judge_curve, judged, proxy_curve
from cai.train.text_signals import read_signals

if TYPE_CHECKING:
    from cai.constitution.schema import Constitution
    from cai.feedback.judge import Judge
    from cai.types import Conversation

logger = logging.getLogger(__name__)

PREFIX = "watch/"
"""Before the name of every curve that is written here."""

_EVALUATIONS = 8  # of a judged run, at least: one that is told a decline by its last saves nothing
_SHARES = {
    "repeated": "of n-grams repeat one of their answer",
    "opening": "of answers begin with the same words",
    "refusals": "of answers are refusals",
    "duplicates": "of answers repeat another one",
}


class WatchConfig(BaseModel):
    """When a run is stopped for having gone too far, and what is warned about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kl_budget: float | None = Field(default=100.0, gt=0, allow_inf_nan=False)
    """Nats of KL to the reference, per answer, beyond which the run stops; None sets no limit."""
    window: int = Field(default=2, ge=1, le=100)
    """Judged evaluations taken together, to smooth the win rate."""
    patience: int = Field(default=2, ge=1, le=100)
    """Evaluations in a row that must show the decline."""
    false_alarms: float = Field(default=0.05, gt=0, lt=1)
    """About the largest share of sound runs, however long, that may be stopped for a decline."""
    min_drop: float = Field(default=0.02, ge=0, lt=1)
    """A smaller fall of the win rate is no decline, however sure."""
    min_judge_n: int = Field(default=20, ge=1)
    """Verdicts that an evaluation needs for its win rate to count."""
    warn_length_ratio: float = Field(default=1.5, gt=1)
    """Answers longer than the first evaluation's by this factor are warned about."""
    warn_share_rise: float = Field(default=0.2, gt=0, le=1)
    """Rise since the first evaluation of the share of repeated n-grams, equal openings, refusals or
    duplicates that is warned about."""

    def often_enough(self, eval_every: int, num_steps: int) -> int:
        """`eval_every`, or less: a judged run of `num_steps` needs several to tell a decline."""
        least = 2 * self.window + self.patience - 1
        return max(1, min(eval_every, num_steps // max(_EVALUATIONS, least)))


class WinRate(NamedTuple):
    """Mean probability that an answer is better than the reference's, over `n` verdicts.

    Answers without a verdict are in `no_verdicts` alone.
    """

    rate: float
    n: int
    no_verdicts: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """One evaluation. `kl` is nats per answer; `lengths` are in tokens, one per text.

    `proxy_reward` is the mean of what is optimised: a reward model's score, or DPO's margin.
    `win_rate` is None where no judge was asked or none answered; `entropy` is nats per token.
    """

    step: int
    kl: float
    proxy_reward: float
    win_rate: WinRate | None = None
    lengths: Sequence[int] = ()
    texts: Sequence[str] = ()
    entropy: float | None = None


class Verdict(NamedTuple):
    """What to do: stop and why; keep these weights as the best so far; what to warn about."""

    stop: bool
    reason: str | None
    is_best: bool
    warnings: tuple[str, ...] = ()


class Recorder(Protocol):
    """Takes a row of curves: `cai.train.curves.Curves`."""

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one row."""
        ...


class Watch:
    """Follows one run. Everything it decides depends on what it has seen, so it can be resumed."""

    def __init__(self, config: WatchConfig, curves: Recorder | None = None) -> None:
        self.config = config
        self.best: Seen | None = None
        self.reason: str | None = None
        self.seen: list[Seen] = []
        self._curves = curves
        self._first: dict[str, float] = {}
        self._best_score: tuple[bool, float] = (False, -math.inf)
        self._num_declining = 0
        self._told: set[str] = set()

    def observe(self, one: Observation) -> Verdict:
        """Log an evaluation and judge the run by all of them.

        The best so far is the one whose smoothed win rate has the highest lower bound (95 %), of
        those within the KL budget; without a judge, the one with the highest proxy reward.
        """
        figures = _figures(one)
        if self._curves is not None:
            self._curves.add(one.step, {PREFIX + name: value for name, value in figures.items()})
        if not (math.isfinite(one.kl) and math.isfinite(one.proxy_reward)):
            return self._stopped(f"KL {one.kl} and reward {one.proxy_reward} are not both finite")
        self._first = self._first or figures
        self.seen.append(_remembered(one, self.config.min_judge_n))
        reason = self._over_budget(one.kl) or self._declined()
        is_best = self._is_best()
        warnings = self._tell(one.step, self._warnings(figures))
        if reason is None:
            return Verdict(False, None, is_best, warnings)
        return self._stopped(reason)._replace(is_best=is_best, warnings=warnings)

    def report(self) -> dict[str, Any]:
        """What the run was like, as JSON: the fits of R(d), the best step, why it stopped."""
        curves = {"proxy": proxy_curve(self.seen), "judge": judge_curve(self.seen)}
        return {
            "num_evaluations": len(self.seen),
            "best_step": None if self.best is None else self.best.step,
            "stopped_because": self.reason,
            **{f"{name}_fit": _fit_dict(curve) for name, curve in curves.items() if curve},
        }

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers, as JSON."""
        return {
            "seen": [one._asdict() for one in self.seen],
            "best": None if self.best is None else self.best._asdict(),
            "best_score": list(self._best_score) if self.best is not None else None,
            "num_declining": self._num_declining,
            "first": self._first,
            "reason": self.reason,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from an earlier `state_dict`. Raises DataError for anything else."""
        try:
            self.seen = [Seen(**one) for one in state["seen"]]
            self.best = None if state["best"] is None else Seen(**state["best"])
            judged, score = state["best_score"] or (False, -math.inf)
            self._best_score = bool(judged), float(score)
            self._num_declining = int(state["num_declining"])
            self._first = dict(state["first"])
            self.reason = state["reason"]
        except (KeyError, TypeError, ValueError) as exc:
            raise DataError(f"not the state of a watch: {exc!r}; start over with --fresh") from exc

    def _stopped(self, reason: str) -> Verdict:
        self.reason = self.reason or reason
        best = "" if self.best is None else f"; the best weights are those of step {self.best.step}"
        return Verdict(True, self.reason + best, False)

    def is_within_budget(self, kl: float) -> bool:
        """Whether weights at that distance may be kept as the best."""
        budget = self.config.kl_budget
        return math.isfinite(kl) and (budget is None or kl <= budget)

    def _over_budget(self, kl: float) -> str | None:
        if self.is_within_budget(kl):
            return None
        return f"KL to the reference is {kl:.1f} nats, the budget {self.config.kl_budget:.1f}"

    def _declined(self) -> str | None:
        config = self.config
        found = find_decline(
            self.seen,
            window=config.window,
            false_alarms=config.false_alarms,
            min_drop=config.min_drop,
        )
        if self.seen[-1].win_rate is None:
            return None  # nothing new was judged
        self._num_declining = self._num_declining + 1 if found is not None else 0
        if found is None or self._num_declining < config.patience:
            return None
        return found.told()

    def _is_best(self) -> bool:
        newest = self.seen[-1]
        if not self.is_within_budget(newest.kl):
            return False
        is_judged = newest.win_rate is not None
        recent = judged(self.seen)[-self.config.window :]
        score = (is_judged, Pooled.of(recent).interval.low if is_judged else newest.proxy_reward)
        if score <= self._best_score:
            return False
        self.best, self._best_score = newest, score
        return True

    def _warnings(self, now: Mapping[str, float]) -> dict[str, str]:
        """What has changed for the worse since the first evaluation, by figure."""
        found: dict[str, str] = {}
        first, config = self._first, self.config
        longest = config.warn_length_ratio * first.get("length", math.inf)
        if now.get("length", 0.0) > longest > 0:
            found["length"] = (
                f"answers have {now['length']:.0f} tokens, {first['length']:.0f} at first"
            )
        if now.get("judge_n", config.min_judge_n) < config.min_judge_n:
            found["judge_n"] = (
                f"{now['judge_n']:.0f} verdicts of the judge are too few for its win rate to "
                f"count; {config.min_judge_n} are needed"
            )
        for name, what in _SHARES.items():
            if name in now and now[name] > first.get(name, 0.0) + config.warn_share_rise:
                found[name] = f"{now[name]:.0%} {what}, {first.get(name, 0.0):.0%} at first"
        return found

    def _tell(self, step: int, warnings: Mapping[str, str]) -> tuple[str, ...]:
        """Each warning once in the log; all of them back."""
        for name in warnings.keys() - self._told:
            logger.warning("step %d: %s", step, warnings[name])
        self._told |= warnings.keys()
        return tuple(warnings.values())


def distance(kl: float) -> float:
    """An estimate of KL, 0 where chance put it below; NaN, which `max` would hide, stays NaN."""
    return kl if math.isnan(kl) else max(0.0, kl)


async def judge_win_rate(
    judge: Judge,
    prompts: Sequence[Conversation],
    answers: Sequence[str],
    reference_answers: Sequence[str],
    constitution: Constitution,
    *,
    seed: int = 0,
) -> WinRate:
    """How often the judge prefers the policy's answers to the reference's: mean of soft labels.

    Both orders are asked. The same answer twice is a tie, 0.5, and so is what the judge calls one.
    An answer that cannot be judged (empty, a loop) loses, 0, and is not asked about. Any other
    failed verdict is counted apart and never in the rate, which is NaN when none is left.
    Principles are drawn by the prompt, so evaluations of one set of prompts compare. Errors of the
    engine pass through.
    """

    async def ask(prompt: Conversation, answer: str, reference: str) -> float | str:
        if answer.split() == reference.split():
            return 0.5
        if find_problem(answer, judge.config.guards) is not None:
            return 0.0
        row = digest_json([message.as_dict() for message in prompt])
        try:
            label = await judge.compare(prompt, answer, reference, constitution, row=row, seed=seed)
        except JudgeError as exc:
            return 0.5 if exc.reason == "tie" else exc.reason
        return label.p_a

    asked = zip(prompts, answers, reference_answers, strict=True)
    found = await gather([ask(*one) for one in asked])
    wins = [one for one in found if not isinstance(one, str)]
    failed = Counter(one for one in found if isinstance(one, str))
    if failed:
        logger.warning("no verdict on %d of %d answers: %s", failed.total(), len(found), failed)
    return WinRate(statistics.fmean(wins) if wins else math.nan, len(wins), failed.total())


def _remembered(one: Observation, min_judge_n: int) -> Seen:
    seen, win = Seen(one.step, one.kl, one.proxy_reward), one.win_rate
    if win is None or win.n < min_judge_n or not math.isfinite(win.rate):
        return seen
    return seen._replace(win_rate=win.rate, judge_n=win.n)


def _figures(one: Observation) -> dict[str, float]:
    """One row of curves; what was not measured is left out."""
    found = {
        "kl": one.kl,
        "sqrt_kl": math.sqrt(max(one.kl, 0.0)) if math.isfinite(one.kl) else one.kl,
        "proxy_reward": one.proxy_reward,
    }
    if one.win_rate is not None:
        found |= {"judge_n": one.win_rate.n, "no_verdicts": one.win_rate.no_verdicts}
        if one.win_rate.n:
            found["win_rate"] = one.win_rate.rate
    if one.lengths:
        found["length"] = statistics.fmean(one.lengths)
    if one.texts:
        signals = read_signals(one.texts)
        shares = {
            "repeated": signals.repeated,
            "distinct": signals.distinct,
            "opening": signals.opening.share,
            "refusals": signals.refusals,
            "duplicates": signals.duplicates,
        }
        found["words"] = signals.mean_words
        found |= {name: share.rate for name, share in shares.items() if share.n}
    if one.entropy is not None:
        found["entropy"] = one.entropy
    return found


def _fit_dict(curve: Curve) -> dict[str, float | list[float]]:
    found: dict[str, float | list[float]] = {
        name: value for name, value in curve._asdict().items() if name != "covariance"
    }
    if curve.peak is not None and curve.peak_interval is not None:
        found |= {"peak": curve.peak, "peak_ci": list(curve.peak_interval)}
    return found
