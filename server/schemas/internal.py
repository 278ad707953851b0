"""`/internal`: requests of workers and trainers."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cai.types import ChatPrompt, Prompt, TokenPrompt
from server.schemas.common import (
    MAX_TOKENS,
    Messages,
    Name,
    SamplingIn,
    Text,
    TokenIds,
    WireModel,
    to_conversation,
)
from server.validation import refused


class GenerateRequest(SamplingIn):
    """Generate from token ids, taken as they are."""

    prompt_token_ids: TokenIds
    n: Annotated[int, Field(ge=1, le=16)] = 1
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = Field(
        None, description="What the context leaves, when left out."
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class ScoreRequest(WireModel):
    """Log-probs of the labels as the next token after messages, or after token ids."""

    messages: Messages | None = None
    prompt_token_ids: TokenIds | None = None
    labels: Annotated[
        list[Annotated[Text, Field(min_length=1, max_length=32)]],
        Field(min_length=1, max_length=32, fail_fast=True),
    ]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.messages is None) == (self.prompt_token_ids is None):
            raise refused("messages", "give messages or prompt_token_ids, one of them")
        if len(set(self.labels)) < len(self.labels):
            raise refused("labels", "a label is there twice")
        return self

    def to_prompt(self) -> Prompt:
        """The library's record."""
        if self.messages is not None:
            return ChatPrompt(to_conversation(self.messages))
        assert self.prompt_token_ids is not None, "one of the two is there"
        return TokenPrompt(tuple(self.prompt_token_ids))


class SleepRequest(WireModel):
    """Which job the engine's device is for, and how long without another word from it."""

    job: Name
    lease_s: Annotated[float, Field(ge=1, le=3600)] = 120.0
