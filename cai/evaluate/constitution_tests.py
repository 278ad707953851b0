"""A constitution's own tests: does a judge prefer each case's better answer, by each principle?

A principle's case holds when its label, the mean of both orders, prefers the better answer. The
whole holds unless all principles together, combined by the constitution's rule, decide for the
worse one; a principle whose verdict flips with the order counts as undecided there, and `sample`
is the chance-weighted mean of what a draw would say. Principles that prefer the worse answers of
one another's cases contradict. Start from `run_tests`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cai.constitution.schema import Case, Composition, Constitution, Principle
from cai.engine.base import Engine
from cai.errors import ConstitutionError, JudgeError
from cai.evaluate.remembering import RememberingEngine
from cai.feedback import labels, prompts
from cai.feedback.asking import Asked, Pair, ask, gather
from cai.feedback.config import JudgeConfig
from cai.feedback.labels import Vote
from cai.files import digest_json
from cai.types import EngineIdentity

FORMAT = 1
DECIDED = 0.1
"""Two principles contradict when each gives the other's better answers less than 0.5 − this."""

TENSION = 0.25
"""A principle that gives another's better answers less than this is told of, and no failure."""


class CaseRef(NamedTuple):
    """A case and whose it is."""

    principle: str
    number: int
    case: Case

    @property
    def key(self) -> str:
        """The same for the same case under the same principle, in any version."""
        content = self.case.model_dump(mode="json", exclude_defaults=True, exclude={"tags"})
        return digest_json([self.principle, content])


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one case. `p_ab` shows the better answer first, `p_ba` second.

    Both are probabilities of the better answer; without a verdict `problem` says why.
    """

    principle: str
    number: int
    key: str
    prompt: str
    passed: bool
    p_ab: float | None = None
    p_ba: float | None = None
    problem: str | None = None

    @property
    def p_better(self) -> float | None:
        """Mean of both orders."""
        if self.p_ab is None or self.p_ba is None:
            return None
        return (self.p_ab + self.p_ba) / 2

    @property
    def flips(self) -> bool:
        """Whether each order preferred another answer."""
        if self.p_ab is None or self.p_ba is None:
            return False
        return labels.flips(self.p_ab, self.p_ba)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not known is left out."""
        values = {name: getattr(self, name) for name in self.__slots__}
        shown = {**values, "p_better": self.p_better, "flips": self.flips or None}
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in shown.items()
            if value is not None
        }


class Contradiction(NamedTuple):
    """Two principles, and the mean P(better) that each gives the other's cases; None: no cases."""

    first: str
    second: str
    first_on_second: float | None
    second_on_first: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict()


class Tension(NamedTuple):
    """A principle that prefers another's worse answers, while the other does not mind its own."""

    principle: str
    on: str
    p_better: float


@dataclass(frozen=True, slots=True)
class TestReport:
    """Everything that one judge said of one constitution."""

    __test__ = False  # no test of ours, whatever pytest makes of the name

    ref: str
    digest: str
    composition: str
    judge: EngineIdentity
    template: str
    cases: tuple[CaseResult, ...]
    whole: tuple[CaseResult, ...]
    contradictions: tuple[Contradiction, ...]
    tensions: tuple[Tension, ...]
    untested: tuple[str, ...]
    num_questions: int
    tags: tuple[str, ...] = ()

    @property
    def judge_digest(self) -> str:
        """What the judge is: its weights' digest, or that of what it says of itself."""
        return self.judge.digest or digest_json(self.judge.as_dict())

    @property
    def failures(self) -> tuple[CaseResult, ...]:
        """The cases that do not hold, the principles' own first."""
        return tuple([one for one in (*self.cases, *self.whole) if not one.passed])

    @property
    def passed(self) -> bool:
        """Whether every case holds and no two principles contradict."""
        return not self.failures and not self.contradictions

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "constitution": {"ref": self.ref, "digest": self.digest},
            "composition": self.composition,
            "judge": {**self.judge.as_dict(), "digest": self.judge_digest},
            "template": self.template,
            "tags": list(self.tags),
            "passed": self.passed,
            "questions": self.num_questions,
            "cases": [one.as_dict() for one in self.cases],
            "whole": [one.as_dict() for one in self.whole],
            "contradictions": [one.as_dict() for one in self.contradictions],
            "tensions": [one._asdict() for one in self.tensions],
            "untested": list(self.untested),
        }


Votes = Mapping[tuple[str, str], Asked | JudgeError]
"""What a principle said of a case, by the principle's id and the case's key."""


async def run_tests(
    constitution: Constitution,
    engine: Engine,
    *,
    config: JudgeConfig | None = None,
    tags: Sequence[str] = (),
    strict: bool = False,
    on_answer: Callable[[], None] | None = None,
) -> TestReport:
    """Ask `engine` about every case that has all of `tags`, by every principle, in both orders.

    `strict`: the better answer has to win in each order, and by the whole as well. `on_answer` is
    called once for each principle and case. Raises ConstitutionError when there is no such case;
    engine errors pass through.
    """
    config = config or JudgeConfig()
    judges = constitution.candidates("compare")
    refs = list(cases_of(constitution, tags))
    if not refs:
        wanted = f" tagged {', '.join(tags)}" if tags else ""
        raise ConstitutionError(
            f"{constitution.ref} has no case{wanted} with a 'compare' to test; add one",
            param="constitution",
        )
    asking = RememberingEngine(engine)
    try:
        votes = await _ask_all(asking, judges, refs, config, on_answer)
    finally:
        await asking.aclose()
    own = tuple([_own_result(ref, votes, strict=strict) for ref in refs])
    band = None if strict else config.decided_band
    composition = config.composition or constitution.composition
    contradictions, tensions = _conflicts(judges, refs, own, votes)
    return TestReport(
        ref=constitution.ref,
        digest=constitution.digest,
        composition=composition,
        judge=engine.identity(),
        template=prompts.DIGEST,
        cases=own,
        whole=tuple([_whole_result(ref, judges, votes, composition, band) for ref in refs]),
        contradictions=contradictions,
        tensions=tensions,
        untested=tuple([one.id for one in judges if one.id not in {ref.principle for ref in refs}]),
        num_questions=asking.num_asked,
        tags=tuple(tags),
    )


def cases_of(constitution: Constitution, tags: Sequence[str] = ()) -> Iterator[CaseRef]:
    """The cases of principles that can compare, in file order, those with all of `tags`."""
    for principle in constitution.candidates("compare"):
        for number, case in enumerate(principle.cases, start=1):
            if set(tags) <= set(case.tags):
                yield CaseRef(principle.id, number, case)


async def _ask_all(
    engine: Engine,
    judges: Sequence[Principle],
    refs: Sequence[CaseRef],
    config: JudgeConfig,
    on_answer: Callable[[], None] | None,
) -> Votes:
    slots = asyncio.Semaphore(config.max_in_flight)

    async def one(principle: Principle, ref: CaseRef) -> Asked | JudgeError:
        pair = Pair(ref.case.messages, ref.case.better, ref.case.worse)
        async with slots:
            try:
                return await ask(engine, pair, principle, config)
            except JudgeError as exc:
                return exc
            finally:
                if on_answer is not None:
                    on_answer()

    asked = [(principle, ref) for ref in refs for principle in judges]
    answers = await gather([one(principle, ref) for principle, ref in asked])
    return {
        (principle.id, ref.key): answer
        for (principle, ref), answer in zip(asked, answers, strict=True)
    }


def _own_result(ref: CaseRef, votes: Votes, *, strict: bool) -> CaseResult:
    """How the case's own principle judged it."""
    answer = votes[ref.principle, ref.key]
    if isinstance(answer, JudgeError) or answer.vote is None:
        problem = answer if isinstance(answer, JudgeError) else answer.problem
        assert problem is not None, "an answer without a vote has a problem"
        return _result(ref, passed=False, problem=problem.message)
    read = answer.vote.read
    least = min(read.p_ab, read.p_ba) if strict else read.p_a
    return _result(ref, passed=least > 0.5, p_ab=read.p_ab, p_ba=read.p_ba)


def _whole_result(
    ref: CaseRef,
    judges: Sequence[Principle],
    votes: Votes,
    composition: Composition,
    band: float | None,
) -> CaseResult:
    """How all principles together judged a case; without a band the better answer has to win."""
    cast = [
        _opinion(answer.vote)
        for principle in judges
        if isinstance(answer := votes[principle.id, ref.key], Asked) and answer.vote is not None
    ]
    try:
        read = labels.combine(cast, composition, band=DECIDED if band is None else band).read
    except JudgeError as exc:
        return _result(ref, passed=False, problem=exc.message)
    passed = read.p_a > 0.5 if band is None else read.p_a >= 0.5 - band
    return _result(ref, passed=passed, p_ab=read.p_ab, p_ba=read.p_ba)


def _opinion(vote: Vote) -> Vote:
    """The vote; of a principle that goes by the position, one that prefers neither answer."""
    if not vote.read.flips:
        return vote
    return replace(vote, read=replace(vote.read, p_ab=0.5, p_ba=0.5))


def _result(ref: CaseRef, *, passed: bool, **found: Any) -> CaseResult:
    words = " ".join(ref.case.messages[-1].content.split())
    return CaseResult(ref.principle, ref.number, ref.key, words[:120], passed, **found)


def _conflicts(
    judges: Sequence[Principle],
    refs: Sequence[CaseRef],
    own: Sequence[CaseResult],
    votes: Votes,
) -> tuple[tuple[Contradiction, ...], tuple[Tension, ...]]:
    """Contradictions and tensions among principles that the judge understands at all."""
    understood = [one.id for one in judges if all(r.passed for r in own if r.principle == one.id)]
    contradictions, tensions = [], []
    for at, first in enumerate(understood):
        for second in understood[at + 1 :]:
            one, other = _mean(first, second, refs, votes), _mean(second, first, refs, votes)
            sides = [side for side in (one, other) if side is not None]
            if sides and max(sides) < 0.5 - DECIDED:
                contradictions.append(Contradiction(first, second, one, other))
                continue
            for who, whose, p in ((first, second, one), (second, first, other)):
                if p is not None and p < TENSION:
                    tensions.append(Tension(who, whose, p))
    return tuple(contradictions), tuple(tensions)


def _mean(judge: str, on: str, refs: Sequence[CaseRef], votes: Votes) -> float | None:
    """The mean P(better) that one principle gives another's cases."""
    found = [
        answer.vote.p_a
        for ref in refs
        if ref.principle == on
        and isinstance(answer := votes[judge, ref.key], Asked)
        and answer.vote is not None
    ]
    return sum(found) / len(found) if found else None
