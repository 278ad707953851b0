"""Benchmarks as results: what the harness measured of a policy, and what training cost it.

Figures come from the harness's file, unchanged; a share of whole items is given as a rate. What is
no finite number is no figure, and is named. Start from `figures`; `compared` is the alignment tax,
policy against base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from cai.errors import DataError, NotFoundError
from cai.evaluate.results import EvalResult, list_results
from cai.stats.intervals import Z_95, rate_of

_WHOLE = 1e-6


def figures(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`{"tasks": {task: {metric: …}}}` from the harness's results; text is left out.

    `not_finite` has the metrics that came out as NaN or infinity, where there are any.
    """
    counts = raw.get("n-samples", {})
    tasks, not_finite = {}, {}
    for task, measured in raw["results"].items():
        n = counts.get(task, {}).get("effective")
        values = {
            name: value
            for name, value in measured.items()
            if _is_number(value) and "_stderr," not in name and name != "sample_len"
        }
        metrics = {
            name: _figure(value, _stderr(measured, name), n)
            for name, value in values.items()
            if math.isfinite(value)
        }
        if metrics:
            tasks[task] = metrics
        if broken := {name: str(value) for name, value in values.items() if name not in metrics}:
            not_finite[task] = broken
    return {
        "tasks": tasks,
        "harness": raw.get("lm_eval_version"),
        **({"not_finite": not_finite} if not_finite else {}),
    }


def check_figures(figures: Mapping[str, Any]) -> None:
    """Raise DataError for a metric that is no finite number, and where there is no metric."""
    broken = [
        f"{name} of {task} is {value}"
        for task, metrics in figures.get("not_finite", {}).items()
        for name, value in metrics.items()
    ]
    if broken:
        raise DataError(
            f"the harness could not measure all: {', '.join(broken)}; mostly the policy gives "
            "log-probs of -inf, or --limit leaves too few items"
        )
    if not figures["tasks"]:
        raise DataError("the harness gave no metric that is a number for any of the tasks")


def finite(raw: Any) -> Any:
    """The harness's results as JSON can have them: null for what is no finite number."""
    if isinstance(raw, dict):
        return {name: finite(value) for name, value in raw.items()}
    if isinstance(raw, list):
        return [finite(value) for value in raw]
    return None if isinstance(raw, float) and not math.isfinite(raw) else raw


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
        if one.kind == "bench" and is_asked and is_same_measure(one, result):
            return one
    raise NotFoundError(
        f"'{ref[:100]}' has no benchmark of {', '.join(tasks)} under the same settings; make it "
        f"first: cai eval bench {' '.join(tasks)} --policy {ref[:100]}",
        param="compare",
    )


def is_same_measure(one: EvalResult, other: EvalResult) -> bool:
    """Whether both asked the same items in the same way; the tasks of `one` may be more."""
    same = ("limit", "num_fewshot", "seed", "include_path")
    if not set(other.settings["tasks"]) <= set(one.settings["tasks"]) or any(
        one.settings.get(name) != other.settings.get(name) for name in same
    ):
        return False
    versions, known = (result.settings.get("versions", {}) for result in (one, other))
    return all(versions[task] == known[task] for task in versions.keys() & known.keys())


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
    return float(value) if _is_number(value) and math.isfinite(value) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
