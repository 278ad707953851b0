"""What a run is about to do, told before: samples, token statistics, steps, memory. Light.

Start from `make_plan`, and `Preview` for `--dry-run`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from cai.train.config import CommonConfig
from cai.train.encode import Encoded, Fit
from cai.train.memory import MemoryEstimate

NUM_SAMPLES = 3


class Progress(NamedTuple):
    """How far training is: optimizer steps done and planned, and the last figures by name."""

    step: int
    num_steps: int
    figures: dict[str, float]


OnProgress = Callable[[Progress], None]


class Piece(NamedTuple):
    """A stretch of a rendered sample, and whether its tokens carry loss."""

    text: str
    is_learnt: bool


class TokenStats(NamedTuple):
    """Tokens of the rows; `num_learnt` of all `total` carry loss."""

    shortest: int
    median: int
    longest: int
    total: int
    num_learnt: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of a run. Steps are optimizer steps."""

    num_train: int
    num_validation: int
    num_steps: int
    steps_per_epoch: int
    eval_every: int
    save_every: int
    batch_size: int
    micro_batch_size: int
    accumulation: int
    processes: int
    learning_rate: float
    precision: str
    num_parameters: int
    num_trained: int
    memory: MemoryEstimate

    def as_dict(self) -> dict[str, Any]:
        """For people and machines."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "memory"}
        return {**plain, "memory_bytes": self.memory._asdict()}


@dataclass(frozen=True, slots=True)
class Preview:
    """A dry run's answer: samples as pieces, statistics, how rows fitted, and the plan.

    `left_out` counts what the data has and no row was made of, by reason.
    """

    samples: tuple[tuple[Piece, ...], ...]
    tokens: TokenStats
    fit: dict[str, int]
    plan: Plan
    config: dict[str, Any]
    left_out: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "samples": [[piece._asdict() for piece in sample] for sample in self.samples],
            "tokens": self.tokens._asdict(),
            "fit": self.fit,
            "left_out": self.left_out,
            "plan": self.plan.as_dict(),
            "config": self.config,
        }


def make_plan(
    config: CommonConfig,
    *,
    num_train: int,
    num_validation: int,
    num_parameters: int,
    num_trained: int,
    memory: MemoryEstimate,
    processes: int = 1,
) -> Plan:
    """Steps of a resolved config over `num_train` rows, the last batch of an epoch may be short."""
    assert config.micro_batch_size is not None, "the config is resolved"
    assert config.learning_rate is not None, "the config is resolved"
    accumulation = config.batch_size // (config.micro_batch_size * processes)
    micro_steps = math.ceil(num_train / (config.micro_batch_size * processes))
    per_epoch = math.ceil(micro_steps / accumulation)
    num_steps = math.ceil(config.epochs * per_epoch)
    if config.max_steps is not None:
        num_steps = min(num_steps, config.max_steps)
    return Plan(
        num_train=num_train,
        num_validation=num_validation,
        num_steps=num_steps,
        steps_per_epoch=per_epoch,
        eval_every=max(1, math.ceil(per_epoch / config.evals_per_epoch)),
        save_every=max(1, math.ceil(per_epoch / config.saves_per_epoch)),
        batch_size=config.batch_size,
        micro_batch_size=config.micro_batch_size,
        accumulation=accumulation,
        processes=processes,
        learning_rate=config.learning_rate,
        precision=config.precision,
        num_parameters=num_parameters,
        num_trained=num_trained,
        memory=memory,
    )


def make_preview(
    tokenizer: Any,
    rows: Sequence[Encoded],
    fit: Fit,
    plan: Plan,
    config: CommonConfig,
    *,
    left_out: Mapping[str, int] | None = None,
) -> Preview:
    """The first, a middle and the last row with what they learn marked, and the numbers."""
    places = dict.fromkeys((0, len(rows) // 2, len(rows) - 1))
    samples = tuple(_pieces(tokenizer, rows[index]) for index in list(places)[:NUM_SAMPLES])
    return Preview(
        samples,
        token_stats(rows),
        fit.as_dict(),
        plan,
        config.model_dump(mode="json"),
        {reason: number for reason, number in (left_out or {}).items() if number},
    )


def token_stats(rows: Sequence[Encoded]) -> TokenStats:
    """Lengths of at least one row."""
    lengths = [len(row.ids) for row in rows]
    return TokenStats(
        min(lengths),
        int(statistics.median(lengths)),
        max(lengths),
        sum(lengths),
        sum(sum(row.is_learnt) for row in rows),
    )


def _pieces(tokenizer: Any, row: Encoded) -> tuple[Piece, ...]:
    pieces = []
    for is_learnt, group in groupby(zip(*row, strict=True), key=lambda pair: pair[1]):
        ids = [token_id for token_id, _ in group]
        text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        pieces.append(Piece(text, bool(is_learnt)))
    return tuple(pieces)
