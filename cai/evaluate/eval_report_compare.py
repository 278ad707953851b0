"""Figures of results, flat, and how each differs from the same figure of a pinned baseline.

A figure is a number with what is known of it: `{"rate" | "value", "n"?, "ci"?}`. Pure functions.
Start from `figures_of` and `changes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cai.evaluate.results import EvalResult

Figure = dict[str, Any]

_NUMBERS = ("rate", "value", "mean", "rating", "difference", "estimate")
_LEFT_OUT = frozenset({"worst", "bins", "pairs", "subsets"})
_OF_FIGURE = frozenset({*_NUMBERS, "ci", "n"})
_MAX_DEPTH = 8


class Measured(NamedTuple):
    """One figure of a result: what it is, of whom, and the number."""

    metric: str
    series: str
    """The policy or judge; empty where the result is of one thing."""
    figure: Figure


def figures_of(result: EvalResult) -> list[Measured]:
    """Every figure of a result, in its order; of a kind that is not known whatever looks like one.

    Shapes: `policy` by suite, policy and tag; `arena` by player; `bench` by task and metric.
    """
    figures = result.figures
    if result.kind == "policy":
        return list(_of_suites(figures.get("suites", {})))
    if result.kind == "arena" and isinstance(figures.get("players"), list):
        return list(_of_players(figures["players"]))
    series = result.policies[0].ref if result.kind == "bench" and result.policies else ""
    if result.kind == "judge" and result.judge is not None:
        series = result.judge.model
    return [Measured(metric, series, one) for metric, one in walk(figures)]


def changes(result: EvalResult, baseline: EvalResult) -> list[dict[str, Any]]:
    """The figures of a result that the baseline has too, with the difference and its interval.

    Policies are matched by name; where the baseline has only one, it stands for all. Suites are
    matched by content: one of the same name with other prompts or checks is another. The interval
    combines both (Zou and Donner 2008, Statist. Med. 27:1693: each bound by the distances of the
    estimates to theirs; for rates it is Newcombe's). `changed` says that it leaves out 0.
    """
    before = {(one.metric, one.series): one.figure for one in figures_of(baseline)}
    names = {series for _, series in before}
    only = next(iter(names)) if len(names) == 1 else None
    others = _other_suites(result, baseline)
    found = []
    for one in figures_of(result):
        if result.kind == "policy" and one.metric.split(" / ")[0] in others:
            continue
        series = one.series if (one.metric, one.series) in before else only
        then = None if series is None else before.get((one.metric, series))
        if then is None or ("rate" in then) != ("rate" in one.figure):
            continue
        told = {"run": result.id, "baseline": baseline.id, "metric": one.metric}
        found.append(
            {
                **told,
                "series": one.series,
                "baseline_series": series,
                "was": then,
                "now": one.figure,
                **difference(one.figure, then),
            }
        )
    return found


def _other_suites(one: EvalResult, other: EvalResult) -> set[str]:
    """Names under which two results have suites of different content."""
    digests = {suite.name: suite.digest for suite in other.suites}
    return {
        suite.name for suite in one.suites if digests.get(suite.name, suite.digest) != suite.digest
    }


def difference(now: Figure, then: Figure) -> dict[str, Any]:
    """`now` less `then`, with an interval where both have one.

    >>> difference({"rate": 0.5, "ci": [0.4, 0.6]}, {"rate": 0.2, "ci": [0.1, 0.3]})
    {'difference': 0.3, 'ci': [0.158579, 0.441421], 'changed': True}
    """
    a, b = number_of(now), number_of(then)
    told: dict[str, Any] = {"difference": round(a - b, 6)}
    if "ci" not in now or "ci" not in then:
        return {**told, "changed": a != b}
    (low_a, high_a), (low_b, high_b) = now["ci"], then["ci"]
    low = a - b - math.hypot(a - low_a, high_b - b)
    high = a - b + math.hypot(high_a - a, b - low_b)
    return {**told, "ci": [round(low, 6), round(high, 6)], "changed": low > 0 or high < 0}


def number_of(figure: Mapping[str, Any]) -> float:
    """The number of a figure, whatever it is called."""
    return float(figure["rate"] if "rate" in figure else figure["value"])


def read_figure(value: Any) -> Figure | None:
    """A figure from a result's JSON, under the names `rate` or `value`; None where it is none."""
    if not isinstance(value, Mapping):
        return None
    name = next((name for name in _NUMBERS if is_number(value.get(name))), None)
    if name is None:
        return None
    found: Figure = {"rate" if name == "rate" else "value": value[name]}
    ends = value.get("ci")
    if isinstance(ends, Sequence) and len(ends) == 2 and all(map(is_number, ends)):
        found["ci"] = list(ends)
    if is_number(value.get("n")):
        found["n"] = value["n"]
    has_more = "ci" in found or "n" in found
    return found if has_more or set(value) == {name} else None


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def walk(value: Any, at: str = "", depth: int = 0) -> Iterator[tuple[str, Figure]]:
    """Everything in a value that looks like a figure, with its path: `a / b`.

    Where the whole value is one, as an A/B test's estimate, what stands beside it follows.
    """
    figure = read_figure(value)
    if figure is not None:
        yield at or str(value.get("quantity", "value")), figure
    elif is_number(value) and at:
        yield at, {"value": value}
    if isinstance(value, Mapping) and depth < _MAX_DEPTH and not (figure and at):
        for name, inside in value.items():
            if name not in _LEFT_OUT and not (figure and name in _OF_FIGURE):
                yield from walk(inside, f"{at} / {name}" if at else str(name), depth + 1)


def _of_suites(suites: Any) -> Iterator[Measured]:
    for suite, found in suites.items() if isinstance(suites, Mapping) else ():
        policies = found.get("policies", {}) if isinstance(found, Mapping) else {}
        for policy, told in policies.items():
            if (rate := read_figure(told.get("rate"))) is not None:
                yield Measured(suite, policy, rate)
            for tag, value in told.get("tags", {}).items():
                if (rate := read_figure(value)) is not None:
                    yield Measured(f"{suite} / {tag}", policy, rate)


def _of_players(players: Sequence[Any]) -> Iterator[Measured]:
    for player in players:
        if isinstance(player, Mapping) and (found := read_figure(player)) is not None:
            yield Measured("arena rating", str(player.get("policy")), found)
