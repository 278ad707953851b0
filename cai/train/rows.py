"""The rows that trainers learn from, and what a load of them says about its origin. Light."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cai.policy.manifest import DataSource
from cai.types import Conversation, Message

Answer = str | Conversation
"""An answer: the assistant's words, or several turns that end with the assistant's."""

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a prompt. `p_chosen` is the probability that the first is the better one.

    `place` is the file and line it came from; `constitution` the digest of what it was judged by.
    """

    id: str
    prompt: Conversation
    chosen: Answer
    rejected: Answer
    p_chosen: float = 1.0
    weight: float = 1.0
    constitution: str | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A conversation to imitate: the assistant's turns after the first `num_context` messages."""

    id: str
    messages: Conversation
    num_context: int = 0
    weight: float = 1.0
    place: str = ""

    @property
    def prompt(self) -> Conversation:
        """Everything before the first turn that is learned."""
        end = next(
            index
            for index, message in enumerate(self.messages)
            if index >= self.num_context and message.role == "assistant"
        )
        return self.messages[:end]


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt to answer."""

    id: str
    prompt: Conversation
    place: str = ""


@dataclass(slots=True)
class Loaded(Generic[RowT]):
    """Rows in the order of the data, the files they came from, constitutions by reference.

    `left_out` counts what the files have and no row was made of, by reason.
    """

    rows: list[RowT] = field(default_factory=list)
    sources: tuple[DataSource, ...] = ()
    constitutions: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, float]:
        """What was left out as metrics: `rows_left_out_no_revision` and the like."""
        return {
            f"rows_left_out_{reason.replace('-', '_')}": float(number)
            for reason, number in self.left_out.items()
            if number
        }


def counted(reasons: Mapping[str, int]) -> str:
    """Reasons with their numbers, for people; those of number 0 are not told."""
    return ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number)


def turns(answer: Answer) -> Conversation:
    """An answer as messages."""
    return (Message("assistant", answer),) if isinstance(answer, str) else answer


def answer_text(answer: Answer) -> str:
    """The words of an answer: of its last turn, where it has several."""
    return turns(answer)[-1].content
