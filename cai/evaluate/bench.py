"""Benchmarks as results: what the harness measured of a policy, and what training cost it.

Figures come from the harness's file, unchanged; a share of whole items is given as a rate. Start
from `figures`; `compared` is the alignment tax, policy against base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from cai.errors import NotFoundError
from cai.evaluate.results import EvalResult, list_results
from cai.stats.intervals import Z_95, rate_of

_WHOLE = 1e-6


def figures(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`{"tasks": {task: {metric: …}}}` from the harness's results; NaN and text are left out."""
    counts = raw.get("n-samples", {})
    tasks = {}
    for task, measured in raw["results"].items():
        n = counts.get(task, {}).get("effective")
        metrics = {
            name: _figure(value, _stderr(measured, name), n)
            for name, value in measured.items()
            if _is_number(value) and "_stderr," not in name and name != "sample_len"
        }
        if metrics:
            tasks[task] = metrics
    return {"tasks": tasks, "harness": raw.get("lm_eval_version")}


def compared(result: EvalResult, base: EvalResult) -> dict[str, Any]:
    """Each metric of `result` less that of `base`, with a 95 % interval where both have errors.

    The samples are the same items, but the harness keeps no pairs: the interval takes them as
    independent, so it is too wide rather than too narrow.
    """
    tasks: dict[str, Any] = {}
    for task, metrics in result.figures["tasks"].items():
        known = base.figures["tasks"].get(task, {})
        found = {
            name: _difference(one, known[name]) for name, one in metrics.items() if name in known
        }
        if found:
            tasks[task] = found
    return {"result": base.id, "policy": base.policies[0].ref, "tasks": tasks}


def find_base(home: Path, ref: str, result: EvalResult) -> EvalResult:
    """The newest benchmark of another policy, or that of the id `ref`, under the same settings.

    Raises NotFoundError with the command that makes one.
    """
    tasks = result.settings["tasks"]
    for one in list_results(home):
        is_asked = one.id == ref or ref in [policy.ref for policy in one.policies]
        if one.kind == "bench" and is_asked and _same_measure(one, result):
            return one
    raise NotFoundError(
        f"'{ref[:100]}' has no benchmark of {', '.join(tasks)} under the same settings; make it "
        f"first: cai eval bench {' '.join(tasks)} --policy {ref[:100]}",
        param="compare",
    )


def _same_measure(one: EvalResult, other: EvalResult) -> bool:
    """The same items asked in the same way; the tasks of one may be more."""
    same = ("limit", "num_fewshot", "seed")
    return set(other.settings["tasks"]) <= set(one.settings["tasks"]) and all(
        one.settings.get(name) == other.settings.get(name) for name in same
    )


def _figure(value: float, stderr: float | None, n: int | None) -> dict[str, Any]:
    if n and 0 <= value <= 1 and abs(value * n - round(value * n)) < _WHOLE * n:
        rate = rate_of(round(value * n), n)
        assert rate is not None, "there are items"
        return rate.as_dict()
    found: dict[str, Any] = {"value": round(value, 6)}
    if n:
        found["n"] = n
    if stderr is not None:
        found["ci"] = [round(value + sign * Z_95 * stderr, 6) for sign in (-1, 1)]
    return found


def _difference(one: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    difference = _value(one) - _value(base)
    found: dict[str, Any] = {"difference": round(difference, 6)}
    if "ci" in one and "ci" in base:
        half = math.hypot(*((figure["ci"][1] - figure["ci"][0]) / 2 for figure in (one, base)))
        found["ci"] = [round(difference + sign * half, 6) for sign in (-1, 1)]
    return found


def _value(figure: Mapping[str, Any]) -> float:
    return float(figure["rate"] if "rate" in figure else figure["value"])


def _stderr(measured: Mapping[str, Any], name: str) -> float | None:
    """The harness writes `acc_stderr,none` beside `acc,none`."""
    metric, comma, filter_ = name.partition(",")
    value = measured.get(f"{metric}_stderr{comma}{filter_}")
    return float(value) if _is_number(value) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
