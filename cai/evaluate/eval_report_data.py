"""The report as plain JSON: every section from its sources; a section without data is absent.

Suites that gates or training use are told apart from those that were held out, and with a baseline
every figure that it has too is compared. Start from `report_data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cai.errors import ConfigError
from cai.evaluate import eval_report_runs as runs
from cai.evaluate.bench import compared, is_same_measure
from cai.evaluate.eval_report_compare import (
    changes,
    figures_of,
    is_number,
    read_figure,
    walk,
)
from cai.evaluate.eval_report_sources import FORMAT, KeptResult, Sources
from cai.evaluate.eval_report_transcripts import side_by_side
from cai.evaluate.results import EvalResult

MAX_TRANSCRIPTS: Final = 12
MAX_REVISED: Final = 4
"""Of each dataset run."""

_DRAWN = ("policy", "judge", "arena", "bench")
_GAPS = ("not_measured", "empty", "cut")
"""What a suite's rate does not tell of the answers."""
_ADVICE = ("action", "arm", "why")
_COMPARED = ("suites", "judges", "arenas", "benchmarks", "others", "transcripts")
Json = dict[str, Any]


def report_data(
    sources: Sources, *, baseline: KeptResult | None = None, only_changed: bool = False
) -> Json:
    """Every section. `only_changed` leaves the figures that differ from the baseline's.

    Raises ConfigError for that without a baseline.
    """
    if only_changed and baseline is None:
        raise ConfigError("only_changed compares with a baseline; name it: --baseline RUN_ID")
    results = list(sources.results)
    if baseline is not None and baseline.result.id not in [one.result.id for one in results]:
        results.insert(0, baseline)
    found = [] if baseline is None else _changes(results, baseline.result)
    told: Json = {
        "format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": [*_result_runs(results), *_other_runs(sources)],
        "baseline": None if baseline is None else baseline.result.id,
        "only_changed": only_changed,
        "changes": [one for one in found if one["changed"] or not only_changed],
        "suites": _suites(results),
        "revisions": _filled(runs.revisions(one) for one in sources.demos),
        "curves": _filled(runs.curves(one) for one in sources.trainings),
        "over_optimisation": _filled(runs.over_optimisation(one) for one in sources.trainings),
        "reliability": _reliability(results, sources),
        "judges": _judges(results),
        "arenas": [_arena(one.result) for one in results if one.result.kind == "arena"],
        "attribution": _filled(runs.attribution(one) for one in sources.datasets),
        "benchmarks": _benchmarks(results, baseline),
        "others": [_other(one.result) for one in results if one.result.kind not in _DRAWN],
        "transcripts": side_by_side(results, baseline, limit=MAX_TRANSCRIPTS),
        "revised": [line for one in sources.datasets for line in runs.revised(one, MAX_REVISED)],
    }
    if only_changed:
        told = _only_changed(told, results)
    kept = ("format", "created_at", "runs", "baseline", "only_changed")
    return {name: value for name, value in told.items() if name in kept or value}


def _changes(results: Sequence[KeptResult], baseline: EvalResult) -> list[Json]:
    return [
        change
        for one in results
        if one.result.id != baseline.id and one.result.kind == baseline.kind
        if one.result.kind != "bench" or _is_alike(one.result, baseline)
        for change in changes(one.result, baseline)
    ]


def _only_changed(told: Json, results: Sequence[KeptResult]) -> Json:
    """What differs from the baseline, with the baseline's own beside it; the rest is left out."""
    moved = {(one["run"], one["series"], one["metric"]) for one in told["changes"]}
    was = {(one["baseline"], one["baseline_series"], one["metric"]) for one in told["changes"]}
    left = {
        (one.result.id, figure.series, figure.metric)
        for one in results
        for figure in figures_of(one.result)
    } - moved - was  # fmt: skip
    for suite in told["suites"]:
        for row in suite["rows"]:
            row["tags"] = {
                tag: rate
                for tag, rate in row["tags"].items()
                if (row["run"], row["policy"], f"{suite['name']} / {tag}") not in left
            }
        suite["rows"] = [
            row
            for row in suite["rows"]
            if row["tags"] or (row["run"], row["policy"], suite["name"]) not in left
        ]
    told["suites"] = [suite for suite in told["suites"] if suite["rows"]]
    changed_runs = {run for run, _, _ in moved | was}
    for section in ("judges", "arenas", "others"):
        told[section] = [one for one in told[section] if one["run"] in changed_runs]
    kept = (*_COMPARED, "format", "created_at", "runs", "baseline", "only_changed", "changes")
    return {name: value for name, value in told.items() if name in kept}


def _result_runs(results: Sequence[KeptResult]) -> Iterator[Json]:
    for kept in results:
        result = kept.result
        yield {
            "id": result.id,
            "kind": result.kind,
            "path": str(kept.path),
            "created_at": result.created_at,
            "policies": [one.model_dump(exclude_none=True) for one in result.policies],
            "judge": None if result.judge is None else result.judge.model_dump(exclude_none=True),
            "suites": [one.model_dump(mode="json") for one in result.suites],
            "seed": result.seed,
        }


def _other_runs(sources: Sources) -> Iterator[Json]:
    for kind, found in (
        ("training", sources.trainings),
        ("dataset", sources.datasets),
        ("demo", sources.demos),
    ):
        yield from ({"id": one.name, "kind": kind, "path": str(one.path)} for one in found)


def _suites(results: Sequence[KeptResult]) -> list[Json]:
    """A suite of all the runs that asked the same content of it, with a row per run and policy."""
    found: dict[tuple[str, str], Json] = {}
    for kept in results:
        refs = {one.name: one for one in kept.result.suites}
        figures = kept.result.figures.get("suites", {}) if kept.result.kind == "policy" else {}
        for name, told in figures.items():
            ref = refs.get(name)
            used_for = list(ref.used_for) if ref else list(told.get("used_for", []))
            suite = found.setdefault(
                (name, ref.digest if ref else ""),
                {
                    "name": name,
                    "fault": told.get("fault"),
                    "split": ref.split if ref else told.get("split"),
                    "used_for": [],
                    "rows": [],
                    "pairs": [],
                },
            )
            suite["used_for"] = sorted({*suite["used_for"], *used_for})
            suite["rows"] += _suite_rows(kept.result.id, told)
            suite["pairs"] += [{"run": kept.result.id, **pair} for pair in told.get("pairs", [])]
    shown = [{**one, "is_held_out": _is_held_out(one)} for one in found.values() if one["rows"]]
    return sorted(shown, key=lambda one: not one["is_held_out"])


def _is_held_out(suite: Json) -> bool:
    """Whether nothing decided by the suite, and no training saw prompts like its own."""
    return not suite["used_for"] and suite["split"] != "train"


def _suite_rows(run: str, told: Mapping[str, Any]) -> Iterator[Json]:
    for policy, measured in told.get("policies", {}).items():
        rate = read_figure(measured.get("rate"))
        gaps = {name: n for name in _GAPS if (n := measured.get(name))}
        if rate is None and not gaps:
            continue
        tags = {tag: read_figure(value) for tag, value in measured.get("tags", {}).items()}
        oracle = read_figure((measured.get("oracle") or {}).get("rate"))
        yield {
            "run": run,
            "policy": policy,
            **({"rate": rate} if rate else {}),
            "tags": {tag: value for tag, value in tags.items() if value is not None},
            **({"oracle": oracle} if oracle else {}),
            **gaps,
            "worst": told.get("worst", {}).get(policy, []),
        }


def _judges(results: Sequence[KeptResult]) -> list[Json]:
    """Every rate of every judge that was held against people."""
    return [
        {
            "run": kept.result.id,
            "judge": kept.result.judge.model if kept.result.judge else "judge",
            "data": kept.result.settings.get("data"),
            "figures": {
                name: figure
                for name, figure in walk(kept.result.figures)
                if "rate" in figure and " / " not in name
            },
            "subsets": {
                name: figure
                for name, told in kept.result.figures.get("subsets", {}).items()
                if (figure := read_figure(told.get("accuracy"))) is not None
            },
        }
        for kept in results
        if kept.result.kind == "judge"
    ]


def _reliability(results: Sequence[KeptResult], sources: Sources) -> list[Json]:
    found = []
    for kept in results:
        calibration = kept.result.figures.get("calibration") or {}
        bins = runs.reliability_bins(calibration.get("bins"))
        if kept.result.kind == "judge" and bins:
            judge = kept.result.judge.model if kept.result.judge else "judge"
            told: Json = {"run": kept.result.id, "judge": judge, "bins": bins}
            if is_number(ece := calibration.get("ece")):
                told["ece"] = ece
            found.append(told)
    return found + [told for one in sources.datasets for told in runs.reliability_of_dataset(one)]


def _arena(result: EvalResult) -> Json:
    """Players from the best to the worst, with Elo and the rating at equal length beside."""
    style = result.figures.get("style") or {}
    even = {one.get("policy"): read_figure(one) for one in style.get("players", [])}
    players = []
    for one in result.figures.get("players", []):
        if (rating := read_figure(one)) is None:
            continue
        told = {name: one[name] for name in ("elo", "games", "ranks") if name in one}
        at_equal_length = even.get(one.get("policy"))
        players.append(
            {
                "policy": str(one.get("policy")),
                "rating": rating,
                **told,
                **({"at_equal_length": at_equal_length} if at_equal_length else {}),
            }
        )
    return {"run": result.id, "games": result.figures.get("games"), "players": players}


def _benchmarks(results: Sequence[KeptResult], baseline: KeptResult | None) -> list[Json]:
    """A row per task and metric: each policy's figure, and what training cost it against the base.

    The base is the pinned baseline, else the oldest benchmark that asked the same in the same way.
    """
    found = [one.result for one in results if one.result.kind == "bench"]
    found.sort(key=lambda one: (one.created_at, one.id))
    bases = found
    if baseline is not None and baseline.result.kind == "bench":
        bases = [baseline.result]
        found.sort(key=lambda one: one.id != baseline.result.id)
    rows: dict[tuple[str, str], Json] = {}
    for one in found:
        base = next((base for base in bases if _is_alike(one, base)), None)
        taxes = {} if base is None or base.id == one.id else compared(one, base)["tasks"]
        for task, metrics in one.figures.get("tasks", {}).items():
            for metric, value in metrics.items():
                row = rows.setdefault((task, metric), {"task": task, "metric": metric})
                cells = row.setdefault("cells", [])
                policy = one.policies[0].ref if one.policies else one.id
                cell = {"run": one.id, "policy": policy, "figure": read_figure(value)}
                tax = taxes.get(task, {}).get(metric)
                is_base = base is not None and base.id == one.id
                cells.append({**cell, **({"tax": tax} if tax else {}), "is_base": is_base})
    return list(rows.values())


def _is_alike(one: EvalResult, other: EvalResult) -> bool:
    """Whether two benchmarks asked the same in the same way; the tasks of either may be more."""
    return one.id == other.id or is_same_measure(one, other) or is_same_measure(other, one)


def _other(result: EvalResult) -> Json:
    """A result of a kind that has no picture: whatever in it looks like a figure."""
    told = [{"metric": one.metric, "figure": one.figure} for one in figures_of(result)]
    advice = result.figures.get("recommendation")
    known = advice if isinstance(advice, Mapping) else {}
    words = [str(known[name]) for name in _ADVICE if known.get(name)]
    return {
        "run": result.id,
        "kind": result.kind,
        "figures": told,
        **({"recommendation": ": ".join(words)} if words else {}),
    }


def _filled(told: Iterable[Json]) -> list[Json]:
    return [one for one in told if one]
