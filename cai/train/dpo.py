"""Direct preference optimisation: the policy itself as the reward model, held by its reference.

Rows reach TRL's DPOTrainer as token ids of the encoder that serves, with a soft label and a weight
each. The reference is the policy that training begins from; what it thinks of every answer is
computed once. Start from `run`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

from trl import DPOConfig as DpoArguments

from cai.files import replace_json
from cai.train.base import LoadedPolicy, is_main_process, load_policy, prepare
from cai.train.config import DpoConfig
from cai.train.dpo_watch import DpoWatch, open_watch
from cai.train.export import Checkpoint, check_out
from cai.train.memory import told_when_full
from cai.train.pairs_data import PairRows, SoftAnswerCollator, answers_dataset, encode_split
from cai.train.plan import OnProgress, Plan, Preview
from cai.train.rows import Pair
from cai.train.session import Session, Trained, open_session, plan_of
from cai.train.soft_dpo_trainer import SoftDPOTrainer
from cai.train.sources import load_pairs
from cai.train.split import Split, split_by_prompt
from cai.train.state import WATCH, Mode
from cai.train.trainer_common import RunTrainer, arguments, device_to_load_on

logger = logging.getLogger(__name__)


class PairTrainer(RunTrainer, SoftDPOTrainer):
    """TRL's trainer with our loss, our order of rows and sealed checkpoints."""


@overload
def run(
    config: DpoConfig,
    *,
    dry_run: Literal[False] = False,
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Checkpoint: ...
@overload
def run(
    config: DpoConfig,
    *,
    dry_run: Literal[True],
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Preview: ...
def run(
    config: DpoConfig,
    *,
    dry_run: bool = False,
    progress: OnProgress | None = None,
    mode: Mode = "auto",
) -> Checkpoint | Preview:
    """Train a policy on pairs and rankings, or say what would be done.

    Goes on from the newest checkpoint of an earlier call with the same settings, and gives what an
    unbroken run gives. Raises an InputError before training starts for anything that will not do.
    """
    data = load_pairs(config.data)
    split = split_by_prompt(data.rows, config.validation_share, config.seed)
    prepared = prepare(config.policy, config)
    if dry_run:
        check_out(config.out, name=config.name, replace=True)
        policy = load_policy(config.policy, config, prepared=prepared)
        rows = _encode(policy, split)
        return rows.preview(policy.tokenizer, _plan(policy, rows), policy.config)
    with open_session(prepared, data, mode=mode, on_progress=progress) as session:
        if session.finished is not None:
            return session.finished
        with told_when_full(prepared.config):
            device = device_to_load_on()  # the reference is read before the trainer places it
            policy = load_policy(config.policy, config, device=device, prepared=prepared)
            rows = _encode(policy, split)
            return _train(session, policy, rows)


def _encode(policy: LoadedPolicy[DpoConfig], split: Split[Pair]) -> PairRows:
    config = policy.config
    return encode_split(
        split,
        policy.encoder,
        max_length=config.max_length,
        soft_labels=config.soft_labels,
        per_prompt_weight=config.per_prompt_weight,
    )


def _plan(policy: LoadedPolicy[DpoConfig], rows: PairRows) -> Plan:
    plan = plan_of(policy, len(rows.train), len(rows.validation), longest=max(rows.lengths))
    config = policy.config
    if config.judge is None:
        return plan
    return replace(plan, eval_every=config.watch.often_enough(plan.eval_every, plan.num_steps))


def _train(session: Session, policy: LoadedPolicy[DpoConfig], rows: PairRows) -> Checkpoint:
    plan = _plan(policy, rows)
    policy.model.eval()  # what the reference thinks is computed next, and without dropout
    with open_watch(policy, rows) as watch:
        trainer = _trainer(policy, plan, rows, watch, session.folder.checkpoints)
        trained = session.train(
            trainer,
            plan,
            lengths=rows.lengths,
            may_stop=watch.reason_to_stop,
            best=watch.best_step,
        )
        if is_main_process():
            replace_json(session.folder.folder / WATCH, watch.report(trained.history))
    del trainer
    _warn_if_both_fell(trained)
    return session.finish(
        trained,
        policy,
        method="dpo",
        prompts=[row.prompt for row in rows.held_out],
        answers=[row.chosen for row in rows.held_out],
        metrics={f"rows_{name}": value for name, value in rows.fit.as_dict().items()},
    )


def _warn_if_both_fell(trained: Trained) -> None:
    """Say so when even the better answers became less likely than they were."""
    figures = trained.metrics()
    if figures["eval_both_fell"]:
        logger.warning(
            "chosen and rejected answers both became less likely than under the reference "
            "(%.1f and %.1f nats): raise sft_weight or beta, or lower learning_rate",
            figures["eval_logps/chosen"] - figures["eval_logps/ref_chosen"],
            figures["eval_logps/rejected"] - figures["eval_logps/ref_rejected"],
        )


def _trainer(
    policy: LoadedPolicy[DpoConfig], plan: Plan, rows: PairRows, watch: DpoWatch, folder: Path
) -> PairTrainer:
    config = policy.config
    terms = {"sigmoid_norm" if config.length_normalised else "sigmoid": 1.0}
    if config.sft_weight:
        terms["sft"] = config.sft_weight
    return PairTrainer(
        model=policy.model,
        args=arguments(
            DpoArguments,
            config,
            plan,
            folder,
            max_length=None,
            beta=config.beta,
            label_smoothing=config.label_smoothing,
            loss_type=list(terms),
            loss_weights=list(terms.values()),
            precompute_ref_log_probs=True,
            disable_dropout=config.lora is None or not config.lora.dropout,
        ),
        data_collator=SoftAnswerCollator(pad_token_id=policy.encoder.pad_id),
        train_dataset=answers_dataset(rows.train),
        eval_dataset=answers_dataset(rows.validation),
        processing_class=policy.tokenizer,
        watch=watch,
    )
