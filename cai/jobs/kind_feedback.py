"""The kind `feedback`: `cai data feedback`, what people said since some moment as human rows."""

from __future__ import annotations

from typing import Any

from cai.errors import ConflictError
from cai.jobs.place import Command, Kind, Workplace, check_length, printed_fields
from cai.jobs.spec import FeedbackParams


def _run_name(params: FeedbackParams, id: str) -> str:
    return params.run or id


def _feedback_target(params: FeedbackParams, id: str) -> str:
    return f"runs/{_run_name(params, id)}"


def _check_feedback(params: FeedbackParams, place: Workplace, id: str) -> None:
    name = _run_name(params, id)
    check_length(name, "params.run")
    if (place.settings.home / "runs" / name).exists():  # the command would make it anew
        raise ConflictError(
            f"there is a run '{name}' already; give another params.run", param="params.run"
        )


def _feedback_command(params: FeedbackParams, place: Workplace, id: str) -> Command:
    # Begun again it takes what has come meanwhile too, so it is made anew.
    out = str(place.settings.home / "runs" / _run_name(params, id))
    given = ("--after", str(params.after), "--weight", str(params.weight))
    argv = ("data", "feedback", "--out", out, *given, "--fresh", "--allow-empty", "--json")
    return Command(argv, {})


def _feedback_result(
    params: FeedbackParams, place: Workplace, id: str, printed: Any
) -> dict[str, Any]:
    run = _run_name(params, id)
    counts = printed_fields(printed, "inputs", "rejected", "pairs")
    last = printed_fields(printed, "last")
    return {"run": run, "counts": counts, **last, "files": place.files.artifacts(run)}


FEEDBACK = Kind(
    FeedbackParams, _feedback_target, _check_feedback, _feedback_command, _feedback_result
)
