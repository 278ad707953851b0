"""Records of a foreign file, one at a time: JSON lines, one JSON value, or Parquet, gzip or not.

A line that is no record is handed on as `Skipped`. Start from `iter_records(path)`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cai.dataset.lines import BadLine, iter_lines
from cai.errors import DataError

MAX_JSON_BYTES = 1 << 30
ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


class Record(NamedTuple):
    """One value and its place: the line, or the number in a list or table, counted from 1."""

    line: int
    value: Any


class Skipped(NamedTuple):
    """A record that cannot be used: its place, a reason in kebab-case, and a sentence."""

    line: int
    reason: str
    detail: str


def iter_records(path: Path) -> Iterator[Record | Skipped]:
    """All records of the file in order. Raises InputError where the file as a whole is unusable."""
    if not path.name.endswith(ENDINGS):
        raise DataError(f"{path}: not a file of records; they end in {', '.join(ENDINGS)}")
    if path.name.endswith(".parquet"):
        from cai.dataset.parquet import read_parquet

        return (Record(number, row) for number, row in enumerate(read_parquet(path), start=1))
    if path.name.endswith((".json", ".json.gz")):
        return _json_records(path)
    return _jsonl_records(path)


def first_record(path: Path) -> Any:
    """The first usable value of a file; None when there is none."""
    for record in iter_records(path):
        if isinstance(record, Record):
            return record.value
    return None


def _jsonl_records(path: Path) -> Iterator[Record | Skipped]:
    for line in iter_lines(path):
        if isinstance(line, BadLine):
            yield Skipped(line.number, line.reason, line.detail)
            continue
        try:
            yield Record(line.number, json.loads(line.data.decode()))
        except UnicodeDecodeError as exc:
            detail = f"byte {exc.start + 1} of the line: {exc.reason}"
            yield Skipped(line.number, "invalid-utf8", detail)
        except json.JSONDecodeError as exc:
            yield Skipped(line.number, "invalid-json", f"column {exc.colno}: {exc.msg}")
        except (ValueError, RecursionError) as exc:
            yield Skipped(line.number, "invalid-json", type(exc).__name__)


def _json_records(path: Path) -> Iterator[Record | Skipped]:
    """A list's items, one object, or, as some tools write it, JSON lines under another name."""
    try:
        value = json.loads(_read_all(path).decode())
    except json.JSONDecodeError as exc:
        if exc.msg != "Extra data":
            raise DataError(f"{path}:{exc.lineno}: not valid JSON: {exc.msg}") from None
        yield from _jsonl_records(path)
        return
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{path}: not valid JSON: {exc}") from None
    if isinstance(value, list):
        for number, item in enumerate(value, start=1):
            yield Record(number, item)
    else:
        yield Record(1, value)


def _read_all(path: Path) -> bytes:
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, EOFError, zlib.error) as exc:
        raise DataError(f"{path}: cannot be read: {exc}") from None
    if len(data) > MAX_JSON_BYTES:
        raise DataError(
            f"{path}: over {MAX_JSON_BYTES:,} bytes in one JSON value; write it as .jsonl"
        )
    return bytes(data)
