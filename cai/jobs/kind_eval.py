"""The kind `eval`: `cai eval policy`, refused where there is no such command."""

from __future__ import annotations

import importlib.util
from typing import Any

from cai.errors import UnsupportedError
from cai.jobs.place import Command, Kind, Workplace, devices_env
from cai.jobs.spec import EvalParams


def _eval_target(params: EvalParams, id: str) -> str:
    return f"evals/{id}"


def _check_eval(params: EvalParams, place: Workplace, id: str) -> None:
    if importlib.util.find_spec("cai.cli.eval") is None:
        raise UnsupportedError(
            "this version has no 'cai eval', which a job of the kind eval runs; take another kind",
            param="kind",
        )
    for policy in params.policies:
        place.policy(policy, "params.policies")


def _eval_command(params: EvalParams, place: Workplace, id: str) -> Command:
    policies = [place.policy(policy, "params.policies") for policy in params.policies]
    suite = ("--suite", params.suite) if params.suite is not None else ()
    argv = ("eval", "policy", *policies, *suite, "--json")
    return Command(argv, devices_env(params.placement, place))


def _eval_result(params: EvalParams, place: Workplace, id: str, printed: Any) -> dict[str, Any]:
    return {"policies": params.policies, "figures": printed}


EVAL = Kind(EvalParams, _eval_target, _check_eval, _eval_command, _eval_result)
