"""One PPO update: what the networks say of a batch, its advantages, and epochs of minibatches.

A `Batch` holds its arrays padded, (B, T), on the host; the networks see short rows only. Start
from `assess`, then `with_advantages`, then `update`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from cai.train.buckets import buckets
from cai.train.ppo_layout import lay_out
from cai.train.ppo_maths import (
    gae,
    kl_estimate,
    over_deviation,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from cai.train.ppo_models import Actor, Critic
from cai.train.rollouts import Episode

if TYPE_CHECKING:
    from cai.train.config import PpoConfig


@dataclass(frozen=True, slots=True)
class Batch:
    """Episodes and what was known of them before the update. (B, T) each; padding is 0.

    `entropy_BT` is the policy's at each token; `kl_BT` the estimate that the rewards were made of.
    """

    episodes: tuple[Episode, ...]
    mask_BT: Tensor
    rollout_logprobs_BT: Tensor
    logprobs_BT: Tensor
    ref_logprobs_BT: Tensor
    values_BT: Tensor
    entropy_BT: Tensor
    kl_BT: Tensor
    advantages_BT: Tensor
    returns_BT: Tensor


class Trained(NamedTuple):
    """The networks that learn, and what moves them."""

    actor: Actor
    critic: Critic
    optimizer: torch.optim.Optimizer
    accelerator: Any


class UpdateStats(NamedTuple):
    """Means over all tokens of all minibatches of an update.

    `approx_kl` is Schulman's k3 between old and new policy; `padding_share` is the padding among
    the tokens that were computed; norms are those before clipping, means over optimizer steps.
    """

    policy_loss: float
    value_loss: float
    clip_share: float
    value_clip_share: float
    approx_kl: float
    policy_grad_norm: float
    value_grad_norm: float
    padding_share: float


@torch.no_grad()  # type: ignore[untyped-decorator]
def assess(
    episodes: Sequence[Episode],
    actor: Actor,
    reference: Actor,
    critic: Critic,
    *,
    max_rows: int,
    accelerator: Any,
) -> Batch:
    """The trainer's own log-probs, the reference's, and values: one pass each, without gradients.

    These log-probs, not the rollout engine's, are the "old" ones of the ratio.
    """
    shape = len(episodes), max(len(one.response_ids) for one in episodes)
    ends = torch.tensor([len(one.response_ids) for one in episodes])
    mask = torch.arange(shape[1])[None, :] < ends[:, None]
    found = {name: torch.zeros(shape) for name in ("old", "ref", "values", "entropy")}
    on = accelerator.device
    lengths = [one.num_tokens for one in episodes]
    for rows in buckets(lengths, max_rows=max_rows, device_type=on.type):
        layout = lay_out([episodes[row] for row in rows], device=on)
        with accelerator.autocast():
            old, ref, values = actor(layout, with_entropy=True), reference(layout), critic(layout)
        answers = old.logprobs_N, ref.logprobs_N, values, old.entropy_N
        for array, answer in zip(found.values(), answers, strict=True):
            _put(array, rows, mask, answer)
    padded = [(*one.logprobs, *(0.0,) * (shape[1] - len(one.logprobs))) for one in episodes]
    sampled = torch.tensor(padded)
    zeros = torch.zeros(shape)
    return Batch(
        tuple(episodes), mask, sampled, found["old"], found["ref"], found["values"],
        found["entropy"], zeros, zeros, zeros,
    )  # fmt: skip


def with_advantages(
    batch: Batch, scores: Sequence[float], config: PpoConfig, *, kl_coef: float
) -> Batch:
    """The batch with KL, advantages (whitened) and returns, from one score per episode."""
    mask = batch.mask_BT
    kl = kl_estimate(batch.logprobs_BT, batch.ref_logprobs_BT, config.kl_estimator) * mask
    rewards = token_rewards(torch.tensor(scores), kl, mask, kl_coef=kl_coef)
    if config.whiten_rewards:
        rewards = over_deviation(rewards, mask)
    found = gae(rewards, batch.values_BT, mask, gamma=config.gamma, lam=config.lam)
    advantages = whiten(found.advantages, mask) if config.whiten_advantages else found.advantages
    return replace(batch, kl_BT=kl, advantages_BT=advantages, returns_BT=found.returns)


def update(
    batch: Batch, trained: Trained, config: PpoConfig, *, order: random.Random, only_value: bool
) -> UpdateStats:
    """Epochs of minibatches in the order that `order` draws; `only_value` warms the critic up.

    Each minibatch is one optimizer step on the mean over its response tokens, however it is cut
    into passes. The warm-up's values are not clipped: a new critic has far to go.
    """
    assert config.micro_batch_size is not None, "the config is resolved"
    sums: dict[str, Any] = dict.fromkeys(UpdateStats._fields, 0.0)
    on = trained.accelerator.device
    num_steps = num_tokens = num_computed = num_real = 0
    for minibatch in _minibatches(len(batch.episodes), config, order):
        size = sum(len(batch.episodes[row].response_ids) for row in minibatch)
        lengths = [batch.episodes[row].num_tokens for row in minibatch]
        for bucket in buckets(lengths, max_rows=config.micro_batch_size, device_type=on.type):
            rows = [minibatch[index] for index in bucket]
            loss = _backward(batch, rows, trained, config, num_tokens=size, only_value=only_value)
            for name, value in loss.items():
                sums[name] += value
            num_computed += len(rows) * max(lengths[index] for index in bucket)
        num_real += sum(lengths)
        for name, network in (("policy", trained.actor), ("value", trained.critic)):
            norm = trained.accelerator.clip_grad_norm_(network.parameters(), config.max_grad_norm)
            sums[f"{name}_grad_norm"] += norm
        trained.optimizer.step()
        trained.optimizer.zero_grad(set_to_none=True)
        num_steps, num_tokens = num_steps + 1, num_tokens + size
    norms = {n: float(total) / num_steps for n, total in sums.items() if n.endswith("_norm")}
    means = {n: float(total) / num_tokens for n, total in sums.items()}
    return UpdateStats(**{**means, **norms, "padding_share": 1 - num_real / num_computed})


def _minibatches(num_rows: int, config: PpoConfig, order: random.Random) -> Iterator[list[int]]:
    """All rows once per epoch, newly shuffled, in nearly equal parts of `batch_size` at most."""
    num_parts = math.ceil(num_rows / config.batch_size)
    for _ in range(config.ppo_epochs):
        rows = list(range(num_rows))
        order.shuffle(rows)
        for part in range(num_parts):
            yield rows[part::num_parts]


def _backward(
    batch: Batch,
    rows: Sequence[int],
    trained: Trained,
    config: PpoConfig,
    *,
    num_tokens: int,
    only_value: bool,
) -> dict[str, Tensor]:
    """One pass over some rows of a minibatch of `num_tokens`; gives sums over their tokens."""
    layout = lay_out([batch.episodes[row] for row in rows], device=trained.accelerator.device)

    def known(array_BT: Tensor) -> Tensor:
        return array_BT[rows][batch.mask_BT[rows]].to(layout.ids_BL.device)

    with trained.accelerator.autocast():
        values = trained.critic(layout)
    clip = None if only_value else config.value_clip
    fit = value_loss(values, known(batch.values_BT), known(batch.returns_BT), clip=clip)
    total = config.value_coef * fit.total
    sums = {"value_loss": fit.total.detach(), "value_clip_share": fit.num_clipped}
    if not only_value:
        with trained.accelerator.autocast():
            logprobs = trained.actor(layout).logprobs_N
        old = known(batch.logprobs_BT)
        gain = policy_loss(logprobs, old, known(batch.advantages_BT), clip=config.clip)
        total = total + gain.total
        change = kl_estimate(old, logprobs.detach(), "k3").sum()
        sums |= {"policy_loss": gain.total.detach(), "clip_share": gain.num_clipped}
        sums |= {"approx_kl": change}
    trained.accelerator.backward(total / num_tokens)
    return sums


def _put(array_BT: Tensor, rows: Sequence[int], mask_BT: Tensor, flat_N: Tensor | None) -> None:
    assert flat_N is not None
    part = torch.zeros(len(rows), array_BT.shape[1])
    part[mask_BT[list(rows)]] = flat_N.float().cpu()
    array_BT[list(rows)] = part
