"""Prompts that a suite has drawn instead of listing them, and the oracle of their world.

The small world is a unit of this layer, so it is reached by name. Start from `draw` and `verdict`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import Field

from cai.constitution.schema import Record, Text
from cai.registry import load_object
from cai.types import Message

_PROMPTS: Final = "cai.sandbox.prompts:prompts"
_ORACLE: Final = "cai.sandbox.oracle:judge"


class Generate(Record):
    """Where prompts come from, and which: the same settings give the same prompts."""

    source: Literal["sandbox"]
    kind: Text
    """A kind of that world's prompts, as `cai sandbox prompts --kind` takes it."""
    n: int = Field(ge=1, le=100_000)
    """How many."""
    seed: int = Field(default=0, ge=0)
    turns: int | None = Field(default=None, ge=1, le=3)
    """Turns of the conversation that is there before the answer; mixed where it is left out."""
    chain: int = Field(default=1, ge=1, le=16)
    """So many prompts make one conversation, each said after the answer to the one before."""


def draw(generate: Generate, split: str) -> list[dict[str, Any]]:
    """Entries of a suite, as its file would have them. Raises PromptError for an unknown kind."""
    num = generate.n * generate.chain
    turns = 1 if generate.chain > 1 else generate.turns
    drawn = load_object(_PROMPTS)(split, generate.kind, num, generate.seed, turns=turns)
    return [
        _entry(drawn[start : start + generate.chain]) for start in range(0, num, generate.chain)
    ]


def verdict(messages: Sequence[Message], answer: str) -> set[str]:
    """The oracle's label of an answer, and its flaws."""
    found = load_object(_ORACLE)(messages, answer)
    return {found.label, *found.flaws}


def _entry(chain: Sequence[Any]) -> dict[str, Any]:
    first, *rest = chain
    request = chain[-1].request
    topic = request.topic
    facts = {
        "truth": request.truth,
        "claimed": request.claimed,
        "topic": topic.name if topic is not None else None,
    }
    kind = topic.kind.name if topic is not None else None
    turns = sum(message.role == "user" for message in first.messages) + len(rest)
    return {
        "prompt": [message.as_dict() for message in first.messages],
        "then": [one.messages[-1].content for one in rest],
        "tags": [*([kind] if kind else []), f"turns-{turns}"],
        "facts": {name: value for name, value in facts.items() if value},
    }
