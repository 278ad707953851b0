"""The kind `dataset`: `cai data generate` on an uploaded file of prompts."""

from __future__ import annotations

from typing import Any

from cai.jobs.place import Command, Kind, Workplace, check_length, key_env, printed_fields
from cai.jobs.spec import DatasetParams


def _run_name(params: DatasetParams, id: str) -> str:
    return params.run or id


def _dataset_target(params: DatasetParams, id: str) -> str:
    return f"runs/{_run_name(params, id)}"


def _check_dataset(params: DatasetParams, place: Workplace, id: str) -> None:
    place.files.get(params.prompts)
    place.constitution(params.constitution, "params.constitution")
    place.check_engine(params.engine, "params.engine")
    if params.judge not in (None, "none"):
        place.check_engine(params.judge, "params.judge")
    check_length(_run_name(params, id), "params.run")


def _dataset_command(params: DatasetParams, place: Workplace, id: str) -> Command:
    flags: dict[str, Any] = {
        "out": place.settings.home / "runs" / _run_name(params, id),
        "constitution": params.constitution,
        "engine": place.engine(params.engine, "params.engine"),
        "judge": params.judge,
        "revisions": params.revisions,
        "samples": params.samples,
        "limit": params.limit,
        "seed": params.seed,
        "concurrency": params.concurrency,
        "max-tokens": params.max_tokens,
        "temperature": params.temperature,
    }
    given = [
        part
        for name, value in flags.items()
        if value is not None
        for part in (f"--{name}", str(value))
    ]
    if params.min_margin is not None:
        given += ["--set", f"ranking.min_margin={params.min_margin}"]
    prompts = str(place.files.verify(params.prompts))
    env = key_env() if params.engine is None else {}
    return Command(("data", "generate", prompts, *given, "--json"), env)


def _dataset_result(
    params: DatasetParams, place: Workplace, id: str, printed: Any
) -> dict[str, Any]:
    run = _run_name(params, id)
    counts = printed_fields(printed, "inputs", "kept", "rejected", "pairs", "duplicates")
    return {"run": run, "counts": counts, "files": place.files.artifacts(run)}


DATASET = Kind(DatasetParams, _dataset_target, _check_dataset, _dataset_command, _dataset_result)
