"""Bytes to text that is safe to parse: UTF-8, printable, indented with spaces.

Start from `decode`, then `check_characters`. Both raise `Refusal`, which carries the place.
"""

from __future__ import annotations

import codecs
import re

_BREAK = re.compile(r"\r\n|\r|\n")
_TAB_INDENT = re.compile(r"^\t[^\r\n]*\S", re.MULTILINE)
# What YAML 1.2 calls printable, without the line breaks that only YAML 1.1 knows.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Refusal(Exception):
    """Why a text is not taken, and where. `cai.yamlguard.loader` turns it into a CaiError."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.line = line
        self.column = column


def one_line(message: str) -> str:
    """A message that quotes a text of several lines, as one line."""
    return re.sub(r"\s*[\r\n]+\s*", " ", message)


def decode(source: bytes | str) -> str:
    """Text of UTF-8 bytes without a byte order mark; a str passes as it is."""
    if isinstance(source, str):
        return source
    if source.startswith(codecs.BOM_UTF8):
        raise Refusal("begins with a byte order mark; save it as UTF-8 without BOM", 1, 1)
    if source.startswith(_UTF16_MARKS):
        raise Refusal("is UTF-16; save it as UTF-8", 1, 1)
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError as exc:
        good = source[: exc.start].decode("utf-8")
        message = f"byte 0x{source[exc.start]:02x} is not UTF-8; save the file as UTF-8"
        raise Refusal(message, *place(good, len(good))) from None


def check_characters(text: str) -> None:
    """Refuse control characters, line breaks of other kinds, and indentation with tabs."""
    if found := _UNPRINTABLE.search(text):
        raise Refusal(
            f"has the character U+{ord(found.group()):04X}, which is not printable; delete it",
            *place(text, found.start()),
        )
    if found := _TAB_INDENT.search(text):
        raise Refusal("is indented with a tab; indent with spaces", *place(text, found.start()))


def unprintable(value: str) -> str | None:
    """The first character that no text of ours may hold (an escape can make one), or None."""
    found = _UNPRINTABLE.search(value)
    return found.group() if found else None


def place(text: str, index: int) -> tuple[int, int]:
    """Line and column, from 1, of a character of `text`."""
    breaks = list(_BREAK.finditer(text, 0, index))
    start = breaks[-1].end() if breaks else 0
    return len(breaks) + 1, index - start + 1
