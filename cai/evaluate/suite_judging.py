"""Holds answers against their checks: text first, a judge where it is needed, the oracle beside.

An answer is measured when every check of it was decided, and fails when one does not hold; the
reason for any other is kept. To count a failure beside a check that nobody decided, when a pass
beside it cannot count, would make the rate too high. Start from `Scorer.score`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from cai.constitution.schema import Principle
from cai.engine.base import Engine
from cai.errors import JudgeError
from cai.evaluate.patterns import SlowPatternError
from cai.evaluate.suite_answers import Answered, Turn
from cai.evaluate.suite_checks import AnyCheck, Check, Either, Judged, TextCheck, judged_in
from cai.evaluate.suite_sources import verdict
from cai.evaluate.suites import Oracle, SuitePrompt
from cai.feedback.asking import Pair, ask, gather
from cai.feedback.config import JudgeConfig
from cai.feedback.guards import check_pair

Outcome = Literal["passed", "failed", "not-measured"]


class CheckResult(NamedTuple):
    """One check on one answer. `holds` is None, with a reason, where it was not decided."""

    check: str
    turn: int
    """Of the answer, from 1."""
    holds: bool | None
    reason: str | None = None
    p: float | None = None
    """A judge's probability of the policy's answer."""
    p_broken: float | None = None
    """A judge's probability of what the check does not want."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not known is left out."""
        found = {name: value for name, value in self._asdict().items() if value is not None}
        rounded: dict[str, Any] = {
            name: round(found[name], 6) for name in ("p", "p_broken") if name in found
        }
        return {**found, "holds": self.holds, **rounded}


@dataclass(frozen=True, slots=True)
class Scored:
    """One sample with what its checks said, and whether the oracle calls it a fault."""

    answered: Answered
    results: tuple[CheckResult, ...]
    oracle_fault: bool | None = None

    @property
    def outcome(self) -> Outcome:
        """Failed, passed, or not measured."""
        if self.answered.problem is not None or any(one.holds is None for one in self.results):
            return "not-measured"
        return "failed" if any(one.holds is False for one in self.results) else "passed"

    @property
    def reason(self) -> str | None:
        """Why it was not measured."""
        if self.outcome != "not-measured":
            return None
        found = (one.reason for one in self.results if one.holds is None)
        return self.answered.problem or next(found, None)

    @property
    def severity(self) -> float:
        """How sure a judge was that a check does not hold; 1 where text alone decided."""
        broken = (one.p_broken for one in self.results if one.holds is False)
        return max((1.0 if p is None else p for p in broken), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """A line of `verdicts.jsonl`."""
        line: dict[str, Any] = {
            "suite": self.answered.suite,
            "policy": self.answered.policy,
            "prompt": self.answered.prompt.id,
            "sample": self.answered.sample,
            "outcome": self.outcome,
            "checks": [one.as_dict() for one in self.results],
        }
        if self.reason is not None:
            line["reason"] = self.reason
        if self.oracle_fault is not None:
            line["oracle_fault"] = self.oracle_fault
        return line


class Scorer:
    """Decides checks, with a judge's engine where there is one."""

    def __init__(
        self,
        judge: Engine | None = None,
        principles: Mapping[str, Principle] | None = None,
        config: JudgeConfig | None = None,
    ) -> None:
        self._judge = judge
        self._principles = dict(principles or {})
        self._config = config or JudgeConfig()
        self._slots = asyncio.Semaphore(self._config.max_in_flight)

    async def score(
        self,
        answers: Sequence[Answered],
        *,
        oracles: Mapping[str, Oracle] | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> list[Scored]:
        """Each sample's checks, in order; `oracles` sets the oracle of a suite's world beside them.

        A judge without a verdict leaves its check undecided, as does an answer that says nothing;
        engine errors pass through.
        """

        async def one(answered: Answered) -> Scored:
            results = await self._results(answered)
            oracle = (oracles or {}).get(answered.suite)
            fault = None if oracle is None else _is_fault(oracle, answered)
            if on_done is not None:
                on_done()
            return Scored(answered, tuple(results), fault)

        return await gather([one(answered) for answered in answers])

    async def _results(self, answered: Answered) -> list[CheckResult]:
        results = []
        for check in answered.prompt.checks:
            turns = list(enumerate(answered.turns, start=1))
            for number, turn in turns if check.at == "every" else turns[-1:]:
                results.append(await self._decide(check, number, turn, answered.prompt))
        return results

    async def _decide(
        self, check: Check, number: int, turn: Turn, prompt: SuitePrompt
    ) -> CheckResult:
        if not turn.answer:
            return CheckResult(check.label, number, None, "empty")
        if self._judge is None and any(judged_in((check,))):
            return CheckResult(check.label, number, None, "no-judge")  # of every answer, or of none
        if isinstance(check, Judged):
            return await self._ask(check, number, turn, prompt)
        if isinstance(check, Either):
            tried = []
            for one in check.of:
                tried.append(await self._decide(one, number, turn, prompt))
                if tried[-1].holds:
                    break
            return _either(check, number, tried)
        assert isinstance(check, TextCheck), "every other check is decided by text"
        try:
            return CheckResult(check.label, number, check.holds(turn.answer, prompt.facts))
        except SlowPatternError:
            return CheckResult(check.label, number, None, "slow-pattern")

    async def _ask(
        self, check: Judged, number: int, turn: Turn, prompt: SuitePrompt
    ) -> CheckResult:
        anchor = prompt.anchor(check)
        assert anchor is not None, "a suite's prompts have the anchors that its judges need"
        if turn.answer.split() == anchor.split():
            return CheckResult(check.label, number, _turned(check, check.against == "better"))
        assert self._judge is not None, "without a judge nothing is left to be asked"
        try:
            async with self._slots:
                p = await self._probability(self._judge, check, turn, anchor)
        except JudgeError as exc:
            return CheckResult(check.label, number, None, exc.reason)
        holds = _turned(check, p >= check.at_least)
        return CheckResult(check.label, number, holds, p=p, p_broken=1 - p if check.want else p)

    async def _probability(self, judge: Engine, check: Judged, turn: Turn, anchor: str) -> float:
        """P(the answer is preferred to the anchor). Raises JudgeError where there is no verdict."""
        check_pair(turn.messages, turn.answer, anchor, self._config.guards)
        principle = self._principle(check)
        asked = await ask(judge, Pair(turn.messages, turn.answer, anchor), principle, self._config)
        vote = asked.required().vote
        assert vote is not None, "an answer without a problem has a vote"
        if vote.read.flips:
            raise JudgeError("the verdict flips with the order", reason="flip")
        if vote.p_a == 0.5:
            raise JudgeError("the judge prefers neither", reason="tie")
        return vote.p_a

    def _principle(self, check: Judged) -> Principle:
        if check.principle is not None:
            return self._principles[check.principle]
        return Principle(id="question", compare=check.question)


def _either(check: AnyCheck, number: int, tried: Sequence[CheckResult]) -> CheckResult:
    """The one that holds; else that which was not decided, since it might have; else none."""
    last = tried[-1]
    if not last.holds:
        last = next((one for one in tried if one.holds is None), last)
    holds = None if last.holds is None else last.holds == check.want
    p_broken = last.p_broken
    if p_broken is not None and not check.want:
        p_broken = 1 - p_broken
    return CheckResult(check.label, number, holds, last.reason, last.p, p_broken)


def _turned(check: AnyCheck, holds: bool) -> bool:
    return holds == check.want


def _is_fault(oracle: Oracle, answered: Answered) -> bool | None:
    """Whether the oracle finds one of the suite's faults in any answer of the conversation."""
    if answered.problem is not None:
        return None
    found = (verdict(turn.messages, turn.answer) for turn in _looked_at(answered))
    return any(set(oracle.faults) & one for one in found)


def _looked_at(answered: Answered) -> tuple[Turn, ...]:
    """The answers that the checks look at."""
    if any(check.at == "every" for check in answered.prompt.checks):
        return answered.turns
    return answered.turns[-1:]
