"""Where the settings of `cai data generate` come from: flag, --set, environment, file, default.

Start from `resolve_config`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cai.engine.open import parse_engine_argument
from cai.errors import ConfigError
from cai.pipeline_config import GenerateConfig
from cai.registry import did_you_mean
from cai.settings import load_settings
from cai.yamlguard import config_error, describe, load_yaml, load_yaml_file, validate


def resolve_config(
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    sets: Sequence[str] = (),
    engine_args: Sequence[str] = (),
) -> GenerateConfig:
    """The settings of one run. A flag that is None was not given.

    Raises ConfigError naming the flag, key or line that is wrong.
    """
    settings = load_settings()
    values: dict[str, Any] = {"engine": settings.engine}
    if file is not None:
        values |= _from_file(file)
    if os.environ.get("CAI_ENGINE"):
        values["engine"] = settings.engine
    for assignment in sets:
        assign(values, assignment)
    values |= {name: value for name, value in flags.items() if value is not None}
    if engine_args:
        given = dict(parse_engine_argument(text) for text in engine_args)
        values["engine_args"] = {**values.get("engine_args", {}), **given}
    if "out" not in values:
        raise ConfigError("no run directory; give --out RUN", param="out")
    try:
        return GenerateConfig.model_validate(values)
    except ValidationError as exc:
        raise settings_error(exc, GenerateConfig) from None


def assign(values: dict[str, Any], assignment: str) -> None:
    """Put `key=value` of a --set into `values`; a dotted key goes into nested ones."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}: write key=value", param="set")
    loaded = load_yaml(text, path=f"--set {key}", error=config_error)
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = values.get(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: '{parent}' holds no keys", param=parent)
        inner = dict(inner)
        values[parent] = inner
        values = inner
    values[last] = loaded.data


def settings_error(exc: ValidationError, model: type[BaseModel]) -> ConfigError:
    """The first thing that is wrong with settings, by name, with the way out."""
    details = exc.errors(include_url=False)[0]
    name = ".".join(str(part) for part in details["loc"]) or "settings"
    if details["type"] == "extra_forbidden":
        return ConfigError(
            f"unknown setting '{name}'{did_you_mean(name, model.model_fields)}", param=name
        )
    return ConfigError(describe(details, name), param=name)


def _from_file(path: Path) -> dict[str, Any]:
    loaded = load_yaml_file(path, error=config_error)
    if not isinstance(loaded.data, dict):
        raise loaded.fail("expected settings, as in 'revisions: 2'")
    whole = replace(loaded, data={"prompts": "-", "out": "-", **loaded.data})
    values = validate(GenerateConfig, whole).model_dump(exclude_unset=True)
    return {name: value for name, value in values.items() if name in loaded.data}
