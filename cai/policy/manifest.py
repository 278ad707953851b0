"""What a policy is: a clean model folder with a `manifest.json` that vouches for it.

The manifest has every file's digest, every tensor's shape, where the policy came from, and probes:
token ids with the log-probs that its trainer computed. `seal` writes it last; `verify` finds
everything that differs. Start from these two.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cai.engine.model_folder import check_model_folder, digest_of_files, files_of
from cai.engine.template_check import read_template
from cai.engine.weights import TensorInfo, tensors_of
from cai.errors import PolicyError
from cai.files import canonical_json, digest_bytes, digest_file, replace_text, sync_folder

__all__ = [
    *("DataSource", "PolicyManifest", "Probe", "RewardProbe", "TensorInfo"),
    *("check_tensors", "read_manifest", "seal", "tensors_of", "verify"),
]

NAME: Final = "manifest.json"
MAX_BYTES: Final = 64_000_000
"""Largest manifest that is read, in bytes."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHOWN = 12


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Probe(_Record):
    """Fixed tokens with what the trainer made of them, to be computed again by an engine."""

    prompt_ids: tuple[int, ...] = Field(min_length=1)
    """Token ids that are given."""
    continuation_ids: tuple[int, ...] = Field(min_length=1)
    """Token ids that follow them."""
    logprobs: tuple[float, ...]
    """Log-prob of each continuation token after all before it: natural log, temperature 1."""

    @model_validator(mode="after")
    def _check(self) -> Probe:
        if len(self.logprobs) != len(self.continuation_ids):
            raise ValueError("needs one log-prob for each continuation token")
        if min(self.prompt_ids + self.continuation_ids) < 0:
            raise ValueError("has a negative token id")
        if not all(math.isfinite(one) and one < 1e-3 for one in self.logprobs):
            raise ValueError("has a log-prob that is positive or not finite")
        return self


class RewardProbe(_Record):
    """A fixed sequence with the reward that its trainer computed, to be scored again."""

    ids: tuple[int, ...] = Field(min_length=1)
    """Token ids of a prompt and its answer, the end token included."""
    reward: float = Field(allow_inf_nan=False)


class DataSource(_Record):
    """Data that a policy was trained on, by name and digest."""

    name: str
    """Name of the folder or file, without its path."""
    digest: str
    num_rows: int = Field(ge=0)


class PolicyManifest(_Record):
    """The content of a policy folder's `manifest.json`."""

    format: Literal[1] = 1
    name: str
    kind: Literal["full", "lora", "reward"]
    method: Literal["base", "sft", "reward", "dpo", "ppo"]
    base: str
    """The model that training began from, as it was named."""
    base_digest: str | None = None
    parent: str | None = None
    """The policy that this one continues."""
    parent_digest: str | None = None
    config: dict[str, Any] = {}
    """The trainer's resolved config."""
    seeds: dict[str, int] = {}
    data: tuple[DataSource, ...] = ()
    constitutions: dict[str, str] = {}
    """Digests by reference: of the data's, and of what a judge judged by."""
    reward_digest: str | None = None
    """Of the reward model that `config` names, where that is a folder."""
    template_digest: str | None = None
    """Digest of the chat template's text."""
    files: dict[str, str]
    """Digest of every file of the folder but this one, by its name below the folder."""
    tensors: dict[str, TensorInfo]
    probes: tuple[Probe, ...] = ()
    reward_probes: tuple[RewardProbe, ...] = ()
    """Of a reward model, which predicts no tokens and so has no `probes`."""
    metrics: dict[str, float] = {}
    created_at: str

    @property
    def digest(self) -> str:
        """What `digest_model_folder` gives for the files listed: the policy's identity."""
        return digest_of_files(self.files)

    @property
    def below_digest(self) -> str | None:
        """Of an adapter: the weights that it belongs on, those that its training began from."""
        return self.parent_digest or self.base_digest

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: dict[str, str]) -> dict[str, str]:
        for name, digest in files.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
                raise ValueError(f"'{name[:80]}' is no name of a file below the folder")
            if not _DIGEST.fullmatch(digest):
                raise ValueError(f"'{digest[:80]}' of {name} is no digest")
        return files


def seal(folder: Path, **fields: Any) -> PolicyManifest:
    """Vouch for a policy folder: make it durable, then write its manifest as the last file.

    `fields` are those of `PolicyManifest`; files, tensors, the template's digest and the time are
    found here. A reader finds a whole manifest or the one before. Raises PolicyError for a field
    that will not do and for a torn file, ConfigError for code in the folder.
    """
    check_model_folder(folder, config=_config_name(fields.get("kind")))
    found = {
        "files": _digests(folder),
        "tensors": tensors_of(folder),
        "template_digest": _template_digest(folder),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        manifest = PolicyManifest.model_validate({**found, **fields})
        canonical_json(manifest.config)  # pydantic would write a NaN in it as null
        text = canonical_json(manifest.model_dump(mode="json"))
    except ValidationError as exc:
        raise PolicyError(f"{folder}: not sealed: {_complaint(exc)}") from None
    except (TypeError, ValueError) as exc:
        raise PolicyError(f"{folder}: not sealed: the config is not JSON: {exc}") from exc
    _sync(folder)
    replace_text(folder / NAME, text + "\n")
    return manifest


def read_manifest(folder: Path) -> PolicyManifest:
    """The manifest of a policy folder, without a look at the other files.

    Raises PolicyError naming the file and what is wrong in it.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PolicyError(f"{path}: larger than {MAX_BYTES // 10**6} MB; no manifest is")
        return PolicyManifest.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        raise PolicyError(f"{folder}: no policy folder: it has no {NAME}") from None
    except OSError as exc:
        raise PolicyError(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        raise PolicyError(f"{path}: no policy's manifest: {_complaint(exc)}") from None


def verify(folder: Path) -> PolicyManifest:
    """The manifest of a folder that is exactly what was sealed, every byte of it.

    Raises PolicyError listing every file and tensor that differs, ConfigError for code.
    """
    manifest = read_manifest(folder)
    check_model_folder(folder, config=_config_name(manifest.kind))
    _raise_if(folder, [*_file_problems(folder, manifest), *_tensor_problems(folder, manifest)])
    return manifest


def check_tensors(folder: Path) -> PolicyManifest:
    """Like `verify`, by the headers of the weights alone: reads kilobytes whatever the size."""
    manifest = read_manifest(folder)
    check_model_folder(folder, config=_config_name(manifest.kind))
    _raise_if(folder, list(_tensor_problems(folder, manifest)))
    return manifest


def _config_name(kind: object) -> str:
    return "adapter_config.json" if kind == "lora" else "config.json"


def _digests(folder: Path) -> dict[str, str]:
    return {name: digest_file(path) for name, path in files_of(folder) if name != NAME}


def _template_digest(folder: Path) -> str | None:
    template = read_template(folder)
    return None if template is None else digest_bytes(template[0].encode())


def _sync(folder: Path) -> None:
    """Make every file survive a power cut, and their names."""
    folders = {folder}
    for _, path in files_of(folder):
        folders.add(path.parent)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for one in folders:
        sync_folder(one)


def _file_problems(folder: Path, manifest: PolicyManifest) -> Iterator[str]:
    found = _digests(folder)
    for name in sorted(manifest.files.keys() | found.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in manifest.files:
            yield f"{name} is not in the manifest"
        elif found[name] != manifest.files[name]:
            yield f"{name} changed"


def _tensor_problems(folder: Path, manifest: PolicyManifest) -> Iterator[str]:
    try:
        found = tensors_of(folder)
    except PolicyError as exc:
        yield exc.message
        return
    for name in sorted(manifest.tensors.keys() | found.keys()):
        if name not in found:
            yield f"tensor {name} is missing"
        elif name not in manifest.tensors:
            yield f"tensor {name} is not in the manifest"
        elif found[name] != manifest.tensors[name]:
            yield f"tensor {name} is {found[name]}, not {manifest.tensors[name]}"


def _raise_if(folder: Path, problems: list[str]) -> None:
    if problems:
        more = len(problems) - _SHOWN
        raise PolicyError(
            f"{folder}: not what was sealed: {'; '.join(problems[:_SHOWN])}"
            f"{f'; and {more} more' if more > 0 else ''}"
        )


def _complaint(exc: ValidationError) -> str:
    first, *rest = exc.errors(include_url=False, include_input=False)
    place = ".".join(map(str, first["loc"]))[:100]
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{place + ': ' if place else ''}{first['msg']}{more}"
