"""The figures of an iteration, as they stand in the curves. Start from `figures_of`."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cai.train.config import PpoConfig
from cai.train.ppo_maths import kl_estimate, logprob_gap
from cai.train.ppo_update import Batch

logger = logging.getLogger(__name__)

Figures = dict[str, float]


@dataclass(slots=True)
class Clock:
    """Seconds of each phase, by name."""

    seconds: Figures = field(default_factory=dict)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a block."""
        started = time.perf_counter()
        yield
        self.seconds[f"seconds_{phase}"] = time.perf_counter() - started


class WatchRow:
    """What the watch last wrote, to stand in the row of its iteration."""

    def __init__(self) -> None:
        self.values: Figures = {}

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take a row of the watch's."""
        self.values = dict(values)


def figures_of(batch: Batch, rewards: Sequence[float]) -> Figures:
    """What the policy does now. KL to the reference is in nats, by k1 and by the steadier k3."""
    mask, num_answers = batch.mask_BT, len(batch.episodes)
    k1, k3 = (
        float((kl_estimate(batch.logprobs_BT, batch.ref_logprobs_BT, kind) * mask).sum())
        for kind in ("k1", "k3")
    )
    num_tokens = int(mask.sum())
    return {
        "reward": statistics.fmean(rewards),
        "reward_std": statistics.pstdev(rewards),
        "kl_token": k1 / num_tokens,
        "kl_answer": k1 / num_answers,
        "kl_answer_k3": k3 / num_answers,
        "entropy": float(batch.entropy_BT.sum()) / num_tokens,
        "length": num_tokens / num_answers,
        "ended_share": sum(one.has_ended for one in batch.episodes) / num_answers,
    }


def gap_of(batch: Batch, config: PpoConfig) -> Figures:
    """How far the sampler's log-probs are from the trainer's; warns above the limit."""
    gap = logprob_gap(batch.logprobs_BT, batch.rollout_logprobs_BT, batch.mask_BT)
    if not gap.mean_abs <= config.gap_limit:
        logger.warning(
            "log-probs of sampler and trainer differ by %.4f nats on average (limit %.4f), at most "
            "%.4f; the mean importance ratio is %.4f",
            *(gap.mean_abs, config.gap_limit, gap.max_abs, gap.ratio),
        )
    return {"gap_mean_abs": gap.mean_abs, "gap_max_abs": gap.max_abs, "gap_ratio": gap.ratio}
