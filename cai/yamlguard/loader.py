"""From a file, bytes or text to `Loaded`: the size limit, the error to raise, and the positions.

Knows nothing of what a file means. Start from `load_yaml` or `load_yaml_file`.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cai.errors import CaiError, ConfigError, ConstitutionError
from cai.yamlguard.events import KeyPath, Position, build
from cai.yamlguard.text import Refusal, check_characters, decode

MAX_BYTES = 256_000


class ErrorFactory(Protocol):
    """Makes the error that fits the kind of file: ConstitutionError itself, or `config_error`."""

    def __call__(
        self, message: str, *, path: Path | str | None, line: int | None, column: int | None
    ) -> CaiError:
        """An error whose text begins with the place."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """Plain data (dict, list, str, int, float, bool, None) and where each part of it stands.

    `keys` and `values` are indexed by the path of keys and list indices that leads to an entry.
    """

    data: Any
    text: str
    path: Path | None
    keys: Mapping[KeyPath, Position]
    values: Mapping[KeyPath, Position]
    error: ErrorFactory

    def position(self, at: KeyPath = (), *, key: bool = False) -> Position:
        """Where the value at `at` begins (or its key); for what is absent, its nearest parent."""
        if key and at in self.keys:
            return self.keys[at]
        while at and at not in self.values:
            at = at[:-1]
        return self.values.get(at, Position(1, 1))

    def fail(self, message: str, at: KeyPath = (), *, key: bool = False) -> CaiError:
        """The error to raise about the entry at `at`."""
        line, column = self.position(at, key=key)
        return self.error(message, path=self.path, line=line, column=column)


def config_error(
    message: str, *, path: Path | str | None, line: int | None, column: int | None
) -> ConfigError:
    """A ConfigError that begins with the place: for settings and other files of options."""
    where = ":".join(str(part) for part in (path, line, column) if part is not None)
    return ConfigError(f"{where}: {message}" if where else message)


def load_yaml_file(path: Path | str, *, error: ErrorFactory = ConstitutionError) -> Loaded:
    """Like `load_yaml`, from a file; one that is too large is refused before it is read."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise error("not a regular file; name a YAML file", path=path, line=None, column=None)
        _check_size(status.st_size, path, error)
        with path.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
        reason = getattr(exc, "strerror", None) or str(exc)
        message = f"cannot be read: {reason}; check the path and its permissions"
        raise error(message, path=path, line=None, column=None) from exc
    return load_yaml(source, path=path, error=error)


def load_yaml(
    source: bytes | str,
    *,
    path: Path | str | None = None,
    error: ErrorFactory = ConstitutionError,
) -> Loaded:
    """Data and positions of one YAML document; an empty one gives None as its data.

    Raises what `error` makes, with path, line and column, for anything outside the guarded subset.
    """
    _check_size(len(source), path, error)
    try:
        text = decode(source)
        check_characters(text)
        built = build(text)
    except Refusal as exc:
        raise error(exc.message, path=path, line=exc.line, column=exc.column) from None
    where = Path(path) if path is not None else None
    return Loaded(built.data, text, where, built.keys, built.values, error)


def _check_size(size_bytes: int, path: Path | str | None, error: ErrorFactory) -> None:
    if size_bytes > MAX_BYTES:
        message = (
            f"the file has {size_bytes / 1000:,.0f} kB and at most {MAX_BYTES // 1000} kB are "
            "read; split it or shorten it"
        )
        raise error(message, path=path, line=1, column=1)
