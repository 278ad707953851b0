"""Results of evaluations, kept under `HOME/evals/<id>/`: `result.json`, and lines beside it.

Knows nothing of what was measured: `figures` are the kind's own. `result.json` is written last, so
a folder without it is one that was stopped. Start from `save`, `load`, `list_results`.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cai.errors import ConfigError, ConflictError, DataError, NotFoundError
from cai.files import (
    canonical_json,
    digest_file,
    read_json,
    read_jsonl,
    replace_bytes,
    replace_text,
)
from cai.registry import did_you_mean

FOLDER: Final = "evals"
FILE_NAME: Final = "result.json"
EvalKind = Literal["policy", "judge", "arena", "bench", "ab"]
Use = Literal["gates", "training"]

_ID = r"[a-z0-9][a-z0-9._-]{0,63}"
_FILE = r"[a-z0-9][a-z0-9._-]{0,63}\.jsonl"

logger = logging.getLogger(__name__)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PolicyRef(_Record):
    """A policy that was measured."""

    ref: str
    """`live`, a registered name, or an engine's address."""
    digest: str | None = None
    """Of its weights, where the engine can read them."""
    model: str
    """What the engine calls itself."""


class JudgeRef(_Record):
    """Who judged, and by what."""

    address: str
    model: str
    digest: str | None = None
    constitution: str | None = None
    """Reference, as harmless@2; absent where the judge went by no constitution."""
    constitution_digest: str | None = None


class SuiteRef(_Record):
    """A suite that was asked, and what else it is used for."""

    name: str
    digest: str
    split: str
    used_for: tuple[Use, ...] = ()
    """Where it is not empty, the figures were tuned on and do not count as held out."""


class EvalResult(_Record):
    """One evaluation's result. A rate in `figures` is `{"rate", "n", "ci": [low, high]}`."""

    format: Literal[1] = 1
    id: str = Field(pattern=rf"^{_ID}$")
    kind: EvalKind
    created_at: str
    """ISO 8601 in UTC."""
    policies: tuple[PolicyRef, ...] = ()
    judge: JudgeRef | None = None
    suites: tuple[SuiteRef, ...] = ()
    seed: int = 0
    settings: dict[str, Any] = {}
    """Everything else that decided the figures."""
    figures: dict[str, Any] = {}
    """The kind's own, as plain JSON; what was not measured is absent."""
    files: dict[str, str] = {}
    """Digest of each file beside it; `save` writes this."""

    @field_validator("settings", "figures")
    @classmethod
    def _check_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            canonical_json(value)
        except (TypeError, ValueError) as exc:
            raise ValueError(f"holds what JSON cannot: {exc}") from exc
        return value


def new_id(kind: EvalKind, *, at: datetime | None = None) -> str:
    """`<kind>-<UTC yyyymmdd-hhmmss>-<4 hex>`."""
    return f"{kind}-{(at or datetime.now(UTC)):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def now() -> str:
    """The time for `created_at`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_id(home: Path, id: str) -> str:
    """`id` when a result may be kept under it. Raises ConfigError, ConflictError for a taken one.

    To be called before a long run, whose result could not be kept otherwise.
    """
    if not re.fullmatch(_ID, id):
        raise ConfigError(
            f"{id[:100]!r} is no id of a result: small letters, digits, '.', '_' and '-', at most "
            "64, and no path",
            param="out",
        )
    if (home / FOLDER / id / FILE_NAME).exists():
        raise ConflictError(
            f"the result '{id}' is there already, in {home / FOLDER / id}; choose another name",
            param="out",
        )
    return id


def save(
    home: Path, result: EvalResult, files: Mapping[str, Iterable[Mapping[str, Any]]] | None = None
) -> Path:
    """Keep a result with its files of lines (`answers.jsonl`); returns its folder.

    `result.json` is written last, with the files' digests. Raises ConflictError for a taken id.
    """
    folder, digests = save_lines(home, result.id, files or {})
    kept = result.model_copy(update={"files": {**result.files, **digests}})
    text = json.dumps(kept.model_dump(mode="json"), indent=2, allow_nan=False)
    replace_text(folder / FILE_NAME, text + "\n")
    return folder


def save_lines(
    home: Path, id: str, files: Mapping[str, Iterable[Mapping[str, Any]]]
) -> tuple[Path, dict[str, str]]:
    """Keep files of lines whose result is still to be made; returns their folder and digests.

    For what was paid for and may yet be refused. Raises ConflictError for a taken id.
    """
    folder = home / FOLDER / check_id(home, id)
    for name in files:
        if not re.fullmatch(_FILE, name):
            raise ConfigError(f"{name[:100]!r} is no name of a file of lines; end it in .jsonl")
    folder.mkdir(parents=True, exist_ok=True)
    return folder, {name: _write_lines(folder / name, lines) for name, lines in files.items()}


def load(path_or_id: Path | str, home: Path) -> EvalResult:
    """A kept result, by its id or by the path of its folder or file.

    Raises NotFoundError, with the closest id, and DataError for a file that is no result.
    """
    path = folder_of(path_or_id, home) / FILE_NAME
    raw = read_json(path)
    try:
        return EvalResult.model_validate_json(json.dumps(raw))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(
            f"{path}: {where}: {first['msg']}; it is no result of an evaluation"
        ) from exc


def folder_of(path_or_id: Path | str, home: Path) -> Path:
    """The folder of a kept result, by its id or a path. Raises NotFoundError."""
    path = Path(path_or_id)
    if isinstance(path_or_id, str) and re.fullmatch(_ID, path_or_id):
        path = home / FOLDER / path_or_id
    if path.name == FILE_NAME:
        path = path.parent
    if not (path / FILE_NAME).is_file():
        known = [one.parent.name for one in (home / FOLDER).glob(f"*/{FILE_NAME}")]
        guess = did_you_mean(str(path_or_id), known) or "; 'cai eval list' shows what there is"
        raise NotFoundError(f"no result '{str(path_or_id)[:200]}'{guess}", param="result")
    return path


def read_lines(folder: Path, result: EvalResult, name: str) -> list[dict[str, Any]]:
    """A file beside the result, checked against its digest; empty where there is none.

    Raises DataError when the file is not the one that was written.
    """
    if name not in result.files:
        return []
    path = folder / name
    if not path.is_file() or digest_file(path) != result.files[name]:
        raise DataError(f"{path}: missing or changed since it was written; run the evaluation anew")
    return list(read_jsonl(path))


def list_results(home: Path) -> list[EvalResult]:
    """Every kept result, the newest first; a broken one is skipped with a warning that names it."""
    found = []
    for path in sorted((home / FOLDER).glob(f"*/{FILE_NAME}")):
        try:
            found.append(load(path, home))
        except DataError as exc:
            logger.warning("skipped: %s", exc.message)
    return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)


def results_of(home: Path, digest: str) -> list[EvalResult]:
    """Every kept result that measured the weights of this digest, the newest first.

    A reward model is measured as a judge.
    """
    return [one for one in list_results(home) if digest in _measured(one)]


def _measured(result: EvalResult) -> list[str | None]:
    if result.kind == "judge":
        return [None if result.judge is None else result.judge.digest]
    return [policy.digest for policy in result.policies]


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> str:
    """Write JSON lines in place of what stood there; returns the digest of the file."""
    texts = (canonical_json(line) + "\n" for line in lines)
    replace_bytes(path, (text.encode("utf-8", "surrogatepass") for text in texts))
    return digest_file(path)
