"""The kind `train`: `cai train` on runs and uploaded files, from a policy to a new one."""

from __future__ import annotations

from typing import Any

from cai.errors import ConfigError, ConflictError
from cai.jobs.place import Command, Kind, Workplace, check_length, devices_env, printed_fields
from cai.jobs.spec import TrainParams
from cai.jobs.train_settings import as_sets, check_settings
from cai.policy.resolve import FOLDER


def _policy_name(params: TrainParams, id: str) -> str:
    return params.name or id


def _train_target(params: TrainParams, id: str) -> str:
    return f"policies/{_policy_name(params, id)}"


def _check_train(params: TrainParams, place: Workplace, id: str) -> None:
    if not params.data and not params.files:
        raise ConfigError(
            "name the data: runs in params.data, or files in params.files", param="params.data"
        )
    for run in params.data:
        place.run(run, "params.data")
    for file in params.files:
        place.files.get(file)
    place.policy(params.policy, "params.policy")
    if params.reward is not None:
        place.policy(params.reward, "params.reward")
    name = _policy_name(params, id)
    check_length(name, "params.name")
    if (place.settings.home / FOLDER / name).exists():
        raise ConflictError(
            f"there is a policy '{name}' already; give another params.name", param="params.name"
        )
    check_settings(params)


def _train_command(params: TrainParams, place: Workplace, id: str) -> Command:
    runs = [place.run(run, "params.data") for run in params.data]
    data = [*runs, *(place.files.verify(file) for file in params.files)]
    given = [part for one in data for part in ("--data", str(one))]
    sets = as_sets(
        params.model_copy(
            update={"reward": params.reward and place.policy(params.reward, "params.reward")}
        )
    )
    given += [part for one in sets for part in ("--set", one)]
    policy = place.policy(params.policy, "params.policy")
    argv = (
        "train",
        params.method,
        *given,
        "--policy",
        policy,
        "--out",
        _policy_name(params, id),
        "--json",
    )
    return Command(argv, devices_env(params.placement, place))


def _train_result(params: TrainParams, place: Workplace, id: str, printed: Any) -> dict[str, Any]:
    name = _policy_name(params, id)
    told = printed_fields(printed, "digest", "metrics")
    return {"policy": name, **told, "files": place.files.artifacts(name)}


TRAIN = Kind(
    TrainParams, _train_target, _check_train, _train_command, _train_result, is_training=True
)
