"""The kind `eval`: `cai eval policy`, on shipped suites; the result is kept under the job's id."""

from __future__ import annotations

from typing import Any

from cai.errors import NotFoundError
from cai.evaluate.suites import find_suite, suite_names
from cai.jobs.place import Command, Kind, Workplace, devices_env, key_env, printed_fields
from cai.jobs.spec import EvalParams
from cai.registry import choices


def _eval_target(params: EvalParams, id: str) -> str:
    return f"evals/{id}"


def _check_eval(params: EvalParams, place: Workplace, id: str) -> None:
    for policy in params.policies:
        place.policy(policy, "params.policies")
    if params.constitution is not None:
        place.constitution(params.constitution, "params.constitution")
    if params.suite is not None and params.suite not in suite_names():
        known = choices(params.suite, suite_names())
        raise NotFoundError(f"no suite '{params.suite}'{known}", param="params.suite")
    if _needs_judge(params):
        place.check_engine(params.judge, "params.judge")


def _eval_command(params: EvalParams, place: Workplace, id: str) -> Command:
    env = devices_env(params.placement, place)
    argv = ["eval", "policy", *params.policies, "--out", id, "--json"]
    for flag in ("suite", "samples", "limit", "seed", "constitution"):
        if (value := getattr(params, flag)) is not None:
            argv += [f"--{flag}", str(value)]
    if _needs_judge(params):
        argv += ["--judge", place.engine(params.judge, "params.judge")]
        env |= key_env() if params.judge is None else {}
    else:
        argv.append("--text-only")
    return Command(tuple(argv), env)


def _eval_result(params: EvalParams, place: Workplace, id: str, printed: Any) -> dict[str, Any]:
    found = printed_fields(printed, "id", "figures")
    suites = {
        name: {key: value for key, value in figures.items() if key != "worst"}
        for name, figures in found["figures"]["suites"].items()
    }
    return {"policies": params.policies, "result": found["id"], "figures": suites}


def _needs_judge(params: EvalParams) -> bool:
    """Whether a judge is asked: by the suite, or of those that fit, where one was named."""
    if params.suite is None:
        return params.judge is not None
    return find_suite(params.suite).needs_judge


EVAL = Kind(EvalParams, _eval_target, _check_eval, _eval_command, _eval_result)
