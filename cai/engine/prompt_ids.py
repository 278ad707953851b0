"""Prompts to token ids, with the checks that spare the engine what it cannot take.

Start from `PromptEncoder.encode`.
"""

from __future__ import annotations

from collections.abc import Sequence

from cai.engine.template import ChatRenderer
from cai.errors import ContextLengthError, InputError
from cai.types import ChatPrompt, Prompt, TextPrompt


class PromptEncoder:
    """For one model: `max_context` in tokens, the answer included."""

    def __init__(self, renderer: ChatRenderer, *, max_context: int, vocab_size: int) -> None:
        self.max_context = max_context
        self._renderer = renderer
        self._vocab_size = vocab_size

    def encode(self, prompt: Prompt, *, check: bool = True) -> list[int]:
        """Token ids of a prompt of any kind; without `check` it may be of any length.

        Raises ContextLengthError when it leaves no room, InputError for no or unknown tokens.
        """
        if isinstance(prompt, ChatPrompt):
            if check:
                self._check_chars(sum(len(m.content) for m in prompt.messages), "messages")
            ids = self._renderer.render(prompt.messages)
        elif isinstance(prompt, TextPrompt):
            if check:
                self._check_chars(len(prompt.text), "prompt")
            ids = self._renderer.encode_text(prompt.text)
        else:
            ids = list(prompt.ids)
        if check:
            self._check_length(len(ids), "messages" if isinstance(prompt, ChatPrompt) else "prompt")
        self._check_ids(ids)
        return ids

    def _check_ids(self, ids: Sequence[int]) -> None:
        for token_id in (min(ids, default=0), max(ids, default=0)):
            if not 0 <= token_id < self._vocab_size:
                raise InputError(
                    f"token id {token_id} is outside the vocabulary (0 to {self._vocab_size - 1})",
                    param="prompt",
                )

    def _check_chars(self, num_chars: int, param: str) -> None:
        """Refuse what cannot fit before the work of encoding it."""
        fewest = self._renderer.fewest_tokens(num_chars)
        if fewest >= self.max_context:
            raise self._too_long(f"{num_chars} characters", param)

    def _check_length(self, num_tokens: int, param: str) -> None:
        if num_tokens == 0:
            raise InputError("the prompt has no tokens", param=param)
        if num_tokens >= self.max_context:
            raise self._too_long(f"{num_tokens} tokens", param)

    def _too_long(self, length: str, param: str) -> ContextLengthError:
        return ContextLengthError(
            f"the prompt has {length} and the model's context holds {self.max_context} tokens "
            "with the answer; shorten it",
            param=param,
        )
