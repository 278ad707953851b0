"""Turns messages into token ids so that text stays content and never becomes control.

A served model that reads `<|im_end|>` inside a user's message as the end of the turn can be made
to see turns nobody wrote. Here every control token inside a text is encoded as ordinary pieces,
and the control ids of the result must equal those of the template with neutral content.
Start from `ChatRenderer.render`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from cai.engine.content import ContentEncoder
from cai.errors import ConfigError, PromptError
from cai.files import digest_bytes
from cai.types import Conversation, Message, Role

_NEUTRAL = "x"
_MAX_GROWTH = 100_000  # characters that a template may add to what it is given
_MANY = 32  # control tokens in one message: hiding each of more would cost time
_LEADS = [*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE)]  # the private-use characters


class ChatRenderer:
    """Renders with a Hugging Face tokenizer and its chat template."""

    def __init__(self, tokenizer: Any) -> None:
        for needed in ("added_tokens_decoder", "apply_chat_template", "encode"):
            if not hasattr(tokenizer, needed):
                raise ConfigError(
                    f"the tokenizer ({type(tokenizer).__name__}) is not of Hugging Face's kind; "
                    "use a model with a tokenizer.json, or the engine argument tokenizer_mode=hf",
                    param="tokenizer_mode",
                )
        self._tokenizer = tokenizer
        self._content = ContentEncoder(tokenizer)
        self._control_of_shape = lru_cache(maxsize=1024)(self._neutral_control_ids)

    @property
    def template(self) -> str | None:
        """The chat template that is used; None when the model has none."""
        template = self._tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        return None if template is None else str(template)

    @property
    def template_digest(self) -> str | None:
        """Digest of the chat template's text; None when the model has none."""
        template = self.template
        return None if template is None else digest_bytes(template.encode())

    @property
    def has_template(self) -> bool:
        """Whether the model can be given messages at all."""
        return self.template is not None

    def render(self, messages: Conversation) -> list[int]:
        """Token ids of the conversation with the assistant's turn opened after it.

        Raises ConfigError without a chat template, PromptError when the template refuses the
        messages or lets content become control.
        """
        for message in messages:
            _check_unicode(message.content, param="messages")
        shape = tuple((message.role, bool(message.content)) for message in messages)
        expected = self._control_of_shape(shape)
        for opaque in (False, True):
            ids = self._encode_messages(messages, opaque=opaque)
            if ids is not None and self._content.control_in(ids) == expected:
                return ids
        raise PromptError(
            "the model's chat template turns message text into control tokens; "
            "use a template that only copies content",
            param="messages",
        )

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text, control tokens in it split, with the model's opening token."""
        return [*self._content.opening, *self.encode_content(text)]

    def encode_content(self, text: str) -> list[int]:
        """Token ids of `text` alone, with every control token in it encoded as ordinary text."""
        _check_unicode(text, param="prompt")
        return self._content.encode(text)

    def fewest_tokens(self, num_chars: int) -> int:
        """A number of tokens that no text of this length can stay below, without encoding it."""
        return num_chars // self._content.most_chars_a_token

    def warm_up(self) -> None:
        """Do once, in a thread, what the first odd text would wait for: seconds for a large one."""
        self._content.encode(_NEUTRAL + " ".join(self._content.control))
        self.fewest_tokens(0)

    def keeps_prefix(self) -> bool:
        """Whether a longer conversation's tokens begin with the shorter one's."""
        short = (Message("user", "a question"),)
        long = (*short, Message("assistant", "an answer"), Message("user", "another question"))
        try:
            shorter, longer = self.render(short), self.render(long)
        except (ConfigError, PromptError):
            return False
        return longer[: len(shorter)] == shorter

    def _encode_messages(self, messages: Conversation, *, opaque: bool) -> list[int] | None:
        """Token ids, or None when the template took a marker apart."""
        hidden: dict[str, int] = {}
        lead = _unused_character(messages)

        def hide(text: str) -> str:
            return f"{lead}{hidden.setdefault(text, len(hidden))};"

        def conceal(text: str) -> str:
            pattern = self._content.pattern
            if opaque or len(pattern.findall(text)) > _MANY:
                return hide(text) if text else text
            return pattern.sub(lambda match: hide(match[0]), text)

        shown = [
            {"role": message.role, "content": conceal(message.content)} for message in messages
        ]
        text = self._apply(shown)
        limit = _MAX_GROWTH + 4 * sum(len(m["content"]) for m in shown)
        if len(text) > limit:
            raise PromptError(
                f"the chat template made {len(text)} characters of the messages (limit {limit})",
                param="messages",
            )
        pieces = re.split(rf"{lead}(\d+);", text)  # the template's own text and markers, in turn
        torn = (lead, f"\\u{ord(lead):04x}")
        if hidden and any(part in piece for piece in pieces[::2] for part in torn):
            return None
        contents = [self._content.encode(one) for one in hidden]
        ids = self._content.encode_control(pieces[0])
        for index, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            ids += contents[int(index)]
            ids += self._content.encode_control(piece)
        return ids

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
            reason = " ".join(str(exc).split())[:300] or type(exc).__name__
            raise PromptError(
                f"the model's chat template refuses the messages: {reason}", param="messages"
            ) from exc

    def _neutral_control_ids(self, shape: tuple[tuple[Role, bool], ...]) -> tuple[int, ...]:
        neutral = tuple(Message(role, _NEUTRAL if filled else "") for role, filled in shape)
        ids = self._encode_messages(neutral, opaque=False)
        assert ids is not None, "nothing is hidden in neutral content"
        return self._content.control_in(ids)


def _unused_character(messages: Conversation) -> str:
    """A character that stands in no message; digits after it survive |upper and |trim."""
    for code in _LEADS:
        if not any(chr(code) in message.content for message in messages):
            return chr(code)
    raise PromptError("the messages use every private-use character", param="messages")


def _check_unicode(text: str, *, param: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise PromptError(
            f"the text has half a character (U+{ord(text[exc.start]):04X}) at position "
            f"{exc.start}; remove it",
            param=param,
        ) from None
