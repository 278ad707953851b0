"""How far a judge can be trusted, by what people say: accuracy, orders, length, calibration, κ.

In `accuracy` a pair without a verdict counts as wrong and a tie as half; why there was none stands
beside it. What was not measured is absent. Pure functions over verdicts.
Start from `judge_figures`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from cai.evaluate.judge_data import Known
from cai.evaluate.judge_published import by_subset, published_figures
from cai.evaluate.judge_verdicts import Verdict, rate_dict, won
from cai.feedback.labels import PairRead
from cai.feedback.tally import Tally
from cai.stats.agreement import cohen_kappa, fleiss_kappa, share_agreed
from cai.stats.correlation import pearson

Figures = dict[str, Any]


def judge_figures(known: Known, verdicts: Sequence[Verdict], *, has_orders: bool) -> Figures:
    """Everything that is told of one judge on one file. `has_orders`: it was asked in both."""
    sources = Counter("human" if one.pair.is_human else "ai" for one in verdicts)
    shown: Figures = {
        "format": known.format,
        "labels": dict(sorted(sources.items())),
        "left_out": dict(known.skipped),
        **basic_figures(verdicts, has_orders=has_orders),
        "calibration": calibration_figures(verdicts),
        "length": length_figures(verdicts),
        "agreement": agreement_figures(known, verdicts),
        "subsets": _by_subset(verdicts, has_orders),
        **published_figures(known.format, verdicts),
    }
    return {name: value for name, value in shown.items() if value not in ({}, None)}


def basic_figures(verdicts: Sequence[Verdict], *, has_orders: bool) -> Figures:
    """Accuracy and, where there are two orders, what the order does."""
    problems = Counter(one.problem for one in verdicts if one.problem is not None)
    decided = [one for one in verdicts if one.p_better is not None and one.problem is None]
    figures: Figures = {
        "pairs": len(verdicts),
        "no_verdict": dict(sorted(problems.items())),
        "accuracy": rate_dict([one.right for one in verdicts]),
        "accuracy_given_verdict": rate_dict([one.right for one in decided]),
    }
    if has_orders:
        figures |= order_figures(verdicts)
    return {name: value for name, value in figures.items() if value is not None}


def order_figures(verdicts: Sequence[Verdict]) -> Figures:
    """Accuracy of each order and of both, inconsistency, and position bias with its deviation.

    First order: the better answer is shown first. In both: it is preferred in each.
    """
    tally = tally_of(verdicts)
    reads = [one.read for one in verdicts if one.read is not None]
    missing = [0.0] * (len(verdicts) - len(reads))
    figures: Figures = {
        "accuracy_first_order": rate_dict([won(read.p_ab) for read in reads] + missing),
        "accuracy_second_order": rate_dict([won(read.p_ba) for read in reads] + missing),
        "accuracy_both_orders": rate_dict([_in_both(read) for read in reads] + missing),
        "inconsistent": rate_dict([float(read.flips) for read in reads]),
    }
    measured = tally.as_dict()
    for name in ("position_bias", "position_bias_sd"):
        if name in measured:
            figures[name] = round(measured[name], 6)
    return figures


def tally_of(verdicts: Sequence[Verdict]) -> Tally:
    """The verdicts as a run counts those of its judge."""
    tally = Tally()
    for one in verdicts:
        if one.read is not None and one.p_better is not None:
            tally.observe(one.read, one.p_better, "a")
        else:
            tally.miss(one.problem or "no-verdict", known=True)
    return tally


def calibration_figures(verdicts: Sequence[Verdict]) -> Figures:
    """Brier score, ECE over ten bins, the bins, and the temperature that would fit the labels."""
    tally = tally_of(verdicts)
    if not tally.num_known:
        return {}
    assert tally.brier is not None, "a known pair has an error"
    assert tally.calibration_error is not None, "a known pair is in a bin"
    figures: Figures = {
        "n": tally.num_known,
        "brier": round(tally.brier, 6),
        "ece": round(tally.calibration_error, 6),
        "bins": [
            {"confidence": round(c, 6), "accuracy": round(a, 6), "n": n}
            for c, a, n in tally.reliability()
        ],
    }
    temperature = tally.temperature()
    return figures if temperature is None else {**figures, "temperature": temperature}


def length_figures(verdicts: Sequence[Verdict]) -> Figures:
    """How often the longer answer wins, beside how often it is right; lengths in characters.

    `correlation` is Pearson's of the log of the lengths' ratio with the judge's probability less a
    half, and with people's, over both ways round of each pair, so that it does not depend on which
    answer comes first.
    """
    told = [one for one in verdicts if one.p_better is not None]
    uneven = [one for one in told if len(one.pair.better) != len(one.pair.worse)]
    if not uneven:
        return {}
    is_longer = [len(one.pair.better) > len(one.pair.worse) for one in uneven]
    by_judge = [(p, 1 - p)[not long] for p, long in zip(map(_p, uneven), is_longer, strict=True)]
    ratios = [math.log(len(one.pair.better) / len(one.pair.worse)) for one in told]
    by_right: dict[bool, list[float]] = {True: [], False: []}
    for one, long in zip(uneven, is_longer, strict=True):
        by_right[long].append(one.right)
    shown: Figures = {
        "longer_wins": rate_dict([won(p) for p in by_judge]),
        "longer_is_right": rate_dict([float(long) for long in is_longer]),
        "accuracy_if_longer_is_right": rate_dict(by_right[True]),
        "accuracy_if_shorter_is_right": rate_dict(by_right[False]),
        "correlation": _both_ways(ratios, [_p(one) - 0.5 for one in told]),
        "correlation_of_labels": _both_ways(ratios, [one.pair.share - 0.5 for one in told]),
    }
    return {name: value for name, value in shown.items() if value is not None}


def agreement_figures(known: Known, verdicts: Sequence[Verdict]) -> Figures:
    """κ of the judge with the labels and each labeler, and of people among one another.

    Over pairs with a verdict that is no tie. `fleiss_with_judge` counts the judge as one more.
    """
    told = [(one, side) for one in verdicts if (side := one.side) is not None]
    labels = [one.pair.side for one, _ in told]
    sides = [side for _, side in told]
    by_labeler: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for one, side in told:
        for name, theirs in (one.pair.labels or {}).items():
            by_labeler[name].append((side, theirs))
    labelled = [(one, side) for one, side in told if one.pair.labels]
    shown: Figures = {
        "n": len(told),
        "share_agreed": share_agreed(sides, labels),
        "cohen_kappa": cohen_kappa(sides, labels),
        "judge_and": {name: _pair_figures(both) for name, both in sorted(by_labeler.items())},
        "fleiss_with_judge": fleiss_kappa(
            [[*(one.pair.labels or {}).values(), side] for one, side in labelled]
        ),
        "people": None if known.agreement is None else known.agreement.as_dict(),
    }
    kept = {name: value for name, value in shown.items() if value not in (None, {})}
    return kept if told else {}


def _by_subset(verdicts: Sequence[Verdict], has_orders: bool) -> Figures:
    return {
        name: basic_figures(ones, has_orders=has_orders)
        for name, ones in by_subset(verdicts).items()
        if name
    }


def _pair_figures(both: Sequence[tuple[str, str]]) -> Figures:
    ours, theirs = [side for side, _ in both], [side for _, side in both]
    kappa = cohen_kappa(ours, theirs)
    shown = {"n": len(both), "share_agreed": share_agreed(ours, theirs), "cohen_kappa": kappa}
    return {name: value for name, value in shown.items() if value is not None}


def _both_ways(x: Sequence[float], y: Sequence[float]) -> float | None:
    found = pearson([*x, *(-one for one in x)], [*y, *(-one for one in y)])
    return None if found is None else round(found, 6)


def _p(verdict: Verdict) -> float:
    assert verdict.p_better is not None, "only verdicts with a label are asked for it"
    return verdict.p_better


def _in_both(read: PairRead) -> float:
    return float(min(read.p_ab, read.p_ba) > 0.5)
