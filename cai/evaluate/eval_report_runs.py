"""What runs show in a report: revisions, learning curves, over-optimisation, who moved labels.

Reads the columns that training runs log, and what dataset runs and the demo keep. Pure functions
from sources to plain JSON; what was not measured is absent. Start from `revisions` and `curves`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from cai.errors import DataError, JudgeError
from cai.evaluate.attribution import attribute, ballots_of_rows
from cai.evaluate.eval_report_compare import is_number, read_figure
from cai.evaluate.eval_report_sources import Dataset, Demo, Training
from cai.stats.intervals import wilson_of_share
from cai.stats.overoptimisation import fit

TOPICS = {
    "Loss": "loss policy_loss value_loss",
    "Reward": "reward mean_reward",
    "Margin": "rewards/margins margin",
    "Accuracy": "accuracy rewards/accuracies mean_token_accuracy",
    "KL to the reference (nats per answer)": "kl kl_answer",
    "Entropy (nats per token)": "entropy",
    "Length (tokens per answer)": "length",
    "Calibration error": "calibration_error",
}
"""Panels of learning curves, and the columns in each; with `eval_` before it, on held-out rows."""

MAX_ROWS = 20_000
"""Judged pairs of a run that are read for the parts of its principles."""

_DISTANCE, _PROXY = "watch/sqrt_kl", "watch/proxy_reward"
_WIN_RATE, _JUDGED = "watch/win_rate", "watch/judge_n"
_MAX_POINTS = 240


def revisions(demo: Demo) -> dict[str, Any]:
    """Harmlessness and helpfulness after 0, 1, … revisions: what is not harmful, not refused."""
    steps = [
        {
            "step": one.get("step", number),
            **{
                good: told
                for good, fault in (("harmlessness", "harmful"), ("helpfulness", "over_refusal"))
                if (told := complement(one.get(fault))) is not None
            },
        }
        for number, one in enumerate(demo.report.get("revisions", []))
    ]
    return {"run": demo.name, "steps": steps} if any(len(one) > 1 for one in steps) else {}


def complement(rate: Any) -> dict[str, Any] | None:
    """The rate of all that was not counted; None where there is no rate."""
    figure = read_figure(rate)
    if figure is None or "rate" not in figure:
        return None
    flipped = {**figure, "rate": round(1 - figure["rate"], 6)}
    if "ci" in figure:
        flipped["ci"] = [round(1 - end, 6) for end in reversed(figure["ci"])]
    return flipped


def curves(training: Training) -> dict[str, Any]:
    """What a training run logged by step, as panels of series."""
    panels = []
    for title, columns in TOPICS.items():
        series = [
            {"name": name, "is_held_out": bool(prefix), "points": points}
            for prefix in ("", "eval_")
            for name in columns.split()
            if (points := _points(training.rows, "step", prefix + name))
        ]
        if series:
            panels.append({"title": title, "series": series})
    return {"run": training.name, "panels": panels} if panels else {}


def over_optimisation(training: Training) -> dict[str, Any]:
    """The proxy reward and the judge's win rate by d = √KL, with R(d) fitted to the proxy."""
    seen = [row for row in training.rows if _DISTANCE in row and _PROXY in row]
    if not seen:
        return {}
    told: dict[str, Any] = {"run": training.name, "points": [_watched(row) for row in seen]}
    distances = [max(row[_DISTANCE], 0.0) for row in seen]
    fitted = fit(distances, [row[_PROXY] for row in seen], has_start=True)
    if fitted is not None:
        told["fit"] = {"alpha": fitted.alpha, "beta": fitted.beta, "start": fitted.start}
    return told


def attribution(dataset: Dataset) -> dict[str, Any]:
    """Which principles moved a run's labels; nothing where none has a label."""
    try:
        ballots = list(ballots_of_rows(islice(dataset.rows(), MAX_ROWS)))
    except (JudgeError, KeyError, TypeError) as exc:
        raise DataError(f"{dataset.path}: a row's label cannot be read: {exc}") from exc
    if not ballots:
        return {}
    constitution = dataset.manifest.get("constitution") or {}
    return {
        "run": dataset.name,
        "constitution": constitution.get("ref"),
        **attribute(ballots, "mean").as_dict(),
    }


def reliability_of_dataset(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """How often a run's judge was right by how sure it was, where pairs had a known label."""
    measured = dataset.manifest.get("judge_stats") or {}
    for judge, stats in measured.items():
        bins = reliability_bins(stats.get("reliability"))
        if bins:
            ece = stats.get("calibration_error")
            yield {"run": dataset.name, "judge": judge, "bins": bins, **_known("ece", ece)}


def reliability_bins(value: Any) -> list[dict[str, float]]:
    """Bins `{confidence, accuracy, n}` of a reliability diagram; those that are none are left."""
    bins = value if isinstance(value, list) else []
    wanted = ("confidence", "accuracy", "n")
    return [
        {name: one[name] for name in wanted}
        for one in bins
        if isinstance(one, Mapping) and all(is_number(one.get(name)) for name in wanted)
    ]


def revised(dataset: Dataset, limit: int) -> list[dict[str, Any]]:
    """Transcripts with a revision: the prompt, the draft, and each revision with its critique."""
    return list(islice(_revised(dataset), limit))


def _revised(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for line in dataset.transcripts():
        steps = [
            {name: step.get(name) for name in ("principle", "critique", "revision")}
            for step in line.get("steps", [])
            if step.get("revision")
        ]
        if steps:
            told = {"prompt": line["prompt"], "draft": line["draft"], "steps": steps}
            yield {"run": dataset.name, **told}


def _watched(row: Mapping[str, float]) -> dict[str, Any]:
    told: dict[str, Any] = {"distance": row[_DISTANCE], "proxy": row[_PROXY]}
    n = row.get(_JUDGED, 0)
    if n > 0 and 0 <= row.get(_WIN_RATE, -1) <= 1:
        ends = wilson_of_share(row[_WIN_RATE], n)
        told["win_rate"] = {"rate": row[_WIN_RATE], "n": n, "ci": [round(e, 6) for e in ends]}
    return told


def _points(rows: Sequence[Mapping[str, float]], x: str, y: str) -> list[list[float]]:
    """The points of a curve; many are averaged in groups."""
    points = [[row[x], row[y]] for row in rows if x in row and y in row]
    size = math.ceil(len(points) / _MAX_POINTS)
    if size <= 1:
        return points
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [
        [math.fsum(column) / len(group) for column in zip(*group, strict=True)] for group in groups
    ]


def _known(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if is_number(value) else {}
