"""Encodes text as content: whatever control tokens it spells, none of them comes out.

Knows a tokenizer; knows nothing of messages and templates. Start from `ContentEncoder.encode`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

_LONGEST_TOKEN = 128  # at the least: a margin for normalizers that contract text


class ContentEncoder:
    """Wraps a Hugging Face tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.control = control_tokens(tokenizer)
        self._control_ids = frozenset(self.control.values())
        self.pattern = _alternatives(self.control)
        self.opening = _opening(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, with every control token in it encoded as ordinary text."""
        if not self.pattern.search(text):
            ids = self.encode_control(text)
            if self._control_ids.isdisjoint(ids):
                return ids  # else a normalizer made a control token of other characters
        ids = self._plain(text)
        if self._control_ids.isdisjoint(ids):
            return ids
        ids = [i for char in text for i in self._plain_char(char)]  # no token spans two of them
        return [i for i in ids if i not in self._control_ids]

    def encode_control(self, text: str) -> list[int]:
        """Token ids of `text`, in which control tokens mean what they say."""
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []

    def control_in(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The control ids among `ids`, in order."""
        control = self._control_ids
        return tuple(i for i in ids if i in control)

    @cached_property
    def most_chars_a_token(self) -> int:
        """More characters than one token stands for."""
        longest = max(map(len, self._tokenizer.get_vocab()), default=1)
        return 4 * max(longest, _LONGEST_TOKEN)

    @cached_property
    def _plain(self) -> Callable[[str], list[int]]:
        """Encodes as the same tokenizer would if it had no added tokens."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return self.encode_control
        from tokenizers import Tokenizer

        description = json.loads(backend.to_str())
        description |= {"added_tokens": [], "post_processor": None, "truncation": None}
        plain = Tokenizer.from_str(json.dumps(description))
        return lambda text: list(plain.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _plain_char(self) -> Callable[[str], list[int]]:
        return lru_cache(maxsize=4096)(self._plain)


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Added tokens that mean something other than their letters: their text and id.

    White space and whole words are not control, unless the tokenizer calls them special.
    """
    return {
        str(token.content): int(token_id)
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip() and (token.special or not token.content.strip().isalnum())
    }


def _opening(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text, such as `<s>`."""
    bare = list(tokenizer.encode("x", add_special_tokens=False))
    whole = list(tokenizer.encode("x", add_special_tokens=True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    return []


def _alternatives(control: dict[str, int]) -> re.Pattern[str]:
    longest_first = sorted(control, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
