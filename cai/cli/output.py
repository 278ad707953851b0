"""What the CLI prints: answers to stdout, everything else to stderr, control characters to neither.

Start from `print_table`, `print_json`, `say` and `progress`. NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

LINE_EVERY_S = 10.0
"""Seconds between the lines that stand for a progress bar where stderr is no terminal."""

_WIDTH_OF_PIPES = 200
# C0 but tab and newline, DEL, C1, marks that reorder text on the screen, lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Bar(Protocol):
    """Counts work done on a bar or in lines."""

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """`count` more are done; `note` is shown beside them, such as a rate."""
        ...


def clean(text: str) -> str:
    """`text` without what could move the cursor, recolour or reorder a terminal's output."""
    return _UNSAFE.sub("", text.replace("\r\n", "\n"))


def print_text(text: str) -> None:
    """One line or block of the answer, on stdout."""
    print(clean(text))


def print_json(value: Any) -> None:
    """The answer for machines, on stdout; unsafe characters inside strings are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    print(_UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The answer as a table, on stdout; None is an empty cell."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else clean(str(cell))) for cell in row))
    width = None if sys.stdout.isatty() else _WIDTH_OF_PIPES
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def say(message: str) -> None:
    """A remark to the person at the terminal, on stderr."""
    print(clean(message), file=sys.stderr, flush=True)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Bar]:
    """Progress on stderr: a bar on a terminal, else a line now and then and one at the end."""
    if sys.stderr.isatty():
        with _rich_bar(what, total) as bar:
            yield bar
    else:
        lines = _Lines(what, total)
        yield lines
        lines.finish()


class _Lines:
    """Progress as lines of text, at most one every `LINE_EVERY_S`."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = "" if total is None else f"/{total:,}"
        self._done = 0
        self._note = ""
        self._said_at = time.monotonic()
        self._said = -1

    def advance(self, count: int = 1, *, note: str = "") -> None:
        self._done += count
        self._note = note or self._note
        if time.monotonic() - self._said_at >= LINE_EVERY_S:
            self._say()

    def finish(self) -> None:
        if self._done != self._said:
            self._say()

    def _say(self) -> None:
        self._said_at = time.monotonic()
        self._said = self._done
        note = f"  {self._note}" if self._note else ""
        say(f"{self._what} {self._done:,}{self._total}{note}")


@contextmanager
def _rich_bar(what: str, total: int | None) -> Iterator[Bar]:
    # Here, so that a command without progress does not pay for the import.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as shown:
        task = shown.add_task(clean(what), total=total, note="")

        class _Bar:
            def advance(self, count: int = 1, *, note: str = "") -> None:
                shown.advance(task, count)
                if note:
                    shown.update(task, note=clean(note))

        yield _Bar()
