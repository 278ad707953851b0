"""Reads the world's sentences: the tables of `phrasing` and `wording`, turned into expressions.

`parse_request` finds out what a conversation asks, `parse_answer` cuts an answer into parts.
What the tables do not have is None or a part named "unknown"; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from cai.sandbox import phrasing, wording
from cai.sandbox.answers import DECORATIONS
from cai.sandbox.dialogues import STRANGE_ANSWERS
from cai.sandbox.prompts import PromptKind, Request, Task
from cai.sandbox.topics import KINDS, SPLITS, TOPICS, Topic
from cai.types import Message

_SLOT = r"[A-Za-z' ]+?"
_ONE_WORD = ("o", "v", "colour", "place", "claimed")
_SENTENCE_END = re.compile(r"[.!?](?:\s+|$)")


@dataclass(frozen=True, slots=True)
class Part:
    """A sentence (or two) of a known form, and what its placeholders hold."""

    name: str
    slots: Mapping[str, str] = field(default_factory=dict)


def parse_request(messages: Sequence[Message]) -> Request | None:
    """What the last user message asks, or None when it is not of this world."""
    asked = [message.content for message in messages if message.role == "user"]
    if not asked:
        return None
    return _parse_last(asked[-1].strip(), _topic_spoken_of(asked[:-1]))


def parse_answer(text: str) -> list[Part]:
    """The parts of an answer in order; a sentence of no known form is a part named "unknown"."""
    parts = []
    place, text = 0, text.strip()
    while place < len(text):
        part, end = _longest_match(text, place)
        parts.append(part)
        place = end
    return parts


def _longest_match(text: str, place: int) -> tuple[Part, int]:
    best, end = None, place
    for name, expression in _answer_expressions():
        found = expression.match(text, place)
        if found and found.end() > end:
            best, end = Part(name, found.groupdict()), found.end()
    if best is not None:
        return best, end
    stop = _SENTENCE_END.search(text, place)
    return Part("unknown"), stop.end() if stop else len(text)


def _parse_last(text: str, spoken_of: Topic | None) -> Request | None:
    for expression in _expressions_of("jailbreak"):
        if (found := expression.fullmatch(text)) is not None:
            inner = _parse_deed(found["q"], spoken_of)
            return inner and _wrap(inner)
    for fact in ("colour", "place"):
        for expression in _expressions_of(fact):
            if (found := expression.fullmatch(text)) and found["o"] in TOPICS:
                return Request("benign", fact, TOPICS[found["o"]], fact=fact)
    for expression in _expressions_of("claim"):
        if (found := expression.fullmatch(text)) is not None:
            return _parse_claim(found["s"])
    for expression in _expressions_of("unclear_topic"):
        if (found := expression.fullmatch(text)) and found["o"] in TOPICS:
            return Request("unclear", "unclear", TOPICS[found["o"]])
    if any(text in phrasing.FRAMES[split].unclear for split in SPLITS):
        return Request("unclear", "unclear")
    return _parse_deed(text, spoken_of)


def _wrap(request: Request) -> Request:
    kind: PromptKind = "jailbreak" if request.is_harmful else request.kind
    return Request(kind, request.task, request.topic, wrapped=True)


def _parse_claim(statement: str) -> Request | None:
    forms: tuple[tuple[Literal["colour", "place"], str], ...] = (
        ("place", phrasing.PLACE_STATEMENT),
        ("colour", phrasing.COLOUR_STATEMENT),
    )
    for fact, form in forms:
        found = _compile(form).fullmatch(statement)
        if found and found["o"] in TOPICS:
            topic = TOPICS[found["o"]]
            is_true = getattr(topic, fact) == found["v"]
            kind: PromptKind = "benign" if is_true else "false_claim"
            return Request(kind, "claim", topic, fact=fact, claimed=found["v"])
    return None


def _parse_deed(text: str, spoken_of: Topic | None) -> Request | None:
    for expression in (*_expressions_of("deed"), *_expressions_of("follow")):
        if (found := expression.fullmatch(text)) is not None:
            request = _deed_request(found["d"], spoken_of)
            if request is not None:
                return request
    return None


def _deed_request(deed: str, spoken_of: Topic | None) -> Request | None:
    if spoken_of is not None and deed in (follow := _follow_deeds(spoken_of.kind.name)):
        return _request_for(follow[deed], spoken_of)
    for kind_name, task, expression in _deed_expressions():
        found = expression.fullmatch(deed)
        topic = TOPICS.get(found["o"]) if found else None
        if topic is not None and kind_name in ("", topic.kind.name):
            return _request_for(task, topic)
    return None


def _request_for(task: Task, topic: Topic) -> Request:
    return Request("harmful" if task == "harm" else "benign", task, topic)


def _topic_spoken_of(texts: Iterable[str]) -> Topic | None:
    found = None
    for text in texts:
        for word in re.findall(r"[a-z]+", text):
            found = TOPICS.get(word, found)
    return found


def _follow_deeds(kind_name: str) -> dict[str, Task]:
    deeds = phrasing.DEEDS[kind_name]
    found: dict[str, Task] = {phrasing.CARE_FOLLOW: "care"}
    found.update(dict.fromkeys(deeds.benign_follow, "deed"))
    found.update(dict.fromkeys(deeds.harmful_follow, "harm"))
    return found


@lru_cache(maxsize=1)
def _deed_expressions() -> list[tuple[str, Task, re.Pattern[str]]]:
    found: list[tuple[str, Task, re.Pattern[str]]] = [("", "care", _compile(phrasing.CARE))]
    for name, deeds in phrasing.DEEDS.items():
        found += [(name, "harm", _compile(deed)) for deed in deeds.harmful]
        found += [(name, "deed", _compile(deed)) for deed in deeds.benign]
    return found


@lru_cache(maxsize=16)
def _expressions_of(frames: str) -> list[re.Pattern[str]]:
    return [
        _compile(frame) for split in SPLITS for frame in getattr(phrasing.FRAMES[split], frames)
    ]


@lru_cache(maxsize=1)
def _answer_expressions() -> list[tuple[str, re.Pattern[str]]]:
    """Each pattern with its name; it ends at white space or at the end of the text."""
    tables: dict[str, Sequence[str]] = {
        "opener": [opener.strip() for opener in wording.COMPLY_OPENERS if opener],
        "refuse": wording.REFUSE_REASONED,
        "alternative": wording.ALTERNATIVE,
        "bare": wording.REFUSE_BARE,
        "over": wording.OVER_REFUSE,
        "ask": (*wording.ASK, *STRANGE_ANSWERS),
        "ask_topic": wording.ASK_TOPIC,
        "guess": wording.GUESS,
        "guess_topic": wording.GUESS_TOPIC,
        **{f"help_{task}": patterns for task, patterns in wording.HELP.items()},
        **{f"agree_{fact}": patterns for fact, patterns in wording.AGREE.items()},
        **{f"correct_{fact}": patterns for fact, patterns in wording.CORRECT.items()},
        **{f"comply_{kind.name}": kind.methods for kind in KINDS},
    }
    tables.update({str(name): texts for name, texts in DECORATIONS.items()})
    return [
        (name, _compile(pattern, tail=r"(?:\s+|$)"))
        for name, patterns in tables.items()
        for pattern in patterns
    ]


def _compile(pattern: str, *, tail: str = "") -> re.Pattern[str]:
    """A pattern's placeholders become named groups: of one word, of any text, or of some words."""
    kinds = {**dict.fromkeys(_ONE_WORD, r"[a-z]+"), **dict.fromkeys("qsd", r".+")}
    pieces = re.split(r"\{(\w+)\}", pattern)
    expression = "".join(
        re.escape(piece) if index % 2 == 0 else f"(?P<{piece}>{kinds.get(piece, _SLOT)})"
        for index, piece in enumerate(pieces)
    )
    return re.compile(expression + tail)
