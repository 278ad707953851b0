"""How far raters agree with each other and with the judge, on the random share and on all.

The queue prefers what is uncertain, so figures over all items make everybody look worse than they
are; those over the random share are unbiased. Pure functions. Start from `figures`.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from cai.review.records import Choice, Reviewed
from cai.stats.agreement import cohen_kappa, fleiss_kappa
from cai.stats.intervals import Interval, mean_interval, rate_of, wilson

Votes = dict[str, Choice]

_RESAMPLES = 500
_MIN_BOOTSTRAP = 5
_SCALE = (1, 2, 3, 4, 5)


def figures(reviewed: Iterable[Reviewed]) -> dict[str, Any]:
    """Every figure as plain JSON; what was not measured is absent.

    `random` and `all` have the agreement on pairs, `ratings` that on single answers, `raters` what
    each did, `policies` who won against whom, `rated_policies` the mean rating of each.
    """
    found = list(reviewed)
    rated = [one for one in found if one.item.kind == "rating"]
    pairs = [one for one in found if one.item.kind == "pair" and one.votes]
    told = {
        "decisions": sum(len(one.decisions) for one in found),
        "random": _agreement([one for one in pairs if one.item.is_random]),
        "all": _agreement(pairs),
        "ratings": _ratings(rated),
        "raters": _raters(found),
        "policies": _policies(pairs),
        "rated_policies": _rated_policies(rated),
    }
    return {name: value for name, value in told.items() if value}


def majority(reviewed: Reviewed) -> Choice | None:
    """The side that more raters chose; None where neither has more."""
    counts = Counter(reviewed.votes.values())
    if counts["a"] == counts["b"]:
        return None
    return "a" if counts["a"] > counts["b"] else "b"


def judge_side(reviewed: Reviewed) -> Choice | None:
    """The side that the judges prefer; None where they do not, or none was asked."""
    p_a = reviewed.item.p_a
    if p_a is None or p_a == 0.5:
        return None
    return "a" if p_a > 0.5 else "b"


def _agreement(pairs: Sequence[Reviewed]) -> dict[str, Any]:
    if not pairs:
        return {}
    told: dict[str, Any] = {"items": len(pairs)}
    if between := _between([one.votes for one in pairs]):
        told["between_raters"] = between
    if judge := _with_judge(pairs):
        told["with_judge"] = judge
    return told


def _between(votes: Sequence[Votes]) -> dict[str, Any]:
    """Agreement of raters with one another; ties are a choice like the others.

    The share's interval is Wilson's over items, each counted by the share of its agreeing pairs of
    raters; that of Fleiss' κ is a bootstrap over items.
    """
    several = [list(one.values()) for one in votes if len(one) > 1]
    if not several:
        return {}
    shares = [_agreeing(one) for one in several]
    low, high = wilson(math.fsum(shares), len(shares))
    share = math.fsum(shares) / len(shares)
    told: dict[str, Any] = {
        "items": len(several),
        "agreed": {"rate": round(share, 6), "n": len(several), "ci": _ends((low, high))},
    }
    _put(told, "fleiss_kappa", fleiss_kappa, several)
    cohen: dict[str, Any] = {}
    for first, second in combinations(sorted({name for one in votes for name in one}), 2):
        shared = [(one[first], one[second]) for one in votes if first in one and second in one]
        if shared:
            _put(cohen, f"{first} / {second}", _cohen, shared)
    return {**told, **({"cohen_kappa": cohen} if cohen else {})}


def _with_judge(pairs: Sequence[Reviewed]) -> dict[str, Any]:
    """How often the judge is on the side of most raters, and of each of them."""
    sides = [(majority(one), judge_side(one), one) for one in pairs]
    known = [(people, judge) for people, judge, _ in sides if people and judge]
    agreed = rate_of(sum(people == judge for people, judge in known), len(known))
    if agreed is None:
        return {}
    told: dict[str, Any] = {"agreed": agreed.as_dict()}
    _put(told, "cohen_kappa", _cohen, known)
    by_rater: dict[str, list[bool]] = defaultdict(list)
    for _, judge, one in sides:
        for rater, vote in one.votes.items():
            if judge and vote != "tie":
                by_rater[rater].append(vote == judge)
    rates = {name: rate_of(sum(held), len(held)) for name, held in sorted(by_rater.items())}
    told["by_rater"] = {name: rate.as_dict() for name, rate in rates.items() if rate}
    return told


def _ratings(rated: Sequence[Reviewed]) -> dict[str, Any]:
    """Cohen's κ with quadratic weights between each two raters of single answers."""
    given = [
        {one.rater: one.rating for one in item.decisions if one.rating is not None}
        for item in rated
    ]
    given = [one for one in given if one]
    if not given:
        return {}
    cohen: dict[str, Any] = {}
    for first, second in combinations(sorted({name for one in given for name in one}), 2):
        both = [(one[first], one[second]) for one in given if first in one and second in one]
        if both:
            _put(cohen, f"{first} / {second}", _weighted, both)
    return {"items": len(given), **({"cohen_kappa_quadratic": cohen} if cohen else {})}


def _raters(reviewed: Sequence[Reviewed]) -> dict[str, Any]:
    """What each rater chose, and how often what was shown first, of their choices of a side."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, list[bool]] = defaultdict(list)
    for one in reviewed:
        for decision in one.decisions:
            counts[decision.rater][decision.choice] += 1
            if decision.choice in ("a", "b"):
                shown_first = "b" if decision.is_swapped else "a"
                first[decision.rater].append(decision.choice == shown_first)
    told = {}
    for name, chosen in sorted(counts.items()):
        rate = rate_of(sum(first[name]), len(first[name]))
        told[name] = {
            **dict(sorted(chosen.items())),
            **({"chose_first": rate.as_dict()} if rate else {}),
        }
    return told


def _policies(pairs: Sequence[Reviewed]) -> dict[str, Any]:
    """By two policies: how often raters preferred the first one; a tie counts for neither."""
    won: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for one in pairs:
        a, b = one.item.policies
        side = majority(one)
        if a is None or b is None or a == b or side is None:
            continue
        winner = a if side == "a" else b
        first, second = sorted((a, b))
        won[first, second].append(winner == first)
    rates = {f"{x} over {y}": rate_of(sum(w), len(w)) for (x, y), w in sorted(won.items())}
    return {name: rate.as_dict() for name, rate in rates.items() if rate}


def _rated_policies(rated: Sequence[Reviewed]) -> dict[str, Any]:
    """The mean of each policy's ratings; its interval is over answers, each by its raters' mean."""
    means: dict[str, list[float]] = defaultdict(list)
    for item, decisions in rated:
        given = [one.rating for one in decisions if one.rating is not None]
        if item.policies[0] is not None and given:
            means[item.policies[0]].append(fmean(given))
    return {
        policy: {
            "mean": round(fmean(values), 6),
            "n": len(values),
            **({"ci": _ends(mean_interval(values))} if len(values) > 1 else {}),
        }
        for policy, values in sorted(means.items())
    }


def _agreeing(votes: Sequence[Choice]) -> float:
    pairs = list(combinations(votes, 2))
    return sum(x == y for x, y in pairs) / len(pairs)


def _cohen(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    return cohen_kappa([x for x, _ in pairs], [y for _, y in pairs])


def _weighted(pairs: Sequence[tuple[Any, Any]]) -> float | None:
    x, y = [one for one, _ in pairs], [one for _, one in pairs]
    return cohen_kappa(x, y, order=_SCALE, weights="quadratic")


def _put(
    into: dict[str, Any],
    name: str,
    measure: Callable[[Sequence[Any]], float | None],
    items: Sequence[Any],
) -> None:
    """A κ with its bootstrap interval over items, where both are defined."""
    value = measure(items)
    if value is None:
        return
    interval = bootstrap(measure, items)
    around = {} if interval is None else {"ci": _ends(interval)}
    into[name] = {"kappa": round(value, 6), "n": len(items), **around}


def bootstrap(
    measure: Callable[[Sequence[Any]], float | None], items: Sequence[Any], *, seed: int = 0
) -> Interval | None:
    """The 95 % percentile interval of a figure over resampled items; None where they are too few.

    Resamples in which the figure is not defined are left out; most must define it.
    """
    if len(items) < _MIN_BOOTSTRAP:
        return None
    drawn = random.Random(seed)
    values = [measure(drawn.choices(items, k=len(items))) for _ in range(_RESAMPLES)]
    found = sorted(value for value in values if value is not None)
    if len(found) < _RESAMPLES / 2:
        return None
    return Interval(found[int(0.025 * len(found))], found[int(0.975 * len(found))])


def _ends(interval: Iterable[float]) -> list[float]:
    return [round(end, 6) for end in interval]
