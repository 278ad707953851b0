"""What PPO does when: iterations, learning rates, and which prompts come in which iteration.

All of it is a function of the config and a counter, so a run that goes on after a kill needs its
counters alone. Start from `Schedule.of` and `prompts_of`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cai.train.config import PpoConfig

if TYPE_CHECKING:
    import torch

PromptT = TypeVar("PromptT")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When what happens, in iterations; a function of the config and the number of prompts."""

    num_iterations: int
    num_warmup: int
    eval_every: int
    save_every: int
    rows_at_once: int
    shape: str

    @classmethod
    def of(cls, config: PpoConfig, num_prompts: int) -> Schedule:
        """`max_steps` counts optimizer steps, of which an iteration has many."""
        assert config.micro_batch_size is not None, "the config is resolved"
        per_epoch = num_prompts / config.rollout_size
        num_iterations = math.ceil(config.epochs * per_epoch)
        if config.max_steps is not None:
            num_iterations = min(num_iterations, math.ceil(config.max_steps / steps_of(config)))
        eval_every = max(1, round(per_epoch / config.evals_per_epoch))
        if config.judge is not None:
            eval_every = config.watch.often_enough(eval_every, num_iterations)
        return cls(
            num_iterations=num_iterations,
            num_warmup=round(config.warmup_share * num_iterations),
            eval_every=eval_every,
            save_every=max(1, round(per_epoch / config.saves_per_epoch)),
            rows_at_once=config.micro_batch_size,
            shape=config.schedule,
        )

    def share_of_peak(self, iteration: int) -> float:
        """The learning rate of an iteration, from 0, as a share of its peak."""
        if iteration < self.num_warmup:
            return (iteration + 1) / (self.num_warmup + 1)
        left = 1 - (iteration - self.num_warmup) / max(1, self.num_iterations - self.num_warmup)
        if self.shape == "cosine":
            return 0.5 * (1 - math.cos(math.pi * left))
        return left if self.shape == "linear" else 1.0


def steps_of(config: PpoConfig) -> int:
    """Optimizer steps of one whole iteration."""
    return config.ppo_epochs * math.ceil(config.rollout_size / config.batch_size)


def prompts_of(prompts: Sequence[PromptT], iteration: int, config: PpoConfig) -> list[PromptT]:
    """The prompts of an iteration, from 0: the next `rollout_size` of endless shuffled passes."""
    first = iteration * config.rollout_size
    found: list[PromptT] = []
    while len(found) < config.rollout_size:
        epoch, place = divmod(first + len(found), len(prompts))
        draw = random.Random(f"prompts|{config.seed}|{epoch}")
        order = draw.sample(range(len(prompts)), len(prompts))[place:]
        found += [prompts[index] for index in order[: config.rollout_size - len(found)]]
    return found


def minibatch_order(config: PpoConfig, iteration: int) -> random.Random:
    """What shuffles the episodes of an iteration."""
    return random.Random(f"minibatches|{config.seed}|{iteration}")


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group's rate to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = share * group["peak"]
