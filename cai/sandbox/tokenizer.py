"""The bundled model's tokenizer and chat template: byte-level BPE over the world's texts.

All 256 bytes are in the vocabulary, so any text can be encoded. A word, a digit, a run of signs
and a line break are never merged with each other, and control tokens never with content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cai.types import Message

BOS, SYSTEM, USER, ASSISTANT, END, PAD = (
    "<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>",
)  # fmt: skip
CONTROL = (BOS, SYSTEM, USER, ASSISTANT, END, PAD)
MAX_VOCABULARY = 2048
CONTEXT = 4096

WORDS = r"\n+| ?\p{L}+(?:'\p{L}+)?| ?\p{N}| ?[^\s\p{L}\p{N}]+|[^\S\n]+"
CHAT_TEMPLATE = (
    "{{- '<|bos|>' }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|assistant|>' }}"
    "{%- generation %}{{- message['content'] + '<|end|>' }}{%- endgeneration %}"
    "{%- elif message['role'] in ['system', 'user'] %}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{%- else %}"
    "{{- raise_exception('the roles are system, user and assistant, not ' + message['role']) }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)


def train_tokenizer(texts: Iterable[str]) -> Any:
    """A `tokenizers.Tokenizer` that knows every word of the texts as one token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        min_frequency=2,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the files that transformers and vLLM read, chat template included."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    wrapped.save_pretrained(folder)


class Encoder:
    """Turns messages into token ids exactly as the chat template does, content by content."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: dict[str, int] = {token: tokenizer.token_to_id(token) for token in CONTROL}

    def text(self, text: str) -> list[int]:
        """Ids of plain text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def labels(self, texts: Sequence[str]) -> tuple[int, int]:
        """Ids of two labels, a single token each."""
        first, second = (self.tokenizer.token_to_id(text) for text in texts)
        return first, second

    def turns(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Ids of a conversation, and for each whether it is the assistant's own."""
        ids, own = [self.ids[BOS]], [False]
        for message in messages:
            content = [*self.text(message.content), self.ids[END]]
            ids += [self.ids[f"<|{message.role}|>"], *content]
            own += [False, *[message.role == "assistant"] * len(content)]
        return ids, own

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation that the assistant is to continue."""
        return [*self.turns(messages)[0], self.ids[ASSISTANT]]
