"""From one foreign record to the conversation that is to be answered.

Knows the shapes of prompt files: messages, a plain prompt, HH-RLHF's text. What cannot be used
raises `UnusableRow` with a reason in kebab-case. Start from `parse_record(record)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from cai.types import Conversation, Message, Role

_ROLES: tuple[str, ...] = get_args(Role)
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_HH_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}

MERGED_TURNS = "merged-turns"


class UnusableRow(Exception):
    """A record without a usable prompt. `detail` names fields and places, never their text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ParsedPrompt(NamedTuple):
    """A conversation that ends with the user's turn; `note` says what was mended on the way."""

    messages: Conversation
    note: str | None = None


def parse_record(record: Any) -> ParsedPrompt:
    """The prompt of one JSON record: `prompt`, `messages`, or `chosen` beside `rejected`."""
    if not isinstance(record, dict):
        raise UnusableRow("not-an-object", f"expected a JSON object, found {_kind(record)}")
    if "prompt" in record:
        return _checked(_from_prompt(record["prompt"]))
    if "messages" in record:
        return _checked(_up_to_user(read_messages(record["messages"], "messages")))
    if "chosen" in record and "rejected" in record:
        return _from_pair(record["chosen"], record["rejected"])
    raise UnusableRow(
        "no-prompt", "none of 'prompt', 'messages', or 'chosen' with 'rejected' is there"
    )


def parse_text(text: str) -> ParsedPrompt:
    """A prompt that is a line of plain text."""
    return _checked((Message("user", text),))


def parse_hh(text: str, *, field: str = "text") -> Conversation:
    """Turns of HH-RLHF's form as they stand: each after a blank line, with its speaker."""
    parts = _HH_TURN.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise UnusableRow("not-hh-text", f"'{field}' does not begin with a blank line and 'Human:'")
    return tuple(
        Message(_HH_ROLES[speaker], content.strip())
        for speaker, content in zip(parts[1::2], parts[2::2], strict=True)
    )


def _from_prompt(prompt: Any) -> Conversation:
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    return read_messages(prompt, "prompt")


def _from_pair(chosen: Any, rejected: Any) -> ParsedPrompt:
    first, second = _read_side(chosen, "chosen"), _read_side(rejected, "rejected")
    if first[:-1] != second[:-1]:
        raise UnusableRow("prompts-differ", "'chosen' and 'rejected' differ before their last turn")
    prompt = _up_to_user(first if first[-1].role == "user" else first[:-1])
    merged = merge_turns(prompt)
    return _checked(merged, note=MERGED_TURNS if len(merged) < len(prompt) else None)


def _read_side(side: Any, field: str) -> Conversation:
    return parse_hh(side, field=field) if isinstance(side, str) else read_messages(side, field)


def read_messages(value: Any, field: str) -> Conversation:
    """Messages in OpenAI's form, roles and texts checked."""
    if not isinstance(value, list) or not value:
        raise UnusableRow(
            "no-prompt", f"'{field}' should be text or a list of messages, found {_kind(value)}"
        )
    return tuple(_read_message(item, f"{field}[{i}]") for i, item in enumerate(value))


def _read_message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise UnusableRow("bad-message", f"{where} should be an object, found {_kind(item)}")
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise UnusableRow("unknown-role", f"{where}.role should be one of {', '.join(_ROLES)}")
    if not isinstance(content, str):
        raise UnusableRow("bad-message", f"{where}.content should be text, found {_kind(content)}")
    return Message(role, content)


def _up_to_user(messages: Conversation) -> Conversation:
    end = len(messages)
    while end and messages[end - 1].role != "user":
        end -= 1
    return messages[:end]


def merge_turns(messages: Conversation) -> Conversation:
    """The same turns, those of one role in a row joined by a blank line."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            merged[-1] = Message(message.role, f"{merged[-1].content}\n\n{message.content}")
        else:
            merged.append(message)
    return tuple(merged)


def _checked(messages: Conversation, note: str | None = None) -> ParsedPrompt:
    if not messages or messages[-1].role != "user":
        raise UnusableRow("no-user-turn", "the conversation does not end with the user's turn")
    if not messages[-1].content.strip():
        raise UnusableRow("empty-prompt", "the last turn is empty")
    check_text(messages)
    return ParsedPrompt(messages, note)


def check_text(messages: Sequence[Message]) -> None:
    """Refuse text that cannot be encoded, or that holds NUL."""
    for index, message in enumerate(messages):
        if "\0" in message.content:
            raise UnusableRow("nul-character", f"turn {index + 1} contains a NUL character")
        try:
            message.content.encode()
        except UnicodeEncodeError:
            raise UnusableRow("lone-surrogate", f"turn {index + 1} is not valid Unicode") from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number") if value != [] else "an empty list"
