"""`POST /v1/completions`: the request, checked as a whole."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cai.types import Prompt, Sampling, TextPrompt, TokenPrompt
from server.schemas.common import MAX_TOKENS, OpenAiIn, TokenIds, without_nul
from server.validation import refused

MAX_PROMPTS = 64
MAX_CHOICES = 128

PromptText = Annotated[str, Field(min_length=1), AfterValidator(without_nul)]
PromptIn = (
    PromptText
    | TokenIds
    | Annotated[list[PromptText], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
)


class CompletionRequest(OpenAiIn):
    """OpenAI's request, as far as it has an effect here.

    `prompt` is one text, one list of token ids, or up to 64 of either.
    """

    prompt: PromptIn = Field(union_mode="left_to_right")
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = Field(
        None, description="16 when left out; 0 only with echo."
    )
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Literal[1] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise refused("max_tokens", "max_tokens 0 needs echo: true; or ask for at least 1")
        if self.stream_options is not None and not self.stream:
            raise refused("stream_options", "stream_options needs stream: true")
        num_prompts = len(self.to_prompts())
        if self.stream and num_prompts > 1:
            raise refused("prompt", "a stream takes one prompt; send one request for each")
        if self.stream and self.echo:
            raise refused("echo", "echo is not streamed; leave out echo or stream")
        if num_prompts * (self.n or 1) > MAX_CHOICES:
            raise refused("n", f"prompts times n must be at most {MAX_CHOICES}")
        return self

    def to_prompts(self) -> list[Prompt]:
        """The library's records, in order."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [TextPrompt(prompt)]
        if isinstance(prompt[0], int):
            return [TokenPrompt(tuple(prompt))]
        return [
            TextPrompt(one) if isinstance(one, str) else TokenPrompt(tuple(one)) for one in prompt
        ]

    def to_sampling(self) -> Sampling:
        """The library's record; `max_tokens` is 1 where only the echo is asked for."""
        limit = 16 if self.max_tokens is None else max(self.max_tokens, 1)
        return self.sampling(max_tokens=limit, n=self.n or 1, logprobs=self.logprobs)
