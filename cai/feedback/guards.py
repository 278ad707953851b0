"""Filters before the judge: answers that no verdict can be had on, and answers that talk to it.

One token such as ":" wins 80–90 % of comparisons with some judges (arXiv 2507.08794), so empty and
degenerate answers never reach one. Start from `check_pair`; `talks_to_judge` only looks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from cai.errors import JudgeError
from cai.types import Conversation

Problem = Literal["empty", "degenerate", "over-long"]


class GuardConfig(BaseModel):
    """What is refused before the judge is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_answer_chars: int = Field(default=32_000, ge=1)
    """Characters an answer may have; a longer one is refused as `over-long`."""

    talks_to_judge: Literal["allow", "report", "refuse"] = "report"
    """What becomes of an answer that addresses the judge: `report` marks the label with it,
    `refuse` gives no label. The fence around the answers holds in every case."""


class Finding(NamedTuple):
    """Why an answer cannot be judged."""

    reason: Problem
    detail: str


def check_pair(conversation: Conversation, a: str, b: str, config: GuardConfig) -> tuple[str, ...]:
    """Which of `a` and `b` talk to the judge: a tuple of "a" and "b", empty when neither does.

    Raises JudgeError when one of them cannot be judged, or when they are the same.
    """
    for name, text in (("first", a), ("second", b)):
        if finding := find_problem(text, config):
            raise JudgeError(f"the {name} answer is {finding.detail}", reason=finding.reason)
    if a == b or a.split() == b.split():
        raise JudgeError("the answers are identical", reason="identical")
    if config.talks_to_judge == "allow":
        return ()
    talking = tuple(
        side for side, text in (("a", a), ("b", b)) if talks_to_judge(text, conversation)
    )
    if talking and config.talks_to_judge == "refuse":
        raise JudgeError(
            f"an answer talks to the judge ({', '.join(talking)})", reason="talks-to-judge"
        )
    return talking


def find_problem(text: str, config: GuardConfig) -> Finding | None:
    """Why `text` cannot be judged as an answer; None when it can.

    >>> find_problem(" : ", GuardConfig())
    Finding(reason='degenerate', detail='degenerate: it has no letter or digit')
    """
    if not text or text.isspace():
        return Finding("empty", "empty")
    if len(text) > config.max_answer_chars:
        limit = config.max_answer_chars
        return Finding("over-long", f"over-long: {len(text)} characters, the limit is {limit}")
    if detail := _degeneracy(text):
        return Finding("degenerate", f"degenerate: {detail}")
    return None


def talks_to_judge(text: str, conversation: Conversation = ()) -> str | None:
    """The piece of `text` that addresses a judge rather than the user; None without one.

    A piece that the conversation has too was brought up by the user and does not count.
    It is a heuristic for reports and for a strict setting, not a defence: see the fence.
    """
    if not _may_talk(text):
        return None
    for match in _TO_JUDGE.finditer(text):
        piece = match.group().strip()
        if not any(piece in message.content for message in conversation):
            return piece
    return None


_TO_JUDGE = re.compile(
    "|".join(
        [
            r"\b(?i:reply|answer|response|option|assistant|completion) \(?[AB]\)? "
            r"(?i:is|was|gives|wins|must|should|clearly|follows|deserves)\b",
            r"\b(?i:choose|pick|select|prefer|output|vote for|(?:answer|respond|reply) with) "
            r"(?i:(?:the )?(?:letter|reply|answer|response|option) )?[\"'(]?[AB]\b(?! [a-z])",
            r"(?i:\b(?:ignore|disregard|forget) (?:(?:all|any|the|your|of|previous|prior|above|"
            r"earlier|other) ){1,4}(?:instructions?|principles?|rules?|questions?|repl(?:y|ies)|"
            r"answers?|responses?|text)\b)",
            r"(?i:\b(?:verdict|winner|final (?:decision|judge?ment|verdict)|"
            r"(?:better|preferred|chosen|best) (?:reply|answer|response))\s*[:=])",
            r"(?i:\b(?:judges?|evaluators?|graders?|raters?|annotators?)\s*[:,])",
            r"(?im:^\s*#?[\w#*-]{0,12}\s*reply [ab]\s*:?\s*$)",
            r"(?m:^#[0-9a-f]{8}\b)",
            r"<\|[a-z_]{1,32}\|>|\[/?INST\]|<(?:start|end)_of_turn>|</s>",
            r"\n\n(?:Human|Assistant): ",
        ]
    )
)

_LETTER = re.compile(r"\b[AB]\b")
_TRIGGERS = (
    *("ignore", "disregard", "forget", "verdict", "winner", "decision", "judg", "evaluator"),
    *("grader", "rater", "annotator", "better ", "preferred ", "chosen ", "best ", "reply a"),
    *("reply b", "#", "<|", "inst]", "_of_turn>", "</s>", "\n\nhuman: ", "\n\nassistant: "),
)


def _may_talk(text: str) -> bool:
    """A cheap look that every match of `_TO_JUDGE` passes: most answers need no more."""
    lowered = text.lower()
    for word in _TRIGGERS:  # a loop: this is asked of every answer, and a generator costs twice it
        if word in lowered:
            return True
    return _LETTER.search(text) is not None


_OPENER = re.compile(
    r"\W*(?:thought process|solution|answer|final answer|response|explanation|reasoning|"
    r"let['’]?s (?:solve|think|work|go)\b[^.:\n]{0,40}?(?:step by step|through)?)\W*",
    re.IGNORECASE,
)
_MAX_OPENER_CHARS = 80
_MIN_REPEATS = 4
_MIN_LOOP_SHARE = 0.5
_MAX_PERIOD = 48


def _degeneracy(text: str) -> str | None:
    if not any(char.isalnum() for char in text):
        return "it has no letter or digit"
    text = text.strip()
    if len(text) <= _MAX_OPENER_CHARS and (text.endswith(":") or _OPENER.fullmatch(text)):
        return "it opens an answer and gives none"
    words = text.split()
    if len(words) >= _MIN_REPEATS and _is_loop(words):
        return "it repeats the same words"
    unbroken = words[-1]  # a loop without blanks stands in one word
    if len(unbroken) >= max(3 * _MIN_REPEATS, len(text) // 2) and _is_loop(unbroken):
        return "it repeats the same characters"
    return None


def _is_loop(items: Sequence[str]) -> bool:
    """Whether at least half of `items`, up to the end, is one block over and over.

    A text that does not loop is left after about one comparison per period.
    """
    size = len(items)
    for period in range(1, min(_MAX_PERIOD, size // _MIN_REPEATS) + 1):
        position = size - 1
        while position >= period and items[position] == items[position - period]:
            position -= 1
        looped = size - 1 - position + period
        if looped >= _MIN_REPEATS * period and looped >= _MIN_LOOP_SHARE * size:
            return True
    return False
