"""Reads what a model wrote as a critique or a revision: what stands, what does not, and why.

Pure functions over text. A revision that fails here never replaces an answer.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cai.critique.records import StepProblem
from cai.types import FinishReason

_THINK = re.compile(r"^\s*(?:<think>)?(?P<reasoning>.*?)</think>\s*", re.DOTALL)
_THINK_OPEN = re.compile(r"^\s*<think>(?P<reasoning>.*)\Z", re.DOTALL)

_NOTHING = re.compile(
    r"^\W*(?:critique\W+)?(?:"
    r"no (?:further |other )?(?:changes?|revisions?|edits?|critique|issues?|problems?)"
    r"(?: (?:is|are|was|were))?(?: (?:needed|necessary|required|found|warranted))"
    r"|(?:nothing|there is nothing) (?:needs to|has to|to) (?:be )?(?:change|changed|critique|fix)"
    r"|the (?:reply|answer|response) (?:needs|requires) no (?:change|changes|revision)"
    r")",
    re.IGNORECASE,
)

_PREAMBLE = re.compile(
    r"^\s*(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[^\n:]{0,40}?[,.!:]?\s*)?"
    r"(?:here(?: is|'s|’s)|below is|this is)\s[^\n:]{0,60}?"
    r"\b(?:answer|reply|response|version|revision|rewrite)\b[^\n:]{0,40}:\s*"
    r"|^\s*(?:sure|certainly|of course)\W+(?=\n)"
    r"|^\s*(?:revised|rewritten|new|improved|updated|final)?\s*"
    r"(?:answer|reply|response|version|revision)\s*:\s*",
    re.IGNORECASE,
)

_CRITIQUE_OPENING = re.compile(
    r"^\W*(?:critique\b|the critique\b|no changes? (?:is |are )?needed\b"
    r"|(?:the assistant'?s|the assistant’s|my|your) (?:last|previous|first|earlier) "
    r"(?:reply|response|answer)\b"
    r"|the (?:last|previous|above|assistant'?s) (?:reply|response|answer)\b)",
    re.IGNORECASE,
)


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
    if "</think>" in raw and (match := _THINK.match(raw)):
        return Split(raw[match.end() :], match["reasoning"].strip() or None)
    if match := _THINK_OPEN.match(raw):
        return Split("", match["reasoning"].strip() or None)
    return Split(raw, None)


def finds_nothing(critique: str) -> bool:
    """Whether a critique says that the answer may stay as it is.

    >>> finds_nothing("No change needed."), finds_nothing("No change of tone would help.")
    (True, False)
    """
    return bool(_NOTHING.match(critique))


def strip_preamble(text: str) -> str:
    """Drop an opening that talks about the revision instead of being it.

    >>> strip_preamble("Sure, here is a revised answer: I can't help with that.")
    "I can't help with that."
    """
    return _PREAMBLE.sub("", text, count=1).strip()


def revision_problem(
    revision: str, *, critique: str, finish_reason: FinishReason
) -> StepProblem | None:
    """Why `revision` (already stripped) cannot stand as an answer; None when it can."""
    if not revision:
        return "empty"
    if finish_reason != "stop":
        return "cut_off"
    if not any(char.isalnum() for char in revision):
        return "degenerate"
    if _CRITIQUE_OPENING.match(revision) or _fold(revision) == _fold(critique):
        return "is_critique"
    return None


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
