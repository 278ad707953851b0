"""The pairs that an impact preview judges: from a file of preferences, or answers made anew.

Start from `read_pairs`, which gives None for a file of prompts, and then `sample_pairs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cai.dataset.importers.formats import detect
from cai.dataset.importers.reading import Imported, import_rows
from cai.dataset.importers.records import ENDINGS, first_record
from cai.dataset.preferences import pair_id
from cai.dataset.prompts import PromptRow, iter_prompts
from cai.engine.base import Engine
from cai.errors import DataError, PromptError
from cai.feedback.asking import gather
from cai.types import ChatPrompt, Conversation, Message, Sampling


class JudgedPair(NamedTuple):
    """Two answers to a conversation; `is_known`: people say that `a` is the better one."""

    id: str
    conversation: Conversation
    a: str
    b: str
    is_known: bool = False


def read_pairs(path: Path, *, limit: int | None = None) -> list[JudgedPair] | None:
    """The pairs of a run or of a preference file; None for a file of prompts alone.

    Raises DataError when a preference file holds no pair of single answers.
    """
    file = path / "rows.jsonl" if path.is_dir() else path
    if not file.name.endswith(ENDINGS) or detect(first_record(file)) is None:
        return None
    pairs: list[JudgedPair] = []
    for item in import_rows(file):
        if isinstance(item, Imported) and (pair := _pair(item)) is not None:
            pairs.append(pair)
        if len(pairs) == limit:
            break
    if not pairs:
        raise DataError(f"{file}: no pair of single answers in it; name a file of prompts or pairs")
    return pairs


def read_prompts(path: Path, *, limit: int | None = None) -> list[PromptRow]:
    """The prompts of a file. Raises PromptError when there is none that can be used."""
    rows = [row for row in iter_prompts(path, limit=limit) if isinstance(row, PromptRow)]
    if not rows:
        raise PromptError(f"{path}: there is no prompt in the file that can be used")
    return rows


async def sample_pairs(
    engine: Engine,
    prompts: Sequence[PromptRow],
    *,
    seed: int = 0,
    max_tokens: int = 256,
    concurrency: int = 64,
    on_pair: Callable[[], None] | None = None,
) -> list[JudgedPair]:
    """Two answers to each prompt at temperature 1; prompts answered the same twice are left out."""
    slots = asyncio.Semaphore(concurrency)

    async def one(row: PromptRow) -> JudgedPair | None:
        sampling = Sampling(n=2, temperature=1.0, max_tokens=max_tokens, seed=seed)
        async with slots:
            said = await engine.generate(ChatPrompt(row.messages), sampling)
        if on_pair is not None:
            on_pair()
        first, second = (completion.text.strip() for completion in said.completions)
        if first == second or not (first and second):
            return None
        return JudgedPair(row.input_id, row.messages, first, second)

    return [pair for pair in await gather([one(row) for row in prompts]) if pair is not None]


def _pair(item: Imported) -> JudgedPair | None:
    """A row's pair; None when an answer has several turns."""
    row = item.row
    chosen, rejected = row["chosen"], row["rejected"]
    if len(chosen) != 1 or len(rejected) != 1:
        return None
    return JudgedPair(
        pair_id(row["input_id"], chosen, rejected),
        tuple(Message(turn["role"], turn["content"]) for turn in row["prompt"]),
        chosen[0]["content"],
        rejected[0]["content"],
        is_known=row["source"] == "human" and row["p_chosen"] > 0.5,
    )
