"""A benchmark's own figures from our verdicts: JudgeBench's counts, RewardBench's averages.

The definitions are in `judge_metrics`. Start from `published_figures`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from cai.evaluate.judge_metrics import (
    JUDGEBENCH_SOURCES,
    Decision,
    Judged,
    Scored,
    Ties,
    best_of,
    judgebench,
    rewardbench_sections,
    ties_score,
)
from cai.evaluate.judge_verdicts import Verdict, rate_dict

Figures = dict[str, Any]


def published_figures(format: str, verdicts: Sequence[Verdict]) -> Figures:
    """The figures that the benchmark itself publishes, where the file is of one."""
    if format == "judgebench":
        told = [(one.pair.subset, judged(one)) for one in verdicts]
        return {"judgebench": judgebench_figures(told)}
    if format == "rewardbench2":
        return {"rewardbench2": rewardbench2_figures(verdicts)}
    if format == "rewardbench":
        accuracies = {
            name: fmean(one.right for one in ones) for name, ones in by_subset(verdicts).items()
        }
        sections = rewardbench_sections(accuracies)
        return {"rewardbench": {name: round(value, 6) for name, value in sections.items()}}
    return {}


def judgebench_figures(pairs: Sequence[tuple[str, Judged]]) -> Figures:
    """JudgeBench's own counts over (source, pair): overall, and of each of its categories."""
    groups = {"overall": [pair for _, pair in pairs]}
    for name, start in JUDGEBENCH_SOURCES.items():
        groups[name] = [pair for source, pair in pairs if source.startswith(start)]
    has_orders = any(pair.second is not None for _, pair in pairs)
    found = {name: judgebench(ones) for name, ones in groups.items()}
    return {
        name: one._replace(has_orders=has_orders).as_dict()
        for name, one in found.items()
        if one is not None
    }


def judged(verdict: Verdict) -> Judged:
    """A verdict as JudgeBench has it: a decision on the file's order, and one on the swapped."""
    pair, read = verdict.pair, verdict.read
    label: Decision = "B>A" if pair.is_second else "A>B"
    if read is None:
        return Judged(label, None, None)
    better_first, better_second = _shown(read.p_ab, "A"), _shown(read.p_ba, "B")
    if pair.is_second:
        return Judged(label, better_second, better_first)
    return Judged(label, better_first, better_second)


def rewardbench2_figures(verdicts: Sequence[Verdict]) -> Figures:
    """RewardBench 2: the right answer has to beat all wrong ones; per subset, and their mean.

    With scores, ties at the top count in parts, and the subset of ties has its published sum.
    """
    subsets: dict[str, dict[str, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    for one in verdicts:
        subsets[one.pair.subset][one.pair.group].append(one)
    figures: Figures = {}
    for name, groups in sorted(subsets.items()):
        is_ties = name.lower() == "ties"
        ties = _ties(groups) if is_ties else None
        if ties is not None:
            figures[name] = {"score": round(ties.score, 6), **ties._asdict()}
        else:
            rate = rate_dict([_beats_all(ones, by_score=not is_ties) for ones in groups.values()])
            assert rate is not None, "a subset has a record"
            figures[name] = {"score": rate["rate"], "accuracy": rate}
    scores = [one["score"] for one in figures.values()]
    return {"score": round(fmean(scores), 6), "subsets": figures} if scores else {}


def by_subset(verdicts: Sequence[Verdict]) -> Mapping[str, list[Verdict]]:
    """The verdicts of each subset, by name; those of a file without any are under ""."""
    found: dict[str, list[Verdict]] = defaultdict(list)
    for one in verdicts:
        found[one.pair.subset].append(one)
    return dict(sorted(found.items()))


def _beats_all(group: Sequence[Verdict], *, by_score: bool) -> float:
    scores = [one.scores for one in group if one.scores is not None]
    if by_score and len(scores) == len(group):
        return best_of(scores[0][0], [worse for _, worse in scores])
    return float(all(one.right == 1 for one in group))


def _ties(groups: Mapping[str, Sequence[Verdict]]) -> Ties | None:
    """The ties subset's figures; None for a judge, and where an answer has no score."""
    prompts = []
    for id, group in groups.items():
        scored = [(one.pair, one.scores) for one in group if one.scores is not None]
        if len(scored) < len(group):
            return None
        right = {pair.better: scores[0] for pair, scores in scored}
        wrong = {pair.worse: scores[1] for pair, scores in scored}
        prompts.append(Scored(id, list(right.values()), list(wrong.values())))
    return ties_score(prompts)


def _shown(p_better: float, letter: Literal["A", "B"]) -> Decision:
    """The decision in the letters that were shown, where the better answer was `letter`."""
    if p_better == 0.5:
        return "A=B"
    return "A>B" if (p_better > 0.5) == (letter == "A") else "B>A"
