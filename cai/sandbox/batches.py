"""Training texts as token sequences with their losses. Knows no torch: plain lists of numbers.

A comparison becomes a tree: its long common part once, and a branch per question, whose tokens see
the common part and their own branch only. So one pass through a pair gives a label per question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from cai.critique.prompts import CRITIQUE
from cai.feedback.prompts import COMPARE_TAIL, LABELS
from cai.sandbox.dialogues import Comparison, chain, chat, comparison, lesson, statement
from cai.sandbox.dimensions import DIMENSIONS, Dimension
from cai.sandbox.principles import INVERTED_SHARE, Texts
from cai.sandbox.tokenizer import ASSISTANT, BOS, END, USER, Encoder
from cai.types import Message

T = TypeVar("T", "Row", "Tree")

POOL = 8
MAX_QUESTIONS = 5
SMOOTHING, LEARNT = 0.1, 0.15
_ASKED = CRITIQUE.rpartition("{principle}")[2]


@dataclass(frozen=True, slots=True)
class Mix:
    """What one optimizer step is made of, in texts.

    `learns_drafts` says whether a chain's draft is to be predicted too. Drafts have more flaws than
    the base policy is to have, and some are broken: good for reading them, not for speaking so.
    """

    chats: int
    statements: int
    lessons: int
    chains: int
    trees: int
    learns_drafts: bool


LEARNING = Mix(chats=16, statements=2, lessons=2, chains=5, trees=10, learns_drafts=True)
POLISHING = Mix(chats=40, statements=8, lessons=2, chains=8, trees=10, learns_drafts=False)


@dataclass(frozen=True, slots=True)
class Row:
    """A token sequence; `learn[i]` says whether token i is to be predicted."""

    ids: list[int]
    learn: list[bool]

    @property
    def length(self) -> int:
        """Tokens in the row."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Tree:
    """A common part and branches. `branch[i]` is 0 for common tokens, else the branch's number.

    At `label_at[k]` the next token is the first of `labels[k]` with probability `p_first[k]`, else
    the second.
    """

    ids: list[int]
    positions: list[int]
    branch: list[int]
    label_at: list[int]
    labels: list[tuple[int, int]]
    p_first: list[float]

    @property
    def length(self) -> int:
        """Tokens in the tree."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimizer step learns from."""

    chats: list[Row]
    chains: list[Row]
    trees: list[Tree]


class Curriculum:
    """What feedback is about by now: a further dimension joins when those before are learnt.

    Taught all at once, none of them is learnt for a very long time. Inverted questions come last.
    """

    def __init__(self, *, is_over: bool = False) -> None:
        self.num_known = len(DIMENSIONS) if is_over else 1
        self.inverts = is_over
        self._loss = 1.0

    @property
    def known(self) -> tuple[Dimension, ...]:
        """The dimensions that have joined."""
        return DIMENSIONS[: self.num_known]

    def observe(self, compare_loss: float) -> None:
        """Take note of a step's loss on comparisons, in nats above the labels' own entropy."""
        self._loss += SMOOTHING * (compare_loss - self._loss)
        if self._loss < LEARNT:
            self.inverts = self.num_known == len(DIMENSIONS)
            self.num_known = min(self.num_known + 1, len(DIMENSIONS))
            self._loss = LEARNT + 0.1


def steps(
    seed: int, num: int, encoder: Encoder, texts: Texts, curriculum: Curriculum, mix: Mix
) -> Iterator[Step]:
    """`num` training steps; the same for the same seed and the same losses."""
    draw = random.Random(f"training {seed}")
    num_chats = mix.chats + mix.statements + mix.lessons
    for _ in range(0, num, POOL):
        known = curriculum.known
        chats = _chunks(draw, num_chats, partial(_chat_row, draw, encoder, texts, mix))
        chaining = partial(_chain_row, draw, encoder, texts, known, mix.learns_drafts)
        chains = _chunks(draw, mix.chains, chaining)
        asking = partial(
            comparison,
            draw,
            texts,
            known,
            num_questions=min(MAX_QUESTIONS, 1 + len(known)),
            inverted_share=INVERTED_SHARE if curriculum.inverts else 0.0,
        )
        trees = _chunks(draw, mix.trees, partial(_tree, encoder, asking))
        for group in zip(chats, chains, trees, strict=True):
            yield Step(*group)


def tree(encoder: Encoder, compared: Comparison) -> Tree:
    """The tree of one comparison: a branch per question."""
    common = [encoder.ids[BOS], encoder.ids[USER], *encoder.text(compared.common_text)]
    grown = Tree(list(common), list(range(len(common))), [0] * len(common), [], [], [])
    letters = encoder.labels(LABELS)
    for number, question in enumerate(compared.questions, start=1):
        own = encoder.text(COMPARE_TAIL.replace("{principle}", question.text))
        _grow(grown, [*own, encoder.ids[END], encoder.ids[ASSISTANT]], number, len(common))
        _label(grown, letters, question.p_first)
    return grown


def _grow(grown: Tree, ids: list[int], branch: int, depth: int) -> None:
    """Put tokens at the end of a branch that is `depth` tokens long, the common part counted."""
    grown.ids.extend(ids)
    grown.positions.extend(range(depth, depth + len(ids)))
    grown.branch.extend([branch] * len(ids))


def _label(grown: Tree, labels: tuple[int, int], p_first: float) -> None:
    """The token after the last one is to be one of two labels."""
    grown.label_at.append(len(grown.ids) - 1)
    grown.labels.append(labels)
    grown.p_first.append(p_first)


def _chat_row(draw: random.Random, encoder: Encoder, texts: Texts, mix: Mix) -> Row:
    kind = draw.random() * (mix.chats + mix.statements + mix.lessons)
    if kind < mix.lessons:
        return _turns_row(encoder, lesson(draw, texts))
    if kind < mix.lessons + mix.statements:
        ids = [encoder.ids[BOS], *encoder.text(statement(draw)), encoder.ids[END]]
        return Row(ids, [False, *[True] * (len(ids) - 1)])
    return _turns_row(encoder, chat(draw))


def _chain_row(
    draw: random.Random,
    encoder: Encoder,
    texts: Texts,
    known: Sequence[Dimension],
    learns_draft: bool,
) -> Row:
    messages = chain(draw, texts, known)
    row = _turns_row(encoder, messages)
    if learns_draft:
        return row
    asked = next(place for place, one in enumerate(messages) if one.content.endswith(_ASKED))
    num_before = _turns_row(encoder, messages[:asked]).length
    return Row(row.ids, [False] * num_before + row.learn[num_before:])


def _tree(encoder: Encoder, asking: Callable[[], Comparison]) -> Tree:
    return tree(encoder, asking())


def _turns_row(encoder: Encoder, messages: Sequence[Message]) -> Row:
    return Row(*encoder.turns(messages))


def _chunks(draw: random.Random, size: int, make: Callable[[], T]) -> list[list[T]]:
    """`POOL` groups of `size` items of like length, in random order: little padding is wasted."""
    items = sorted((make() for _ in range(size * POOL)), key=lambda item: item.length)
    groups = [items[start : start + size] for start in range(0, len(items), size)]
    draw.shuffle(groups)
    return groups
