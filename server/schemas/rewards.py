"""`POST /v1/rewards`: the request, in the form that remote reward models take, or as messages."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cai.train.items import Answered, Item, RenderedText
from cai.types import Conversation
from server.schemas.common import Messages, Text, WireModel, to_conversation
from server.validation import refused

MAX_ITEMS = 1024

Filled = Annotated[Text, Field(min_length=1)]


class RewardRequest(WireModel):
    """Score answers: `query` in the template's text, or `messages` that end with the answer."""

    query: (
        Annotated[list[Filled], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)] | None
    ) = Field(
        None,
        description="Each is a prompt and its answer, rendered with the model's chat template. "
        "Padding around it and the end token after it may be there or not.",
    )
    prompts: Annotated[list[Filled], Field(max_length=MAX_ITEMS, fail_fast=True)] | None = Field(
        None,
        description="The prompts that the queries begin with, one each. Then control tokens that "
        "an answer spells stay text; without them every control token is read as control.",
    )
    labels: Annotated[list[Text | None], Field(max_length=MAX_ITEMS, fail_fast=True)] | None = (
        Field(None, description="Reference answers, which this model does not read: empty or null.")
    )
    messages: (
        Annotated[list[Messages], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)] | None
    ) = Field(
        None,
        description="Conversations, each ending with the assistant's answer: the exact form, in "
        "which no text becomes control.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.query is None) == (self.messages is None):
            raise refused("query", "give query or messages, one of them")
        if self.query is None:
            if self.prompts is not None:
                raise refused("prompts", "prompts belong to query; messages hold their own")
        elif self.prompts is not None and len(self.prompts) != len(self.query):
            raise refused(
                "prompts",
                f"{len(self.prompts)} prompts for {len(self.query)} queries; give as many",
            )
        if any(self.labels or ()):
            raise refused("labels", "this reward model reads no reference answers; leave them out")
        for index, conversation in enumerate(self.messages or ()):
            if len(conversation) < 2 or conversation[-1].role != "assistant":
                raise refused(
                    f"messages[{index}]",
                    f"messages[{index}] should end with the assistant's answer to score",
                )
        return self

    def to_items(self) -> list[Item]:
        """The library's records, in order."""
        if self.messages is not None:
            return [_answered(to_conversation(one)) for one in self.messages]
        assert self.query is not None, "one of the two is there"
        if self.prompts is None:
            return [RenderedText(text) for text in self.query]
        return [RenderedText(*pair) for pair in zip(self.query, self.prompts, strict=True)]


def _answered(conversation: Conversation) -> Answered:
    *prompt, answer = conversation
    return Answered(tuple(prompt), answer.content)
