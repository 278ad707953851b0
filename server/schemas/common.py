"""What request models share: strict types, bounds for every number, sampling, ids and texts.

A field that is not declared here or in a model is refused by name; see `server.validation`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from cai.types import Conversation, Message, Role, Sampling

MAX_TOKENS = 2**20
MAX_MESSAGES = 512
MAX_PROMPT_IDS = 2**18
MAX_TOKEN_ID = 2**31 - 1


def without_nul(text: str) -> str:
    """Refuse what ends a text in some libraries and databases, and is in none that is meant."""
    if "\0" in text:
        raise PydanticCustomError("nul", "must not contain NUL characters (\\u0000)")
    return text


Text = Annotated[str, AfterValidator(without_nul)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
ConstitutionRef = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}(@([0-9]{1,9}|draft))?$")
]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]],
    Field(min_length=1, max_length=MAX_PROMPT_IDS, fail_fast=True),
]
StopText = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(without_nul)]
PrincipleNames = Annotated[list[Name], Field(min_length=1, max_length=64, fail_fast=True)]
UserTag = Annotated[str, Field(max_length=512)]


class WireModel(BaseModel):
    """Strict: no coercion between types, no unknown fields, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TextPart(WireModel):
    """A part of a message's content. Only text is understood."""

    type: Literal["text"]
    text: Text


class MessageIn(WireModel):
    """One turn. `developer` is another word for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: (
        Text
        | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    ) = Field(union_mode="left_to_right")

    def to_message(self) -> Message:
        """The library's record; parts are joined as they stand."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, text)


Messages = Annotated[list[MessageIn], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


def to_conversation(messages: list[MessageIn]) -> Conversation:
    """The library's records, in order."""
    return tuple([message.to_message() for message in messages])


class SamplingIn(WireModel):
    """How to sample. Null means the default, as in OpenAI's API."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**20)] | None = Field(
        None, description="0 takes every token into account."
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.5, le=2)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4, fail_fast=True)] | None = Field(
        None, union_mode="left_to_right", description="At most 4 texts of 1 to 64 characters."
    )
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = Field(
        None, description="Honoured where the engine can; `cai.seed_honoured` says whether it was."
    )

    def sampling(self, *, max_tokens: int | None, n: int = 1, logprobs: int | None) -> Sampling:
        """The library's record."""
        stop = self.stop
        return Sampling(
            max_tokens=max_tokens,
            temperature=_or(self.temperature, 1.0),
            top_p=_or(self.top_p, 1.0),
            top_k=self.top_k or 0,
            min_p=_or(self.min_p, 0.0),
            presence_penalty=_or(self.presence_penalty, 0.0),
            frequency_penalty=_or(self.frequency_penalty, 0.0),
            repetition_penalty=_or(self.repetition_penalty, 1.0),
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            seed=self.seed,
            n=n,
            logprobs=logprobs,
        )


class StreamOptions(WireModel):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(None, description="A last chunk carries the token counts.")


class OpenAiIn(SamplingIn):
    """What chat completions and completions share."""

    model: ModelName | None = Field(None, description="`live` (the default) or a served policy.")
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: UserTag | None = Field(None, description="Its digest is written to the request log.")

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
