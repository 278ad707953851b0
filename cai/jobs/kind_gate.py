"""The kind `gate`: a policy's figures by the evaluation gate, without any consequence."""

from __future__ import annotations

import json
from typing import Any

from cai.evaluate.gates import check_limits
from cai.jobs.gate import check_there
from cai.jobs.place import Command, Kind, Workplace, devices_env, printed_fields
from cai.jobs.spec import GateParams


def _gate_target(params: GateParams, id: str) -> str:
    return f"gates/{id}"


def _check_gate(params: GateParams, place: Workplace, id: str) -> None:
    check_there()
    check_limits(params.limits)
    place.policy(params.policy, "params.policy")


def _gate_command(params: GateParams, place: Workplace, id: str) -> Command:
    argv = ("gate", params.policy, json.dumps(params.limits))
    return Command(argv, devices_env(params.placement, place))


def _gate_result(params: GateParams, place: Workplace, id: str, printed: Any) -> dict[str, Any]:
    verdict = printed_fields(printed, "passed", "figures", "reasons")
    return {"policy": params.policy, **verdict}


GATE = Kind(GateParams, _gate_target, _check_gate, _gate_command, _gate_result)
