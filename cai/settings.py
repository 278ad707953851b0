"""Settings of the service: flag over environment (`CAI_*`) over `cai.yaml` over default.

`Settings(...)` reads nothing but its arguments; `load_settings` reads the environment and the file,
and refuses a name that it does not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from cai.errors import ConfigError
from cai.registry import choices, did_you_mean
from cai.yamlguard import config_error, describe, load_yaml_file, validate

FILE_NAME = "cai.yaml"
PREFIX = "CAI_"
SECRETS = frozenset({"CAI_API_KEY"})
"""Variables that are no settings, since settings are shown and saved: read where they are used."""


class Settings(BaseModel):
    """What a command or the server runs with. Paths are relative to the working directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Path("var")
    """Folder for everything that the program writes, constitutions excepted."""
    constitutions: Path = Path("constitutions")
    """Folder of the constitutions: `<name>/<version>.yaml`."""
    database_url: str | None = Field(default=None, min_length=1, repr=False)
    """SQLAlchemy address of the database, sqlite:///… or postgresql://…; unset, `home`/cai.db."""
    policy_roots: tuple[Path, ...] = ()
    """Folders beside `home` below which policies may be registered."""
    url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    """Address of a running server, http://host:port, for the commands that speak to one."""
    engine: str = Field(default="sandbox", min_length=1)
    """Address of the engine that answers: sandbox, vllm:PATH, http(s)://…/v1#model, …"""
    judge: str | None = Field(default=None, min_length=1)
    """Address of the engine that compares answers; unset, it is the engine that answers."""
    reward: str | None = Field(default=None, min_length=1)
    """Reward model of /v1/rewards: a folder (with a slash in it), or a policy's name in `home`."""
    reward_device: str | None = Field(default=None, pattern=r"^(cpu|cuda(:[0-9]{1,2})?)$")
    """What the reward model runs on: cpu, cuda or cuda:1; unset, a GPU where there is one."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address that the server binds; one that other machines reach needs `api_key_file`."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port, 0 to 65535; 0 takes a free one and prints it."""
    api_key_file: Path | None = None
    """YAML file with one entry per key; unset, requests need no key."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that clients may use beside this machine's own; with keys, any."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages that may call, as in https://ui.example; none by default."""
    max_running: int = Field(default=256, ge=1, le=65536)
    """Requests at work at once, 1 to 65,536."""
    max_queue: int = Field(default=1024, ge=0, le=65536)
    """Requests that wait for their turn, 0 to 65,536; the next one is answered 429."""
    request_timeout_s: float = Field(default=600.0, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds for one request, waiting included, up to a day; then 504."""
    body_timeout_s: float = Field(default=30.0, gt=0, le=600, allow_inf_nan=False)
    """Seconds in which a request's body must arrive, up to 600."""
    drain_timeout_s: float = Field(default=30.0, gt=0, le=3600, allow_inf_nan=False)
    """Seconds that a stopping server gives to the requests at work, up to an hour."""
    reload_drain_s: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)
    """Seconds that a new policy waits for the requests at work; then it is given up, not they."""
    hang_timeout_s: float = Field(default=120.0, ge=1, le=86_400, allow_inf_nan=False)
    """Seconds for which an engine with work may say nothing before another takes its place."""
    max_body_bytes: int = Field(default=1_000_000, ge=1024, le=2**30)
    """Size of the largest request body in bytes, from 1 KiB to 1 GiB; a larger one gets 413."""
    idempotency_ttl_s: float = Field(default=3600.0, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds for which the answer to an Idempotency-Key is kept, up to a day."""
    idempotency_max_bytes: int = Field(default=64_000_000, ge=0, le=2**40)
    """Memory for kept answers, in bytes; 0 keeps none."""
    sse_ping_s: float = Field(default=10.0, gt=0, le=600, allow_inf_nan=False)
    """Seconds of silence after which a stream says that it lives, up to 600."""
    worker: bool = True
    """Whether the server starts a worker of its own for jobs."""
    worker_jobs: int = Field(default=1, ge=1, le=64)
    """Jobs that a worker runs at once, 1 to 64."""
    job_attempts: int = Field(default=5, ge=1, le=100)
    """How often in a row a job's command may fail before the job does, 1 to 100; an attempt that
    ended with its worker, or while the server was away, counts a tenth."""
    job_engines: tuple[str, ...] = ()
    """Addresses of engines that jobs may name, beside the server's own; none by default."""
    job_devices: str | None = Field(default=None, pattern=r"^[0-9]{1,3}(,[0-9]{1,3})*$")
    """CUDA devices of jobs placed apart from the engine, as in 1,2; unset, all there are."""
    lm_eval: str | None = Field(default=None, min_length=1)
    """Program of the evaluation harness, lm_eval; unset, the one installed beside this program."""
    max_file_bytes: int = Field(default=100_000_000, ge=1024, le=2**40)
    """Size of the largest uploaded file in bytes."""
    max_files_total_bytes: int = Field(default=10_000_000_000, ge=1024, le=2**50)
    """Size of all uploaded files together, in bytes."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the bound address."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


class _Environment(Settings, BaseSettings):
    """Reads the variables; only what is set there counts."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True)


def load_settings(
    flags: Mapping[str, Any] | None = None, *, folder: Path | None = None
) -> Settings:
    """Settings for this process. A flag that is None was not given; `folder` holds `cai.yaml`.

    Raises ConfigError naming the flag, variable or line that is wrong.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    values = {**_from_file((folder or Path()) / FILE_NAME), **_from_environment(), **given}
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        raise _error(exc, lambda name: "--" + name.replace("_", "-")) from None


def _from_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    loaded = load_yaml_file(path, error=config_error)
    if loaded.data is None:
        return {}
    return validate(Settings, loaded).model_dump(exclude_unset=True)


def _from_environment() -> dict[str, Any]:
    _refuse_unknown_variables()
    try:
        return _Environment().model_dump(exclude_unset=True)
    except ValidationError as exc:
        raise _error(exc, lambda name: PREFIX + name.upper()) from None
    except SettingsError as exc:
        raise ConfigError(f'{exc}; write a list in a variable as JSON, such as ["a"]') from exc


def _refuse_unknown_variables() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for variable in sorted(os.environ):
        if variable.upper().startswith(PREFIX) and variable.upper() not in known | SECRETS:
            raise ConfigError(
                f"unknown variable {variable}{choices(variable, known)}", param=variable
            )


def _error(exc: ValidationError, spell: Callable[[str], str]) -> ConfigError:
    details = exc.errors(include_url=False)[0]
    name = str(details["loc"][0]) if details["loc"] else "settings"
    if details["type"] == "extra_forbidden":
        way_out = did_you_mean(name, Settings.model_fields)
        return ConfigError(f"unknown setting {spell(name)}{way_out}", param=name)
    return ConfigError(describe(details, spell(name)), param=name)
