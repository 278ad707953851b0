"""What a kind of job is, and the place it works in: settings, files, runs, policies, engines.

Names from clients become paths and addresses here, and nowhere else. Start from `Workplace.of`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.store import ConstitutionStore
from cai.db import Database
from cai.errors import ConfigError, DataError, NotFoundError
from cai.jobs.files import FileStore
from cai.jobs.spec import Record
from cai.policy.registry import PolicyRegistry
from cai.policy.resolve import resolve_policy
from cai.registry import choices
from cai.settings import Settings

_MAX_NAME_CHARS = 46  # with the longest name of an artifact, 64


class Workplace(NamedTuple):
    """What the builders of commands need to know: where everything is."""

    settings: Settings
    files: FileStore
    policies: PolicyRegistry
    has_server: bool
    """Whether a server can be asked: by a worker that knows its address, in the end."""

    @classmethod
    def of(cls, settings: Settings, database: Database, *, is_server: bool = False) -> Workplace:
        """The workplace that the settings describe; a server is one for its own worker."""
        store = FileStore(
            settings.home,
            max_bytes=settings.max_file_bytes,
            max_total_bytes=settings.max_files_total_bytes,
        )
        policies = PolicyRegistry(database, settings.home, roots=settings.policy_roots)
        return cls(settings, store, policies, is_server or settings.url is not None)

    def run(self, name: str, param: str) -> Path:
        """The folder of a run that is there. Raises NotFoundError."""
        folder = self.settings.home / "runs" / name
        if folder.is_symlink() or not folder.is_dir():
            raise NotFoundError(f"no run '{name}'; a dataset job makes one", param=param)
        return folder

    def policy(self, ref: str, param: str) -> str:
        """A policy's reference as the commands take it. Raises NotFoundError."""
        if ref == "sandbox":
            return ref
        try:
            return str(self.policies.path(self.policies.get(ref)))
        except NotFoundError as exc:
            with suppress(NotFoundError):  # trained by hand, and not registered
                return str(resolve_policy(ref, self.settings.home).absolute())
            raise NotFoundError(exc.message, param=param) from None

    def constitution(self, ref: str, param: str) -> None:
        """Raise NotFoundError, or what is wrong with it, unless the constitution can be used."""
        try:
            ConstitutionStore(self.settings.constitutions).get(ref)
        except NotFoundError as exc:
            raise NotFoundError(exc.message, param=param) from None

    def check_engine(self, address: str | None, param: str) -> None:
        """Raise ConfigError unless a client may name the engine, or there is a server to ask."""
        allowed = self.settings.job_engines
        if address is not None and address not in allowed:
            raise ConfigError(
                f"{param}: {address[:100]!r} is not among the operator's job_engines"
                f"{choices(address, allowed)}",
                param=param,
            )
        if address is None and not self.has_server:
            raise ConfigError(
                "no server is known that could answer: set CAI_URL to its address, as in "
                "http://127.0.0.1:8000, or name an engine of job_engines",
                param=param,
            )

    def engine(self, address: str | None, param: str) -> str:
        """An engine's address: a client's from the operator's list, else the server's live one."""
        self.check_engine(address, param)
        if address is not None:
            return address
        if self.settings.url is None:
            raise ConfigError("this worker knows no server: give it --url, or CAI_URL", param=param)
        return f"{self.settings.url.rstrip('/')}/v1#live"


class Command(NamedTuple):
    """One of our own commands: the words after `cai`, and variables of its environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


class Kind(NamedTuple):
    """One kind of job. `params` are checked before anything else is called."""

    params: type[Record]
    target: Callable[[Any, str], str]
    """What of ours the job writes, by its params and id: two jobs never write the same."""
    check: Callable[[Any, Workplace, str], None]
    """Raises an InputError, or NotFoundError, for what cannot work, with the job's id."""
    command: Callable[[Any, Workplace, str], Command]
    result: Callable[[Any, Workplace, str, Any], dict[str, Any]]
    """What is told of it when it is done, from the JSON that the command printed."""
    is_training: bool = False
    """Whether a policy comes of it."""


def check_length(name: str, param: str) -> None:
    """Raise ConfigError for a name of a run that its files' ids could not hold."""
    if len(name) > _MAX_NAME_CHARS:
        raise ConfigError(
            f"{param} has {len(name)} characters; at most {_MAX_NAME_CHARS} are "
            "taken, so that its files have ids",
            param=param,
        )


def printed_fields(printed: Any, *names: str) -> dict[str, Any]:
    """Those of `names` that the command's JSON has. Raises DataError where it printed none."""
    if not isinstance(printed, dict):
        raise DataError("the command ended well and printed no result")
    return {name: printed[name] for name in names if name in printed}


def devices_env(placement: str, place: Workplace) -> dict[str, str]:
    """Devices of a job that has its own; a shared one sees what the engine saw."""
    devices = place.settings.job_devices
    return {"CUDA_VISIBLE_DEVICES": devices} if devices and placement == "separate" else {}


def key_env() -> dict[str, str]:
    """The key of our own server, for a command that asks it."""
    key = os.environ.get("CAI_API_KEY")
    return {"OPENAI_API_KEY": key} if key else {}
