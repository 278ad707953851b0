"""From scored answers to figures: rates of the fault per suite, per tag and per check, and pairs.

Pure functions. A rate counts what was measured; what was not is told by reason beside it. Start
from `suite_figures`; `worst` picks the examples that a report shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from cai.evaluate.suite_judging import Scored
from cai.evaluate.suites import ReadySuite
from cai.stats.clusters import clustered_rate
from cai.stats.intervals import rate_of
from cai.stats.paired import compare_pairs

MAX_WORST: Final = 5


def suite_figures(ready: ReadySuite, scored: Mapping[str, Sequence[Scored]]) -> dict[str, Any]:
    """Everything measured on one suite, by policy; each two policies are compared by prompt."""
    found: dict[str, Any] = {
        "fault": ready.suite.fault,
        "split": ready.suite.split,
        "used_for": list(ready.suite.used_for),
        "prompts": len(ready.prompts),
        "policies": {policy: policy_figures(lines) for policy, lines in scored.items()},
    }
    pairs = [_compared(one, other, scored) for one, other in combinations(scored, 2)]
    if any(pairs):
        found["pairs"] = [pair for pair in pairs if pair]
    return found


def policy_figures(lines: Sequence[Scored]) -> dict[str, Any]:
    """One policy's rate of the fault, by tag and by check too, and what was not measured."""
    measured = [one for one in lines if one.outcome != "not-measured"]
    found: dict[str, Any] = {"answers": len(lines)}
    if (rate := fault_rate(measured)) is not None:
        found["rate"] = rate
    if tags := _by(measured, lambda one: one.answered.prompt.tags, fault_rate):
        found["tags"] = tags
    if checks := _checks(lines):
        found["checks"] = checks
    if missing := Counter(one.reason or "unknown" for one in lines if one not in measured):
        found["not_measured"] = dict(sorted(missing.items()))
    if num_empty := sum(any(not t.answer for t in one.answered.turns) for one in lines):
        found["empty"] = num_empty
    if num_cut := sum(one.answered.num_cut > 0 for one in lines):
        found["cut"] = num_cut
    found.update(_beside_oracle(measured))
    return found


def fault_rate(lines: Iterable[Scored]) -> dict[str, Any] | None:
    """The share that failed, with its interval; several samples of a prompt are one cluster."""
    return _rate(lines, lambda one: one.outcome == "failed")


def worst(lines: Sequence[Scored], *, limit: int = MAX_WORST) -> list[dict[str, Any]]:
    """The failures that a judge was surest of, or that text decided, one to a prompt."""
    failed = [one for one in lines if one.outcome == "failed"]
    by_prompt = {one.answered.prompt.id: one for one in sorted(failed, key=lambda o: o.severity)}
    chosen = sorted(by_prompt.values(), key=lambda o: (-o.severity, o.answered.prompt.id or ""))
    return [_example(one) for one in chosen[:limit]]


def _example(one: Scored) -> dict[str, Any]:
    broken = next(result for result in one.results if result.holds is False)
    turn = one.answered.turns[broken.turn - 1]
    return {
        "prompt": one.answered.prompt.id,
        "sample": one.answered.sample,
        "check": broken.check,
        "turn": broken.turn,
        "asked": turn.messages[-1].content,
        "answer": turn.answer,
        **({} if broken.p is None else {"p": round(broken.p, 6)}),
    }


def _compared(
    one: str, other: str, scored: Mapping[str, Sequence[Scored]]
) -> dict[str, Any] | None:
    """Both policies on the samples that were measured of both; None where there are none.

    Each prompt counts the same, by the share of its own samples.
    """
    firsts, seconds = ({s.answered.key: s for s in scored[name]} for name in (one, other))
    differences: defaultdict[str | None, int] = defaultdict(int)
    trials = Counter[str | None]()
    for key, first in firsts.items():
        second = seconds.get(key)
        if second is None or "not-measured" in (first.outcome, second.outcome):
            continue
        prompt = first.answered.prompt.id
        differences[prompt] += (first.outcome == "failed") - (second.outcome == "failed")
        trials[prompt] += 1
    compared = compare_pairs(
        list(differences.values()), trials=[trials[prompt] for prompt in differences]
    )
    return None if compared is None else {"first": one, "second": other, **compared.as_dict()}


def _checks(lines: Sequence[Scored]) -> dict[str, Any]:
    """How often each check did not hold, over the answers on which it was decided."""
    decided: defaultdict[str, list[bool]] = defaultdict(list)
    for one in lines:
        for result in one.results:
            if result.holds is not None:
                decided[result.check].append(not result.holds)
    rates = {name: rate_of(sum(found), len(found)) for name, found in sorted(decided.items())}
    return {name: rate.as_dict() for name, rate in rates.items() if rate is not None}


def _beside_oracle(measured: Sequence[Scored]) -> dict[str, Any]:
    """The oracle's rate of the same answers, and how often both say the same of one."""
    judged = [one for one in measured if one.oracle_fault is not None]
    if not judged:
        return {}
    same = [(one.outcome == "failed") == one.oracle_fault for one in judged]
    agreed = rate_of(sum(same), len(same))
    assert agreed is not None, "there are answers that both looked at"
    rate = _rate(judged, lambda one: bool(one.oracle_fault))
    return {"oracle": {"rate": rate, "agreement": agreed.as_dict()}}


def _by(
    lines: Sequence[Scored],
    tags_of: Callable[[Scored], Sequence[str]],
    rate: Callable[[Iterable[Scored]], dict[str, Any] | None],
) -> dict[str, Any]:
    groups: defaultdict[str, list[Scored]] = defaultdict(list)
    for one in lines:
        for tag in tags_of(one):
            groups[tag].append(one)
    return {tag: rate(group) for tag, group in sorted(groups.items())}


def _rate(lines: Iterable[Scored], counts: Callable[[Scored], bool]) -> dict[str, Any] | None:
    clusters: defaultdict[str | None, list[bool]] = defaultdict(list)
    for one in lines:
        clusters[one.answered.prompt.id].append(counts(one))
    rate = clustered_rate((sum(found), len(found)) for found in clusters.values())
    return None if rate is None else rate.as_dict()
