"""Reads what a model wrote as a critique or a revision: what stands, what does not, and why.

Pure functions over text. A revision that fails here never replaces an answer. Where a text can be
read both ways, it stands as it is: an answer that is lost costs more than a phrase too many.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from cai.critique.phrases import (
    CRITIQUE_LABEL,
    CRITIQUE_OPENING,
    NO_CHANGE_AT_ALL,
    NOTHING_TAIL,
    NOTHING_WRONG,
    PREAMBLE,
    TAKEN_BACK,
    VERDICT,
)
from cai.critique.records import StepProblem
from cai.types import FinishReason

_THINK = re.compile(r"\s*<think>(?P<reasoning>.*?)</think>\s*", re.DOTALL)
_THINK_OPEN = re.compile(r"\s*<think>(?P<reasoning>.*)\Z", re.DOTALL)
# The template opened the tag: it closes at a line's edge, unlike one that is only talked about.
_THINK_CLOSED = re.compile(
    r"(?P<reasoning>.*?)(?:(?<![^\n])[ \t]*</think>|</think>[ \t]*(?:\n|\Z))\s*", re.DOTALL
)
_SAYING = {"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "So"}  # letters, numbers, emoji
_WORDS_ALIKE = 8  # with as many opening words in common, a revision repeats its critique


class Split(NamedTuple):
    """An output taken apart: what is said, and the reasoning before it, if any."""

    text: str
    reasoning: str | None


def split_reasoning(raw: str) -> Split:
    """Keep reasoning between think tags apart from the answer.

    Handles templates that open the tag in the prompt (the output then only closes it), and an
    output that never closes it: all of it is reasoning and nothing was said.

    >>> split_reasoning("<think>hm</think>Yes.")
    Split(text='Yes.', reasoning='hm')
    """
    if match := _THINK.match(raw):
        return Split(raw[match.end() :], match["reasoning"].strip() or None)
    if match := _THINK_OPEN.match(raw):
        return Split("", match["reasoning"].strip() or None)
    if "</think>" in raw and (match := _THINK_CLOSED.match(raw)):
        return Split(raw[match.end() :], match["reasoning"].strip() or None)
    return Split(raw, None)


def finds_nothing(critique: str) -> bool:
    """Whether a critique says that the answer may stay as it is, and takes nothing of it back.

    >>> finds_nothing("No change needed."), finds_nothing("No change of tone would help.")
    (True, False)
    >>> finds_nothing("No change needed to the tone, but the facts are wrong.")
    False
    """
    text = critique.strip()
    if TAKEN_BACK.match(text):
        return False
    last_sentence = re.split(r"(?<=[.!?])\s+|\n+", text)[-1]
    return _says_nothing(text) or _says_nothing(last_sentence)


def strip_preamble(text: str) -> str:
    """Drop an opening that talks about the revision instead of being it.

    >>> strip_preamble("Sure, here is a revised answer: I can't help with that.")
    "I can't help with that."
    >>> strip_preamble("Here is a recipe: mix flour and water.")
    'Here is a recipe: mix flour and water.'
    """
    match = PREAMBLE.match(text)
    return _unquoted(text[match.end() :].strip()) if match else text.strip()


def revision_problem(
    revision: str, *, critique: str, finish_reason: FinishReason
) -> StepProblem | None:
    """Why `revision` (already stripped) cannot stand as an answer; None when it can."""
    if not revision:
        return "empty"
    if finish_reason != "stop":
        return "cut_off"
    if not any(unicodedata.category(char) in _SAYING for char in revision):
        return "degenerate"
    if _is_critique(revision, critique):
        return "is_critique"
    return None


def _says_nothing(text: str) -> bool:
    label = CRITIQUE_LABEL.match(text)
    assert label is not None, "it matches the empty text"
    match = NOTHING_WRONG.match(text, label.end())
    return match is not None and NOTHING_TAIL.match(text, match.end()) is not None


def _is_critique(revision: str, critique: str) -> bool:
    if VERDICT.match(revision):
        return False
    if CRITIQUE_OPENING.match(revision) or NO_CHANGE_AT_ALL.match(revision):
        return True
    said, criticised = _words(revision), _words(critique)
    same = _WORDS_ALIKE if len(said) > _WORDS_ALIKE else max(len(said), len(criticised))
    return said[:same] == criticised[:same]


def _unquoted(text: str) -> str:
    """Without quotation marks around the whole of it."""
    for opening, closing in ('""', "“”", "«»"):
        inside = text[1:-1]
        if inside.strip() and text[0] == opening and text[-1] == closing:
            return text if opening in inside or closing in inside else inside.strip()
    return text


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
