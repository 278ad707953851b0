"""`POST /v1/chat/completions`: the request, checked as a whole."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cai.types import Sampling
from server.schemas.common import (
    MAX_TOKENS,
    ConstitutionRef,
    Messages,
    OpenAiIn,
    PrincipleNames,
    UserTag,
    WireModel,
)
from server.validation import refused

TokenLimit = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class CaiOptions(WireModel):
    """Critique and revise the answer before it is given."""

    constitution: ConstitutionRef
    revisions: Annotated[int, Field(ge=0, le=16)] = Field(
        1, description="At most so many steps; a critique that finds nothing ends them early."
    )
    principles: PrincipleNames | None = Field(
        None, description="Taken in turn. Left out, one is drawn anew at each step."
    )
    return_steps: bool = Field(False, description="The answer carries the draft and every step.")
    stream_steps: bool = Field(
        False, description="A stream carries an event `cai.step` after the draft and each step."
    )


class TextFormat(WireModel):
    """The only response format there is."""

    type: Literal["text"]


class ChatRequest(OpenAiIn):
    """OpenAI's request, as far as it has an effect here, and `cai`."""

    messages: Messages
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: TextFormat | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    safety_identifier: UserTag | None = Field(
        None, description="Like `user`, which it replaces in OpenAI's API."
    )
    cai: CaiOptions | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        self._check_limits()
        last = self.messages[-1]
        if last.role != "user":
            raise refused(
                f"messages[{len(self.messages) - 1}].role",
                f"the last message is from '{last.role}'; it must be from 'user': an answer is "
                "always a new turn, and a begun one cannot be continued",
            )
        if not last.to_message().content.strip():
            raise refused(
                f"messages[{len(self.messages) - 1}].content",
                "the last message is empty; there is nothing to answer",
            )
        if self.cai is not None:
            self._check_cai(self.cai)
        return self

    def _check_limits(self) -> None:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise refused("max_tokens", "give max_tokens or max_completion_tokens, not both")
        if self.top_logprobs is not None and not self.logprobs:
            raise refused("top_logprobs", "top_logprobs needs logprobs: true")
        if self.stream_options is not None and not self.stream:
            raise refused("stream_options", "stream_options needs stream: true")

    def _check_cai(self, options: CaiOptions) -> None:
        if self.n not in (None, 1):
            raise refused("n", "a critiqued answer is one answer; leave n out, or leave cai out")
        if self.logprobs:
            raise refused("logprobs", "a critiqued answer has no logprobs; leave one of them out")
        if options.stream_steps and not self.stream:
            raise refused(
                "cai.stream_steps", "stream_steps needs stream: true; or use return_steps"
            )

    def to_sampling(self) -> Sampling:
        """The library's record. Without a limit the context is the limit."""
        limit = self.max_tokens if self.max_tokens is not None else self.max_completion_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling(max_tokens=limit, n=self.n or 1, logprobs=logprobs)

    @property
    def limit_field(self) -> str:
        """The name under which the token limit was given."""
        return "max_tokens" if self.max_tokens is not None else "max_completion_tokens"

    @property
    def user_tag(self) -> str | None:
        """What the client calls its user."""
        return self.safety_identifier or self.user
