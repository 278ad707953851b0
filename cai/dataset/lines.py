"""Lines of a text file or a gzip, one at a time, none longer than a limit.

A line too long is passed over without being held in memory; a gzip that breaks off ends with a
`BadLine` after the last whole line. Start from `iter_lines(path)`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from cai.errors import PromptError

MAX_LINE_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line's number, counted from 1, and its bytes without the line end."""

    number: int
    data: bytes


class BadLine(NamedTuple):
    """A line that cannot be read: where, a reason in kebab-case, and a sentence."""

    number: int
    reason: str
    detail: str


def iter_lines(path: Path) -> Iterator[Line | BadLine]:
    """All lines of the file but the blank ones. Raises PromptError where it cannot be opened."""
    with _open(path) as file:
        number = 0
        try:
            for line in _bounded_lines(file):
                number = line.number
                if isinstance(line, BadLine) or line.data.strip():
                    yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            if number == 0:
                raise PromptError(f"{path}: not a readable gzip file: {exc}") from None
            yield BadLine(
                number + 1, "broken-gzip", f"the file breaks off after line {number}: {exc}"
            )
        except OSError as exc:
            raise PromptError(f"{path}: cannot be read: {exc.strerror or exc}") from None


def _open(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise PromptError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise PromptError(f"{path}: is a folder; name a .jsonl, .jsonl.gz or .txt file") from None
    except OSError as exc:
        raise PromptError(f"{path}: cannot be opened: {exc.strerror or exc}") from None
    if path.suffix != ".gz":
        return file
    file.close()
    return cast(BinaryIO, gzip.open(path, "rb"))


def _bounded_lines(file: BinaryIO) -> Iterator[Line | BadLine]:
    number = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            data = data.removeprefix(_BOM)
        if len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
            size = len(data) + _pass_over(file)
            detail = f"{size:,} bytes in one line; the limit is {MAX_LINE_BYTES:,}"
            yield BadLine(number, "row-too-large", detail)
        else:
            yield Line(number, data.rstrip(b"\r\n"))


def _pass_over(file: BinaryIO) -> int:
    size = 0
    while data := file.readline(MAX_LINE_BYTES):
        size += len(data.rstrip(b"\r\n"))
        if data.endswith(b"\n"):
            break
    return size
