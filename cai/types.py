"""Small frozen records that cross the borders between units. No behaviour beyond conversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `content` is text, never control: see `cai.engine.template`."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        """The OpenAI form."""
        return {"role": self.role, "content": self.content}


Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages that the model's own chat template turns into tokens."""

    messages: Conversation


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Plain text, encoded as content: special tokens in it are split into ordinary ones."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """Token ids, taken as they are. For trainers and workers, not for text from users."""

    ids: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. Temperature 0 is greedy. `max_tokens` None means what the context leaves.

    `logprobs` asks for the log-prob of each sampled token and that many alternatives beside it.
    `seed` is honoured where the engine can; `Generation.seed_honoured` says whether it was.
    """

    max_tokens: int | None = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, its log-prob (natural log) and the alternatives at its place, best first."""

    id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer. `text` is without special tokens; `token_ids` has every token."""

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. `cached_tokens` is the part of the prompt served by the prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """What one call of `Engine.generate` gave: `n` completions, and who made them.

    `seed_honoured` is None when no seed was asked for.
    """

    completions: tuple[Completion, ...]
    usage: Usage
    policy: str
    seed_honoured: bool | None = None

    @property
    def text(self) -> str:
        """Text of the first completion."""
        return self.completions[0].text


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer. The last chunk of each index carries `finish_reason`.

    `usage` and `seed_honoured` are set on the stream's very last chunk only. `policy` is on the
    first chunk at least.
    """

    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    usage: Usage | None = None
    policy: str | None = None
    seed_honoured: bool | None = None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Log-probs (natural log, unnormalised) of the label tokens as the next token.

    `mass` is the sum of their probabilities: how much of the model's belief they hold.
    """

    logprobs: Mapping[str, float]
    mass: float
    usage: Usage
    policy: str


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Who answers: recorded beside everything that an engine made.

    `digest` is over the weights, tokenizer and template where the engine can read them, else None.
    `keeps_prefix` says whether the chat template extends a conversation's tokens instead of
    rewriting them: False only costs speed.
    """

    engine: str
    version: str
    device: str
    model: str
    digest: str | None = None
    template_digest: str | None = None
    max_context: int | None = None
    keeps_prefix: bool | None = None

    def as_dict(self) -> dict[str, str | int | bool | None]:
        """For manifests and reports."""
        return {name: getattr(self, name) for name in self.__slots__}


def conversation(messages: Sequence[Mapping[str, str]]) -> Conversation:
    """Messages from their OpenAI form; roles and types are the caller's to validate."""
    return tuple(Message(m["role"], m["content"]) for m in messages)  # type: ignore[arg-type]
