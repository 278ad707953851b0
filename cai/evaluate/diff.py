"""What changed between two texts, word by word. Start from `word_diff`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_LEAST_SAME = 4  # letters in common that are worth an interruption of a change
_MAX_WORDS = 4000  # beyond this a diff takes seconds and nobody reads it


class Piece(NamedTuple):
    """A stretch of text that both have, that only the old, or that only the new text has."""

    kind: Literal["same", "gone", "new"]
    text: str


def word_diff(old: str, new: str) -> list[Piece]:
    """Pieces in reading order; what is gone stands before what replaced it.

    >>> [f"{kind} {text!r}" for kind, text in word_diff("a red hat", "a blue hat")]
    ["same 'a '", "gone 'red'", "new 'blue'", "same ' hat'"]
    """
    before, after = _WORD.findall(old), _WORD.findall(new)
    if len(before) + len(after) > _MAX_WORDS:
        return [piece for piece in (Piece("gone", old), Piece("new", new)) if piece.text]
    return list(_pieces(_fold(list(_runs(before, after)))))


class _Run(NamedTuple):
    """A stretch that is the same in both, or was replaced as a whole."""

    old: str
    new: str


def _runs(before: list[str], after: list[str]) -> Iterator[_Run]:
    matcher = SequenceMatcher(lambda word: word.isspace(), before, after, autojunk=False)
    for _, start, end, new_start, new_end in matcher.get_opcodes():
        yield _Run("".join(before[start:end]), "".join(after[new_start:new_end]))


def _fold(runs: list[_Run]) -> list[_Run]:
    """Let changes with next to nothing between them be one change: it reads better."""
    folded: list[_Run] = []
    for index, run in enumerate(runs):
        is_inside = 0 < index < len(runs) - 1
        is_slight = run.old == run.new and sum(map(str.isalnum, run.old)) < _LEAST_SAME
        joins = folded and folded[-1].old != folded[-1].new
        if joins and ((is_inside and is_slight) or run.old != run.new):
            folded[-1] = _Run(folded[-1].old + run.old, folded[-1].new + run.new)
        else:
            folded.append(run)
    return folded


def _pieces(runs: list[_Run]) -> Iterator[Piece]:
    for old, new in runs:
        if old == new:
            yield Piece("same", old)
            continue
        if old:
            yield Piece("gone", old)
        if new:
            yield Piece("new", new)
