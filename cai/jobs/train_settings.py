"""The trainer's own settings in a training job: checked as the trainer reads them. Light.

Start from `check_settings`; `as_sets` writes them as the command line takes them.
"""

from __future__ import annotations

import json
from pathlib import Path

from cai.errors import ConfigError
from cai.jobs.spec import TrainParams
from cai.train.config import CONFIGS, load_config

_FIXED = ("data", "name", "run_dir", "out", "policy", "type", "reward")
_NOT_FROM_CLIENTS = ("judge", "constitution", "engine_args", "report_to")  # addresses and paths
_JOBS_OWN = "has a field of its own in params"
_OPERATORS = "is the operator's to set"


def check_settings(params: TrainParams) -> None:
    """Raise ConfigError for a setting that the trainer would refuse, or that no client may set."""
    for key in params.settings:
        top = key.partition(".")[0]
        if top in _FIXED or top in _NOT_FROM_CLIENTS:
            why = _JOBS_OWN if top in _FIXED else _OPERATORS
            raise ConfigError(f"params.settings.{key}: '{top}' {why}", param="params.settings")
    try:
        load_config(
            CONFIGS[params.method],
            sets=as_sets(params),
            data=(Path("-"),),
            name=params.name or "x",
            run_dir=Path("-"),
            out=Path("-"),
        )
    except ConfigError as exc:
        raise ConfigError(f"params.settings: {exc.message}", param="params.settings") from None


def as_sets(params: TrainParams) -> list[str]:
    """Each setting as key=value, the reward model among them."""
    values = dict(params.settings)
    if params.reward is not None:
        values["reward"] = params.reward
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]
