"""Every error the library raises on purpose, as one small tree.

    CaiError                      base: message, and optionally the parameter that was wrong
    ├── InputError                what the caller gave will not do          (exit 2, HTTP 400)
    │   ├── ConfigError           a setting, flag or engine argument
    │   ├── ConstitutionError     a constitution file; knows file, line and column
    │   │   └── TamperedReleaseError  a released file no longer has its recorded digest
    │   ├── PromptError           a prompt or a prompt file
    │   ├── ContextLengthError    more tokens than the model's context holds
    │   ├── UnsupportedError      a real feature that this engine or call does not offer
    │   ├── DataError             a dataset, a run directory, a row
    │   └── PolicyError           a policy folder, or weights that do not fit the engine
    ├── NotFoundError             no such constitution, policy, run …       (exit 2, HTTP 404)
    ├── ConflictError             the state does not allow it now           (exit 1, HTTP 409)
    ├── JudgeError                the judge gave no verdict                 (never becomes a label)
    ├── EngineError               the engine could not do its work          (exit 1, HTTP 500)
    │   ├── EngineDeadError       it is gone; another may take its place    (HTTP 503, Retry-After)
    │   ├── OverloadedError       its queue is full                         (HTTP 429, Retry-After)
    │   ├── EngineTimeoutError    a limit in seconds ran out; says which    (HTTP 504)
    │   └── ReloadError           a new policy did not go live; says what answers now
    ├── DatabaseError             it cannot be opened, read or written      (exit 1, HTTP 503)
    └── MissingDependencyError    an optional package is not installed      (exit 1)

The HTTP statuses are assigned in `server/errors.py`, the exit codes in `cai/cli/main.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class CaiError(Exception):
    """Base of all errors raised on purpose. `param` names the offending field where there is one.

    `stage` is set by the loop when the error came up inside a transcript: `draft`, `critique-1`, …
    """

    stage: str | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InputError(CaiError):
    """What the caller gave will not do; the message says what, where and the way out."""


class ConfigError(InputError):
    """A setting, a flag or an engine argument is wrong."""


class ConstitutionError(InputError):
    """A constitution (or any file read by the guarded YAML loader) is wrong.

    `line` and `column` count from 1, as editors do.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        column: int | None = None,
        param: str | None = None,
    ) -> None:
        where = ":".join(str(part) for part in (path, line, column) if part is not None)
        super().__init__(f"{where}: {message}" if where else message, param=param)
        self.reason = message
        self.path = Path(path) if path is not None else None
        self.line = line
        self.column = column


class TamperedReleaseError(ConstitutionError):
    """A released constitution no longer has the digest recorded in `releases.lock`."""


class PromptError(InputError):
    """A prompt, or a file of prompts, cannot be used."""


class ContextLengthError(InputError):
    """The prompt, with the tokens asked for, does not fit the model's context."""


class UnsupportedError(InputError):
    """A real feature that this engine or this call does not offer."""


class DataError(InputError):
    """A dataset, a run directory or a row in it cannot be used."""


class PolicyError(InputError):
    """A policy folder is torn, changed or incomplete, or does not fit where it was to go."""


class NotFoundError(CaiError):
    """There is no such thing; the message names close matches where there are any."""


class ConflictError(CaiError):
    """The present state does not allow the operation."""


class JudgeError(CaiError):
    """The judge gave no verdict. A caller records that; it never becomes a label.

    `reason` is a stable word for reports (`low-mass`, `flip`, `empty` …); `details` is JSON-able:
    what was measured before the verdict was refused.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "no-verdict",
        details: Mapping[str, object] | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.reason = reason
        self.details = dict(details or {})


class EngineError(CaiError):
    """The engine could not do its work."""


class EngineDeadError(EngineError):
    """The engine's process is gone."""


class OverloadedError(EngineError):
    """The queue is full. `retry_after_s` is an estimate in seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineTimeoutError(EngineError):
    """A limit in seconds ran out; the message says which limit."""


class ReloadError(EngineError):
    """A new policy did not go live; the message says why, and what answers now.

    `figures` are those of its probes, JSON-able; empty where none were asked.
    """

    def __init__(self, message: str, *, figures: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.figures = dict(figures or {})


class DatabaseError(CaiError):
    """The database cannot be opened, read or written; the message names it without a password."""


class MissingDependencyError(CaiError):
    """An optional package is missing; the message has the feature and the install line."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package '{package}': pip install 'cai-service[{extra}]'"
        )
