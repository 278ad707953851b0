"""Conversations as token ids with the same code that serves them: text never becomes control.

What is learned ends with the token by which the template ends the assistant's turn, as sampling
does. A row that is too long loses its oldest turns or is left out, and is counted; an answer is
never cut. Start from `Encoder`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cai.engine.template import ChatRenderer
from cai.errors import ConfigError, DataError, PromptError
from cai.train.rows import Answer, turns
from cai.types import Conversation, Message

_ASK, _REPLY = Message("user", "a question"), Message("assistant", "an answer")


class Encoded(NamedTuple):
    """A conversation's ids, and for each whether it carries loss."""

    ids: list[int]
    is_learnt: list[bool]


class EncodedAnswers(NamedTuple):
    """A prompt's ids with the assistant's turn opened, and each answer's with its end token."""

    prompt_ids: list[int]
    answers: list[list[int]]


@dataclass(slots=True)
class Fit:
    """How rows fitted `max_length` tokens: whole, without their oldest turns, or not at all."""

    max_length: int
    num_whole: int = 0
    num_shortened: int = 0
    num_left_out: int = 0

    def check(self) -> None:
        """Raise DataError when so little is left that it cannot be what was meant."""
        if self.num_left_out > self.num_whole + self.num_shortened:
            total = self.num_left_out + self.num_whole + self.num_shortened
            raise DataError(
                f"{self.num_left_out} of {total} rows are longer than {self.max_length} tokens, "
                "whatever turns may be dropped; raise max_length, or lower ppo's max_new_tokens"
            )

    def as_dict(self) -> dict[str, int]:
        """For reports."""
        return {
            "whole": self.num_whole,
            "shortened": self.num_shortened,
            "left_out": self.num_left_out,
        }


class Encoder:
    """A tokenizer with its chat template, checked to be fit for training.

    Raises ConfigError without a chat template, for one that does not keep a prompt as the prefix
    of its answer, and for one that ends the assistant's turn with none of `end_ids`.
    """

    def __init__(self, tokenizer: Any, *, end_ids: Collection[int] | None = None) -> None:
        self.renderer = ChatRenderer(tokenizer)
        self.tokenizer = tokenizer
        given = tokenizer.eos_token_id if end_ids is None else end_ids
        self.end_ids = frozenset({given} - {None} if isinstance(given, int | None) else given)
        self.end_id = self._find_end()
        self.pad_id = _pad_id(tokenizer, self.end_id)
        self._last: tuple[Conversation, list[int]] | None = None

    def prompt(self, messages: Conversation) -> list[int]:
        """Ids of a conversation with the assistant's turn opened, exactly as it is served."""
        if self._last is None or self._last[0] != messages:
            self._last = messages, self.renderer.render(messages)
        return list(self._last[1])

    def answer(self, prompt: Conversation, answer: Answer) -> list[int]:
        """Ids that follow those of `prompt` up to the end token of the answer's last turn."""
        before = self.prompt(prompt)
        ids = self.renderer.render((*prompt, *turns(answer)))
        self._check_prefix(before, ids)
        starts = [len(before)]
        said = turns(answer)
        if len(said) > 1:
            starts = [len(self.renderer.render((*prompt, *said[:-1])))]
        return ids[len(before) : self._end(ids, starts[0]) + 1]

    def turns(self, messages: Conversation, *, num_context: int = 0) -> Encoded:
        """A conversation up to an assistant's turn; all the assistant's after the context learn.

        Raises ConfigError when the template rewrites earlier turns as the conversation grows.
        """
        ids = self.renderer.render(messages)
        is_learnt = [False] * len(ids)
        end = 0
        for index, message in enumerate(messages):
            if message.role != "assistant" or index < num_context:
                continue
            before = self.prompt(messages[:index])
            self._check_prefix(before, ids)
            end = self._end(ids, len(before)) + 1
            is_learnt[len(before) : end] = [True] * (end - len(before))
        if not end or messages[-1].role != "assistant":
            raise DataError("a demonstration does not end with the assistant's turn")
        return Encoded(ids[:end], is_learnt[:end])

    def fit(self, messages: Conversation, fit: Fit, *, num_context: int = 0) -> Encoded | None:
        """`turns` within `fit.max_length`, if need be without the oldest turns; None if too long.

        The first turn that is learned, and all after it, stay; so does a system message.
        """
        for start in _starts(messages[: _last_ask(messages, num_context)]):
            shorter = _without(messages, start)
            dropped = len(messages) - len(shorter)
            encoded = self.turns(shorter, num_context=max(0, num_context - dropped))
            if len(encoded.ids) <= fit.max_length:
                _count(fit, dropped)
                return encoded
        fit.num_left_out += 1
        return None

    def fit_answers(
        self, prompt: Conversation, answers: Sequence[Answer], fit: Fit
    ) -> EncodedAnswers | None:
        """Ids of a prompt and its answers, each together within `fit.max_length`, or None.

        All answers get the same prompt, if need be without its oldest turns.
        """
        for start in _starts(prompt[:-1]):
            shorter = _without(prompt, start)
            prompt_ids = self.prompt(shorter)
            found = [self.answer(shorter, answer) for answer in answers]
            if len(prompt_ids) + max(map(len, found)) <= fit.max_length:
                _count(fit, len(prompt) - len(shorter))
                return EncodedAnswers(prompt_ids, found)
        fit.num_left_out += 1
        return None

    def _find_end(self) -> int:
        """The token that ends the assistant's turn in this template."""
        if not self.renderer.has_template:
            raise ConfigError(
                "the model has no chat template; add chat_template.jinja to its folder, or begin "
                "with a chat model"
            )
        prompt = self.renderer.render((_ASK,))
        whole = self.renderer.render((_ASK, _REPLY))
        self._check_prefix(prompt, whole)
        for token_id in whole[len(prompt) :]:
            if token_id in self.end_ids:
                return int(token_id)
        names = self.tokenizer.convert_ids_to_tokens(sorted(self.end_ids))
        raise ConfigError(
            "the chat template ends the assistant's turn with no end token of the model "
            f"({', '.join(map(str, names)) or 'it has none'}), so it could not learn to stop; set "
            "eos_token_id in generation_config.json to the token that ends a turn"
        )

    def _check_prefix(self, prompt: Sequence[int], whole: Sequence[int]) -> None:
        if list(whole[: len(prompt)]) != list(prompt):
            raise ConfigError(
                "the chat template does not keep a prompt as the prefix of the prompt with its "
                "answer, so training would not see what is served; use a template that only adds "
                "to what came before"
            )

    def _end(self, ids: Sequence[int], start: int) -> int:
        """Index of the first end token from `start` on."""
        for index in range(start, len(ids)):
            if ids[index] in self.end_ids:
                return index
        raise PromptError("the chat template leaves the assistant's turn without its end token")


def end_ids_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a generation: by the generation config, the config, the tokenizer."""
    found: set[int | None] = set()
    for holder in (getattr(model, "generation_config", None), model.config, tokenizer):
        given = getattr(holder, "eos_token_id", None)
        found |= set(given if isinstance(given, list | tuple) else [given])
    return frozenset(int(one) for one in found if one is not None)


def _pad_id(tokenizer: Any, end_id: int) -> int:
    """What pads a batch: another token than the end token, if the tokenizer has one.

    A reward model reads at the last token that is no padding, which is to be the end token.
    """
    named = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    added = (i for i, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special)
    return next((int(i) for i in (*named, *added) if i is not None and i != end_id), end_id)


def _last_ask(messages: Conversation, num_context: int) -> int:
    """Index of the message that the first learned turn answers: it stays."""
    first = next(
        index
        for index, message in enumerate(messages)
        if index >= num_context and message.role == "assistant"
    )
    return max(0, first - 1)


def _starts(droppable: Conversation) -> list[int]:
    """Where a shortened conversation may begin: at its start, or later at a user's turn."""
    first = 1 if droppable and droppable[0].role == "system" else 0
    later = [i for i in range(first + 1, len(droppable)) if droppable[i].role == "user"]
    return [first, *later, *([len(droppable)] if len(droppable) > first else [])]


def _without(messages: Conversation, start: int) -> Conversation:
    """The conversation from `start` on, with its system message."""
    kept = messages[:1] if messages[0].role == "system" and start > 0 else ()
    return (*kept, *messages[start:])


def _count(fit: Fit, num_dropped: int) -> None:
    if num_dropped:
        fit.num_shortened += 1
    else:
        fit.num_whole += 1
