"""A job's log: what its command said on stderr, at most twice `MAX_BYTES`, the newest kept.

    HOME/logs/jobs/ID.log      and ID.log.1 with what came before

Start from `JobLog`, `read_log` and `last_line`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

MAX_BYTES: Final = 5_000_000
"""Size of one of the two files, in bytes."""

_SECRETS = (
    *("OPENAI_API_KEY", "CAI_API_KEY", "REWARD_API_KEY"),
    *("HF_TOKEN", "CAI_DATABASE_URL"),
)
_MIN_SECRET_CHARS = 8
_TAIL_BYTES = 8192


class JobLog:
    """Appends lines; keys that the command was given never reach the file."""

    def __init__(self, path: Path, *, env: Mapping[str, str], max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        given = (env.get(name, "").encode() for name in _SECRETS)
        self._secrets = [secret for secret in given if len(secret) >= _MIN_SECRET_CHARS]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, line: bytes) -> None:
        """One line, with its end."""
        for secret in self._secrets:
            line = line.replace(secret, b"[redacted]")
        if self._file.tell() + len(line) > self._max_bytes:
            self._file.close()
            os.replace(self._path, previous(self._path))
            self._file = self._path.open("ab")
        self._file.write(line)
        self._file.flush()


def log_path(home: Path, id: str) -> Path:
    """Where the log of a job is."""
    return home / "logs" / "jobs" / f"{id}.log"


def previous(path: Path) -> Path:
    """Where the log's earlier part is."""
    return path.with_name(f"{path.name}.1")


def read_log(path: Path) -> Iterator[str]:
    """The lines that are kept, oldest first."""
    for part in (previous(path), path):
        with suppress(FileNotFoundError), part.open("rb") as file:
            for line in file:
                yield line.decode("utf-8", "replace").rstrip("\n")


def last_line(path: Path) -> str:
    """The last line that is not empty; it says why a command failed."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""
