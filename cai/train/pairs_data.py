"""Pairs as the trainers read them: token ids of the encoder that serves, label, weight, margin.

Start from `encode_split`; then `sequences_dataset` with its collator for a reward model, and
`answers_dataset` with its own for DPO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.dpo_trainer import DataCollatorForPreference as AnswerCollator
from trl.trainer.reward_trainer import DataCollatorForPreference as SequenceCollator

from cai.errors import DataError
from cai.train.config import CommonConfig
from cai.train.encode import Encoded, EncodedAnswers, Encoder, Fit
from cai.train.plan import Plan, Preview, make_preview
from cai.train.rows import Pair
from cai.train.soft_losses import row_weights, unit_mean
from cai.train.split import Split, prompt_key

LABELS = ("p_chosen", "weight", "label_margin")
"""Columns beside the ids. TRL reads a column `margin` by itself, hence another name."""


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """One pair as token ids: the prompt up to the opened answer, and each answer to its end token.

    The likelier answer comes first, so `p_chosen` is from 0.5 to 1. `weight` has mean 1 over the
    rows encoded together; `label_margin` is in log-odds.
    """

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    p_chosen: float
    weight: float = 1.0
    label_margin: float = 0.0

    @property
    def length(self) -> int:
        """Tokens of the longer of both sequences."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))

    def sequences(self, *, at_end: bool) -> list[Encoded]:
        """Both sequences with the tokens marked that the loss is read at."""
        found = []
        for answer in (self.chosen_ids, self.rejected_ids):
            num_read = 1 if at_end else len(answer)
            ids = self.prompt_ids + answer
            found.append(Encoded(ids, [place >= len(ids) - num_read for place in range(len(ids))]))
        return found


@dataclass(frozen=True, slots=True)
class PairRows:
    """Encoded pairs of both parts; validation in order of length, with the rows they are of."""

    train: list[EncodedPair]
    validation: list[EncodedPair]
    held_out: list[Pair]
    fit: Fit

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer sequence of each training pair."""
        return [pair.length for pair in self.train]

    def preview(
        self, tokenizer: Any, plan: Plan, config: CommonConfig, *, at_end: bool = False
    ) -> Preview:
        """A dry run's answer. `at_end`: the loss is read at the last token, as a reward model's."""
        rows = [one for pair in self.train for one in pair.sequences(at_end=at_end)]
        return make_preview(tokenizer, rows, self.fit, plan, config)


def encode_split(
    split: Split[Pair],
    encoder: Encoder,
    *,
    max_length: int | None,
    soft_labels: bool,
    margin: float = 0.0,
    per_prompt_weight: bool,
) -> PairRows:
    """Both parts within `max_length` tokens. Raises DataError when too little is left."""
    assert max_length is not None, "the config is resolved"
    fit = Fit(max_length)
    parts = [
        encode_pairs(
            rows,
            encoder,
            fit,
            soft_labels=soft_labels,
            margin=margin,
            per_prompt_weight=per_prompt_weight,
        )
        for rows in split
    ]
    fit.check()
    validation = sorted(parts[1], key=lambda one: one[1].length)
    return PairRows(
        [pair for _, pair in parts[0]],
        [pair for _, pair in validation],
        [row for row, _ in validation],
        fit,
    )


def encode_pairs(
    rows: Sequence[Pair],
    encoder: Encoder,
    fit: Fit,
    *,
    soft_labels: bool = True,
    margin: float = 0.0,
    per_prompt_weight: bool = False,
) -> list[tuple[Pair, EncodedPair]]:
    """The rows that fit, in order, each with its better answer first and as the trainers read it.

    `fit` counts those that do not. Raises DataError when none does, and when all weights are 0.
    """
    kept: list[tuple[Pair, EncodedAnswers]] = []
    for row in map(_better_first, rows):
        found = encoder.fit_answers(row.prompt, (row.chosen, row.rejected), fit)
        if found is not None:
            kept.append((row, found))
    if not kept:
        raise DataError(f"none of {len(rows)} pairs fits max_length {fit.max_length}; raise it")
    weights = _weights([row for row, _ in kept], per_prompt=per_prompt_weight)
    return [
        (
            row,
            EncodedPair(
                found.prompt_ids,
                found.answers[0],
                found.answers[1],
                p_chosen=row.p_chosen if soft_labels or row.p_chosen == 0.5 else 1.0,
                weight=weight,
                label_margin=margin * (2 * row.p_chosen - 1),
            ),
        )
        for (row, found), weight in zip(kept, weights, strict=True)
    ]


def answers_dataset(pairs: Sequence[EncodedPair]) -> Dataset:
    """For DPO: prompt and answers apart."""
    columns: dict[str, list[Any]] = {
        "prompt_ids": [pair.prompt_ids for pair in pairs],
        "chosen_ids": [pair.chosen_ids for pair in pairs],
        "rejected_ids": [pair.rejected_ids for pair in pairs],
    }
    return Dataset.from_dict(columns | _labels(pairs))


def sequences_dataset(pairs: Sequence[EncodedPair]) -> Dataset:
    """For the reward model: whole sequences, each a prompt and its answer."""
    columns: dict[str, list[Any]] = {
        "chosen_ids": [pair.prompt_ids + pair.chosen_ids for pair in pairs],
        "rejected_ids": [pair.prompt_ids + pair.rejected_ids for pair in pairs],
        "prompt_length": [len(pair.prompt_ids) for pair in pairs],
    }
    return Dataset.from_dict(columns | _labels(pairs))


class SoftSequenceCollator(SequenceCollator):  # type: ignore[misc]
    """Chosen sequences, then rejected ones, padded on the right; labels and prompts' lengths."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """One batch."""
        lengths_B = torch.tensor([example["prompt_length"] for example in examples])
        return {
            **super().torch_call(examples),
            **_label_tensors(examples),
            "prompt_length": lengths_B,
        }


class SoftAnswerCollator(AnswerCollator):  # type: ignore[misc]
    """Chosen sequences, then rejected ones, with a mask over the answers' tokens; labels."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """One batch."""
        return {**super().torch_call(examples), **_label_tensors(examples)}


def _better_first(row: Pair) -> Pair:
    if row.p_chosen >= 0.5:
        return row
    return replace(row, chosen=row.rejected, rejected=row.chosen, p_chosen=1 - row.p_chosen)


def _weights(rows: Sequence[Pair], *, per_prompt: bool) -> list[float]:
    weights = [row.weight for row in rows]
    try:
        if per_prompt:
            return row_weights([prompt_key(row.prompt) for row in rows], weights)
        return unit_mean(weights)
    except ValueError as exc:
        raise DataError(f"pairs of weight 0 alone: {exc}") from None


def _labels(pairs: Sequence[EncodedPair]) -> dict[str, list[float]]:
    return {name: [getattr(pair, name) for pair in pairs] for name in LABELS}


def _label_tensors(examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    return {
        name: torch.tensor([example[name] for example in examples], dtype=torch.float32)
        for name in LABELS
    }
