"""What a reward model is asked to score, and what it answers: small records, nothing heavy.

Start from `Item`: token ids, an answer to a conversation, or text that a template rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cai.types import Conversation


@dataclass(frozen=True, slots=True)
class Answered:
    """A conversation and an answer to it. Both are content: no text in them becomes control."""

    prompt: Conversation
    answer: str


@dataclass(frozen=True, slots=True)
class RenderedText:
    """Prompt and answer as one text in the model's template, as remote reward models take it.

    Padding around it and the end token after it are put right. With `prompt` (a prefix of `text`)
    control tokens are read as control in the prompt alone, and what the answer spells stays text.
    Without it the answer cannot be told from its prompt, and every control token is control.
    """

    text: str
    prompt: str | None = None


Item = Answered | RenderedText | Sequence[int]
"""Token ids are taken as they are, and should end with the model's end token."""


class Scored(NamedTuple):
    """One reward per item, in order, and the tokens that were read for them."""

    rewards: list[float]
    num_tokens: int
