"""The trainers' settings and where they come from: flag over --set over file over default. Light.

Start from `load_config(SftConfig, file=…, sets=…, data=…, name=…)`; `CONFIGS` has one class per
trainer. The classes live in `config_common`, `config_preference` and `config_ppo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from cai.errors import ConfigError
from cai.registry import did_you_mean
from cai.train.config_common import CommonConfig, LoraConfig, flat
from cai.train.config_ppo import PpoConfig
from cai.train.config_preference import DpoConfig, RewardConfig
from cai.yamlguard import config_error, describe, load_yaml, load_yaml_file, validate

__all__ = [
    "CONFIGS",
    "CommonConfig",
    "DpoConfig",
    "LoraConfig",
    "PpoConfig",
    "RewardConfig",
    "SftConfig",
    "Use",
    "flat",
    "load_config",
]

ConfigT = TypeVar("ConfigT", bound=CommonConfig)
Use = Literal["auto", "revisions", "last-revision", "answers", "chosen", "messages"]

_FILLED_IN = {"data": ["-"], "name": "x", "run_dir": "-", "out": "-"}  # flags give these


class SftConfig(CommonConfig):
    """Supervised training on demonstrations; with `revisions`, SL-CAI of Bai et al. (2022)."""

    LEARNING_RATE_AT_7B: ClassVar[float] = 1e-5

    type: Literal["sft"] = "sft"
    """Names the trainer."""
    use: Use = "auto"
    """What of the data is imitated. `revisions`: each revision of a transcript, as the paper does;
    `last-revision`: the last alone; `answers`: the final answer, revised or not; `chosen`: the
    better answer of each pair; `messages`: the assistant's turns of whole conversations. auto:
    revisions and, where a critique found nothing to revise, the answer; messages of foreign
    files."""
    epochs: float = Field(default=2.0, gt=0, le=1000)
    """Passes over the training rows, above 0 to 1,000; parts of one are allowed."""
    packing: bool = False
    """Fill rows of `max_length` with several demonstrations each, kept apart by their positions.
    Needs flash attention; without it, rows of like length share a batch."""


CONFIGS: dict[str, type[CommonConfig]] = {
    "sft": SftConfig,
    "reward": RewardConfig,
    "dpo": DpoConfig,
    "ppo": PpoConfig,
}


def load_config(
    kind: type[ConfigT], *, file: Path | None = None, sets: Sequence[str] = (), **given: Any
) -> ConfigT:
    """The settings of one run. What is None in `given` was not given.

    Raises ConfigError naming the flag, key or line that is wrong, with the way out.
    """
    values = _from_file(kind, file) if file is not None else {}
    for assignment in sets:
        _assign(values, assignment)
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        return kind.model_validate(values)
    except ValidationError as exc:
        raise _settings_error(exc, kind) from None


def _from_file(kind: type[ConfigT], path: Path) -> dict[str, Any]:
    loaded = load_yaml_file(path, error=config_error)
    if not isinstance(loaded.data, dict):
        raise loaded.fail("expected settings, as in 'epochs: 2'")
    wanted = kind.model_fields["type"].default
    found = loaded.data.get("type", wanted)
    if found != wanted:
        raise loaded.fail(f"type is {found!r:.80} and this is 'cai train {wanted}'", ("type",))
    whole = replace(loaded, data={**_FILLED_IN, **loaded.data})
    values = validate(kind, whole).model_dump(exclude_unset=True)
    return {name: value for name, value in values.items() if name in loaded.data}


def _assign(values: dict[str, Any], assignment: str) -> None:
    """Put `key=value` of a --set into `values`; a dotted key goes into nested ones."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}: write key=value", param="set")
    loaded = load_yaml(text, path=f"--set {key}", error=config_error)
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = values.get(parent) or {}
        if not isinstance(inner, dict):
            inner = {}
        values[parent] = dict(inner)
        values = values[parent]
    values[last] = loaded.data


def _settings_error(exc: ValidationError, kind: type[CommonConfig]) -> ConfigError:
    """The first thing that is wrong with settings, by name, with the way out."""
    details = exc.errors(include_url=False)[0]
    path = [str(part) for part in details["loc"]]
    name = ".".join(path) or "settings"
    if details["type"] == "extra_forbidden":
        known = _model_at(kind, path[:-1]).model_fields
        close = did_you_mean(path[-1], known) or f"; there are: {', '.join(known)}"
        return ConfigError(f"unknown setting '{name}'{close}", param=name)
    if details["type"] == "missing":
        flag = "--data" if name == "data" else "--out NAME"
        return ConfigError(f"'{name}' is missing; give {flag}", param=name)
    if details["type"] == "value_error" and not path:
        return ConfigError(str(details["ctx"]["error"]), param=None)
    return ConfigError(describe(details, name), param=name)


def _model_at(kind: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    """The settings that `path` leads to; a part may be optional, as `lora` is."""
    for part in path:
        given = kind.model_fields[part].annotation
        kind = next(one for one in (given, *get_args(given)) if _is_settings(one))
    return kind


def _is_settings(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
