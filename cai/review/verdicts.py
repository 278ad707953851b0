"""What a judge said of an evaluation's answers, read from the `verdicts.jsonl` beside them.

Games of an arena tell of two answers. Checks of a suite tell of one answer against an anchor; two
of those make a pair's by Bradley-Terry, since the anchor is the same. Start from `read_verdicts`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeGuard

from cai.dataset.importers.records import Record, iter_records
from cai.errors import DataError
from cai.feedback.labels import sigmoid
from cai.files import read_json
from cai.review.records import SHARES, Opinion

About = tuple[str, ...]
"""Suite, prompt and sample; the same for the same prompt and sample of every policy."""

_SURE = 1e-6
"""How near to 0 and 1 a probability is taken to come: its log-odds are finite."""


class Verdicts(NamedTuple):
    """Probabilities by prompt, and by whose answers they are."""

    judge: str = "judge"
    of_two: Mapping[tuple[About, str, str], float] = {}
    """That the first policy's answer is better."""
    of_one: Mapping[tuple[About, str], Mapping[str, float]] = {}
    """That a policy's answer is as a check wants it, by the check."""

    def on_pair(self, about: About, a: str, b: str) -> tuple[Opinion, ...]:
        """What the judge thinks of the answer of `a` beside that of `b`; nothing where not asked.

        >>> odds = {(("p",), "x"): {"kind": 0.9}, (("p",), "y"): {"kind": 0.5}}
        >>> [round(one.p_a, 6) for one in Verdicts(of_one=odds).on_pair(("p",), "x", "y")]
        [0.9]
        """
        if (about, a, b) in self.of_two:
            return self._opinion(self.of_two[about, a, b])
        if (about, b, a) in self.of_two:
            return self._opinion(1 - self.of_two[about, b, a])
        one, other = (self.of_one.get((about, name), {}) for name in (a, b))
        apart = [_log_odds(one[check]) - _log_odds(other[check]) for check in one if check in other]
        return self._opinion(sigmoid(fmean(apart))) if apart else ()

    def on_answer(self, about: About, policy: str) -> tuple[Opinion, ...]:
        """How sure the judge is that one answer is as its checks want it."""
        found = self.of_one.get((about, policy), {})
        return self._opinion(fmean(found.values())) if found else ()

    def _opinion(self, p: float) -> tuple[Opinion, ...]:
        return (Opinion(by=self.judge, kind="judge", p_a=p),)


def about(line: Mapping[str, Any]) -> About:
    """Which prompt and sample a line of answers or verdicts is about; an arena has no suites."""
    prompt = line.get("prompt", line.get("prompt_id"))
    return str(line.get("suite")), str(prompt), str(line.get("sample"))


def read_verdicts(answers: Path) -> Verdicts:
    """The verdicts beside a file of answers; none where there is no such file."""
    file = answers.with_name("verdicts.jsonl")
    if answers.name != "answers.jsonl" or not file.is_file():
        return Verdicts()
    of_two: dict[tuple[About, str, str], float] = {}
    of_one: dict[tuple[About, str], dict[str, float]] = defaultdict(dict)
    for record in iter_records(file):
        line = record.value if isinstance(record, Record) else None
        if not isinstance(line, Mapping):
            continue
        if "a" in line and "b" in line:
            p = line.get("p_a", SHARES.get(str(line.get("winner"))))
            if _is_probability(p):
                of_two[about(line), str(line["a"]), str(line["b"])] = p
        else:
            of_one[about(line), str(line.get("policy"))].update(_by_check(line.get("checks")))
    return Verdicts(_judge(answers.with_name("result.json")), of_two, dict(of_one))


def _by_check(checks: Any) -> Iterator[tuple[str, float]]:
    """The last turn's probability that each judged check holds."""
    for one in checks if isinstance(checks, list) else ():
        if isinstance(one, Mapping) and _is_probability(p_broken := one.get("p_broken")):
            yield str(one.get("check")), 1 - p_broken


def _judge(result: Path) -> str:
    try:
        found = read_json(result)
    except DataError:
        return "judge"
    judge = found.get("judge") if isinstance(found, Mapping) else None
    name = judge.get("model") if isinstance(judge, Mapping) else None
    return str(name or "judge")


def _log_odds(p: float) -> float:
    p = min(max(p, _SURE), 1 - _SURE)
    return math.log(p / (1 - p))


def _is_probability(p: Any) -> TypeGuard[float]:
    return isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p <= 1
