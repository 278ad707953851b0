"""Turns messages into token ids so that text stays content and never becomes control.

A served model that reads `<|im_end|>` inside a user's message as the end of the turn can be made
to see turns nobody wrote. Here every control token inside a text is encoded as ordinary pieces,
and the control ids of the result must equal those of the template with neutral content.
Start from `ChatRenderer.render`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from cai.errors import ConfigError, PromptError
from cai.files import digest_bytes
from cai.types import Conversation, Message, Role

_NEUTRAL = "x"
_MAX_GROWTH = 100_000  # characters that a template may add to what it is given


class ChatRenderer:
    """Renders with a Hugging Face fast tokenizer and its chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._control = control_tokens(tokenizer)
        self._control_ids = frozenset(self._control.values())
        self._control_pattern = _alternatives(self._control)
        self._marker = f"\ue000{secrets.token_hex(8)}:"
        self._marker_pattern = re.compile(re.escape(self._marker) + r"(\d+);")
        self._control_of_shape = lru_cache(maxsize=1024)(self._neutral_control_ids)

    @property
    def template_digest(self) -> str | None:
        """Digest of the chat template's text; None when the model has none."""
        template = self._tokenizer.chat_template
        return None if template is None else digest_bytes(str(template).encode())

    @property
    def has_template(self) -> bool:
        """Whether the model can be given messages at all."""
        return self._tokenizer.chat_template is not None

    def render(self, messages: Conversation) -> list[int]:
        """Token ids of the conversation with the assistant's turn opened after it.

        Raises ConfigError without a chat template, PromptError when the template refuses the
        messages or lets content become control.
        """
        shape = tuple((message.role, bool(message.content)) for message in messages)
        expected = self._control_of_shape(shape)
        for opaque in (False, True):
            ids = self._encode_messages(messages, opaque=opaque)
            if self._control_in(ids) == expected:
                return ids
        raise PromptError(
            "the model's chat template turns message text into control tokens; "
            "use a template that only copies content",
            param="messages",
        )

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text, control tokens in it split, with the model's opening token."""
        opening = self._tokenizer.encode("", add_special_tokens=True)
        own_end = getattr(self._tokenizer, "eos_token_id", None)
        return [i for i in opening if i != own_end] + self.encode_content(text)

    def encode_content(self, text: str) -> list[int]:
        """Token ids of `text` alone, with every control token in it encoded as ordinary text."""
        ids: list[int] = []
        for piece in _split_inside(self._control_pattern, text):
            ids += self._encode(piece)
        if self._control_ids.isdisjoint(ids):
            return ids
        # A normalizer made a control token out of other characters: no token spans two of them.
        ids = [i for char in text for i in self._encode(char) if i not in self._control_ids]
        return ids

    def keeps_prefix(self) -> bool:
        """Whether a longer conversation's tokens begin with the shorter one's."""
        if not self.has_template:
            return False
        short = (Message("user", "a question"),)
        long = (*short, Message("assistant", "an answer"), Message("user", "another question"))
        shorter, longer = self.render(short), self.render(long)
        return longer[: len(shorter)] == shorter

    def _encode_messages(self, messages: Conversation, *, opaque: bool) -> list[int]:
        hidden: list[str] = []

        def hide(text: str) -> str:
            hidden.append(text)
            return f"{self._marker}{len(hidden) - 1};"

        def conceal(text: str) -> str:
            if opaque:
                return hide(text) if text else text
            return self._control_pattern.sub(lambda match: hide(match[0]), text)

        shown = [{"role": m.role, "content": conceal(m.content)} for m in messages]
        text = self._apply(shown)
        limit = _MAX_GROWTH + 4 * sum(len(m.content) for m in messages)
        if len(text) > limit:
            raise PromptError(
                f"the chat template made {len(text)} characters of the messages (limit {limit})",
                param="messages",
            )
        ids: list[int] = []
        position = 0
        for match in self._marker_pattern.finditer(text):
            ids += self._encode(text[position : match.start()])
            ids += self.encode_content(hidden[int(match[1])])
            position = match.end()
        return ids + self._encode(text[position:])

    def _apply(self, messages: Sequence[dict[str, str]]) -> str:
        if not self.has_template:
            raise ConfigError(
                "the model has no chat template; add chat_template.jinja to its folder, "
                "or use a chat model"
            )
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=True
                )
            )
        except Exception as exc:  # jinja's errors, and whatever a template raises itself
            raise PromptError(
                f"the model's chat template refuses the messages: {exc}", param="messages"
            ) from exc

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []

    def _control_in(self, ids: Sequence[int]) -> tuple[int, ...]:
        control = self._control_ids
        return tuple(i for i in ids if i in control)

    def _neutral_control_ids(self, shape: tuple[tuple[Role, bool], ...]) -> tuple[int, ...]:
        neutral = tuple(Message(role, _NEUTRAL if filled else "") for role, filled in shape)
        return self._control_in(self._encode_messages(neutral, opaque=False))


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Added tokens that are not mere white space: their text and id."""
    return {
        str(token.content): int(token_id)
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip()
    }


def _alternatives(control: dict[str, int]) -> re.Pattern[str]:
    longest_first = sorted(control, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _split_inside(pattern: re.Pattern[str], text: str) -> list[str]:
    """Cut `text` inside every match, after its first character, until no piece has a match.

    >>> _split_inside(re.compile("<b>"), "a<b>c")
    ['a<', 'b>c']
    """
    pieces: list[str] = []
    rest = text
    while match := pattern.search(rest):
        cut = match.start() + 1
        pieces.append(rest[:cut])
        rest = rest[cut:]
    return [*pieces, rest]
