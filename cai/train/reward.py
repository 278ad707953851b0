"""The reward model: a number per answer, trained on pairs so that differences are log-odds.

Rows reach TRL's RewardTrainer as token ids of the encoder that serves, with a soft label, a weight
and a margin each. Start from `run`; `cai.train.scorer` uses the result.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from trl import RewardConfig as RewardArguments

from cai.policy.manifest import RewardProbe
from cai.train.base import LoadedPolicy, load_reward_model, prepare
from cai.train.config import RewardConfig
from cai.train.export import Checkpoint, check_out
from cai.train.pairs_data import (
    EncodedPair,
    PairRows,
    SoftSequenceCollator,
    encode_split,
    sequences_dataset,
)
from cai.train.plan import OnProgress, Plan, Preview
from cai.train.session import Session, open_session, plan_of
from cai.train.soft_reward_trainer import SoftRewardTrainer
from cai.train.sources import load_pairs
from cai.train.split import split_by_prompt
from cai.train.state import Mode
from cai.train.trainer_common import RunTrainer, arguments


class PairTrainer(RunTrainer, SoftRewardTrainer):
    """TRL's trainer with our loss, our order of rows and sealed checkpoints."""


@overload
def run(
    config: RewardConfig,
    *,
    dry_run: Literal[False] = False,
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Checkpoint: ...
@overload
def run(
    config: RewardConfig,
    *,
    dry_run: Literal[True],
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Preview: ...
def run(
    config: RewardConfig,
    *,
    dry_run: bool = False,
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Checkpoint | Preview:
    """Train a reward model on pairs and rankings, or say what would be done.

    Goes on from the newest checkpoint of an earlier call with the same settings, and gives what an
    unbroken run gives. Raises an InputError before training starts for anything that will not do.
    """
    data = load_pairs(config.data)
    split = split_by_prompt(data.rows, config.validation_share, config.seed)
    prepared = prepare(config.policy, config)
    if dry_run:
        check_out(config.out, name=config.name, replace=True)
        policy = load_reward_model(config.policy, config, prepared=prepared)
        rows = _encode(policy, split)
        return rows.preview(policy.tokenizer, _plan(policy, rows), policy.config, at_end=True)
    with open_session(prepared, data, mode=mode, on_progress=progress) as session:
        if session.finished is not None:
            return session.finished
        policy = load_reward_model(config.policy, config, prepared=prepared)
        begin_head(policy)
        rows = _encode(policy, split)
        return _train(session, policy, rows)


def begin_head(policy: LoadedPolicy[Any]) -> None:
    """Let a new head begin at 0, so that every answer has the same reward; a trained one stays.

    Random weights would be noise, as large as what the first steps learn.
    """
    manifest = policy.facts.manifest
    if manifest is None or manifest.kind != "reward":
        for name, parameter in policy.model.named_parameters():
            if "score" in name.split("."):
                torch.nn.init.zeros_(parameter)


def reward_probes(
    model: Any, pairs: Sequence[EncodedPair], *, num: int, seed: int
) -> tuple[RewardProbe, ...]:
    """Sequences drawn by `seed`, each with the reward that `model` gives it alone, in float32."""
    sequences = [
        pair.prompt_ids + answer
        for pair in pairs
        for answer in (pair.chosen_ids, pair.rejected_ids)
    ]
    drawn = random.Random(f"probes|{seed}").sample(sequences, min(num, len(sequences)))
    model.eval()
    probes = []
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        for ids in drawn:
            ids_1L = torch.tensor([ids], device=model.device)
            reward = model(input_ids=ids_1L, use_cache=False).logits.float().item()
            probes.append(RewardProbe(ids=tuple(ids), reward=reward))
    return tuple(probes)


def _encode(policy: LoadedPolicy[RewardConfig], split: Any) -> PairRows:
    config = policy.config
    return encode_split(
        split,
        policy.encoder,
        max_length=config.max_length,
        soft_labels=config.soft_labels,
        margin=config.margin,
        per_prompt_weight=config.per_prompt_weight,
    )


def _plan(policy: LoadedPolicy[RewardConfig], rows: PairRows) -> Plan:
    return plan_of(policy, len(rows.train), len(rows.validation), longest=max(rows.lengths))


def _train(session: Session, policy: LoadedPolicy[RewardConfig], rows: PairRows) -> Checkpoint:
    plan = _plan(policy, rows)
    trainer = _trainer(policy, plan, rows, session.folder.checkpoints)
    trained = session.train(trainer, plan, lengths=rows.lengths)
    del trainer
    model = session.best_model(trained, policy)
    config = policy.config
    return session.finish(
        trained,
        policy,
        method="reward",
        kind="reward",
        model=model,
        prompts=[],
        reward_probes=reward_probes(
            model, rows.validation, num=config.num_probes, seed=config.seed
        ),
        metrics={f"rows_{name}": value for name, value in rows.fit.as_dict().items()},
    )


def _trainer(
    policy: LoadedPolicy[RewardConfig], plan: Plan, rows: PairRows, folder: Any
) -> PairTrainer:
    config, pad_id = policy.config, policy.encoder.pad_id
    policy.tokenizer.pad_token = policy.tokenizer.convert_ids_to_tokens(pad_id)
    return PairTrainer(
        model=policy.model,
        args=arguments(
            RewardArguments,
            config,
            plan,
            folder,
            max_length=None,
            center_rewards_coefficient=config.centring or None,
            disable_dropout=config.lora is None or not config.lora.dropout,
        ),
        data_collator=SoftSequenceCollator(pad_token_id=pad_id),
        train_dataset=sequences_dataset(rows.train),
        eval_dataset=sequences_dataset(rows.validation),
        processing_class=policy.tokenizer,
    )
