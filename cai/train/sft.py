"""Supervised training on demonstrations: SL-CAI when they are the revisions of a run.

Rows reach TRL's SFTTrainer as token ids of the encoder that serves, so what is trained is what is
served. Loss is on the assistant's turns alone. Start from `run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from datasets import Dataset
from trl import SFTConfig as SftArguments
from trl import SFTTrainer
from trl.data_utils import pack_dataset

from cai.errors import ConfigError, DataError
from cai.train.base import LoadedPolicy, load_policy, prepare
from cai.train.config import SftConfig
from cai.train.encode import Encoded, Encoder, Fit
from cai.train.export import Checkpoint, check_out
from cai.train.plan import OnProgress, Plan, Preview, make_preview
from cai.train.rows import Demonstration, Loaded
from cai.train.session import open_session, plan_of
from cai.train.sources import load_demonstrations
from cai.train.split import Split, split_by_prompt
from cai.train.state import Mode
from cai.train.trainer_common import RunTrainer, arguments

_NO_LOSS = -100


class RowTrainer(RunTrainer, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with our order of rows and sealed checkpoints."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded rows of both parts; validation rows in order of length, with the rows they are of."""

    train: list[Encoded]
    validation: list[Encoded]
    held_out: list[Demonstration]
    fit: Fit

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(row.ids) for row in (*self.train, *self.validation))


@overload
def run(
    config: SftConfig,
    *,
    dry_run: Literal[False] = False,
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Checkpoint: ...
@overload
def run(
    config: SftConfig,
    *,
    dry_run: Literal[True],
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Preview: ...
def run(
    config: SftConfig,
    *,
    dry_run: bool = False,
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Checkpoint | Preview:
    """Train on demonstrations, or say what would be done.

    Goes on from the newest checkpoint of an earlier call with the same settings, and gives what an
    unbroken run gives. Raises an InputError before training starts for anything that will not do.
    """
    data = load_demonstrations(config.data, config.use)
    _refuse_weights(data)
    split = split_by_prompt(data.rows, config.validation_share, config.seed)
    prepared = prepare(config.policy, config)
    if dry_run:
        check_out(config.out, name=config.name, replace=True)
        policy = load_policy(config.policy, config, prepared=prepared)
        rows = encode(policy.encoder, split, policy.config)
        train, _ = _train_dataset(rows.train, policy.config)
        plan = plan_of(policy, len(train), len(rows.validation), longest=rows.longest)
        return make_preview(
            *(policy.tokenizer, rows.train, rows.fit, plan, policy.config), left_out=data.left_out
        )
    with open_session(prepared, data, mode=mode, on_progress=progress) as session:
        if session.finished is not None:
            return session.finished
        policy = load_policy(config.policy, config, prepared=prepared)
        rows = encode(policy.encoder, split, policy.config)
        train, lengths = _train_dataset(rows.train, policy.config)
        plan = plan_of(policy, len(train), len(rows.validation), longest=rows.longest)
        trainer = _trainer(policy, plan, train, _dataset(rows.validation), session.folder)
        trained = session.train(trainer, plan, lengths=lengths)
        del trainer
        return session.finish(
            trained,
            policy,
            method="sft",
            prompts=[row.messages[:-1] for row in rows.held_out],
            answers=[row.messages[-1].content for row in rows.held_out],
            metrics={f"rows_{name}": value for name, value in rows.fit.as_dict().items()},
        )


def encode(encoder: Encoder, split: Split[Demonstration], config: SftConfig) -> Rows:
    """Token ids of both parts within `max_length`. Raises DataError when too little is left."""
    assert config.max_length is not None, "the config is resolved"
    fit = Fit(config.max_length)
    parts: list[list[tuple[Encoded, Demonstration]]] = [[], []]
    for part, rows in zip(parts, split, strict=True):
        for row in rows:
            encoded = encoder.fit(row.messages, fit, num_context=row.num_context)
            if encoded is not None:
                part.append((encoded, row))
    fit.check()
    for name, part in zip(("training", "validation"), parts, strict=True):
        if not part:
            raise DataError(
                f"every {name} row is longer than max_length {fit.max_length}; raise it"
            )
    validation = sorted(parts[1], key=lambda one: len(one[0].ids))
    return Rows(
        [encoded for encoded, _ in parts[0]],
        [encoded for encoded, _ in validation],
        [row for _, row in validation],
        fit,
    )


def _refuse_weights(data: Loaded[Demonstration]) -> None:
    for row in data.rows:
        if row.weight != 1.0:
            raise DataError(
                f"{row.place}: weight is {row.weight:g}, and sft counts every row once; leave the "
                "weights out, or repeat or drop rows instead"
            )


def _dataset(rows: Sequence[Encoded]) -> Dataset:
    labels = [
        [i if learnt else _NO_LOSS for i, learnt in zip(row.ids, row.is_learnt, strict=True)]
        for row in rows
    ]
    return Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": labels})


def _train_dataset(rows: Sequence[Encoded], config: SftConfig) -> tuple[Dataset, list[int] | None]:
    """Rows, packed if asked, with their lengths; packed rows are all alike."""
    dataset = _dataset(rows)
    if not config.packing:
        return dataset, [len(row.ids) for row in rows]
    return pack_dataset(dataset, config.max_length, "bfd"), None


def _trainer(
    policy: LoadedPolicy[SftConfig], plan: Plan, train: Dataset, validation: Dataset, folder: Any
) -> RowTrainer:
    config = policy.config
    if config.packing:
        _require_flash_attention(policy.model)
    args = arguments(
        SftArguments,
        config,
        plan,
        folder.checkpoints,
        max_length=None,
        packing=config.packing,
        eval_packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return RowTrainer(
        model=policy.model,
        args=args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=policy.tokenizer,
    )


def _require_flash_attention(model: Any) -> None:
    """Packed rows see each other under any other attention."""
    name = str(getattr(model.config, "_attn_implementation", ""))
    if "flash" not in name:
        raise ConfigError(
            f"packing needs flash attention, and this model runs on '{name}'; leave packing out: "
            "rows of like length share a batch, so little padding is wasted",
            param="packing",
        )
