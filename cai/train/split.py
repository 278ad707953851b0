"""Train and validation parts that share no prompt. Light. Start from `split_by_prompt`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from cai.errors import DataError
from cai.files import digest_json
from cai.types import Conversation


class HasPrompt(Protocol):
    """A row with the conversation that it answers, as `prompt`."""

    @property
    def prompt(self) -> Conversation:
        """Everything before the first turn that is learned."""
        ...


RowT = TypeVar("RowT", bound=HasPrompt)


class Split(NamedTuple, Generic[RowT]):
    """Rows in the order of the data, each in one part."""

    train: list[RowT]
    validation: list[RowT]


def split_by_prompt(rows: Sequence[RowT], share: float, seed: int) -> Split[RowT]:
    """About `share` of the prompts, at least one and not all, with all their rows, for validation.

    A prompt's place depends on its words and the seed alone: more data moves no prompt, unless
    there are too few for a share of them to hold one. Raises DataError when there is one prompt.
    """
    if not rows:
        raise DataError("there are no rows to train on")
    keys = [prompt_key(row.prompt) for row in rows]
    places = {key: _place(key, seed) for key in dict.fromkeys(keys)}
    if len(places) < 2:
        raise DataError(
            f"all {len(rows)} rows answer the same prompt, so none can be kept for validation; "
            "give data with at least two prompts"
        )
    in_order = sorted(places, key=places.__getitem__)
    held_out = {key for key in in_order if places[key] < share} or {in_order[0]}
    if len(held_out) == len(places):
        held_out.remove(in_order[-1])
    train = [row for row, key in zip(rows, keys, strict=True) if key not in held_out]
    validation = [row for row, key in zip(rows, keys, strict=True) if key in held_out]
    return Split(train, validation)


def prompt_key(prompt: Conversation) -> str:
    """Digest of a conversation's words and roles; white space and case do not tell two apart."""
    return digest_json([[m.role, " ".join(m.content.split()).casefold()] for m in prompt])


def _place(key: str, seed: int) -> float:
    digest = hashlib.sha256(f"validation|{seed}|{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
