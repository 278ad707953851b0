"""TRL's RewardTrainer with a soft label, a margin and a weight per row, and exact figures.

Rows come encoded (see `pairs_data`). Start from `SoftRewardTrainer`; `cai.train.reward` runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl import RewardTrainer

from cai.stats.calibration import brier, calibration_error
from cai.stats.correlation import pearson, spearman
from cai.train.pairs_data import LABELS
from cai.train.soft_losses import centring_loss, preference_loss, weighted_mean


class ScoredPair(NamedTuple):
    """A pair as the model scores it: rewards, the label, and the answers' lengths in tokens."""

    chosen: float
    rejected: float
    p_chosen: float
    chosen_length: int
    rejected_length: int


class SoftRewardTrainer(RewardTrainer):  # type: ignore[misc]
    """Trains rewards whose differences are log-odds of being preferred."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: list[ScoredPair] = []

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["chosen_ids", "rejected_ids", "prompt_length", *LABELS]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Weighted mean of a batch's soft-label losses; its first half are the chosen answers."""
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
        )
        chosen_B, rejected_B = outputs.logits.squeeze(-1).float().chunk(2)
        loss_B = preference_loss(
            chosen_B - rejected_B, inputs["p_chosen"], margin_B=inputs["label_margin"]
        )
        if self.args.center_rewards_coefficient:
            loss_B = loss_B + self.args.center_rewards_coefficient * centring_loss(
                chosen_B, rejected_B
            )
        self._observe(chosen_B.detach(), rejected_B.detach(), inputs)
        loss = weighted_mean(loss_B, inputs["weight"])
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the figures of every validation pair to the log of an evaluation."""
        if not self.model.training and self._seen:
            logs.update(
                {f"eval_{name}": value for name, value in reward_report(self._seen).items()}
            )
            self._seen = []
        super().log(logs, start_time)

    def _observe(self, chosen_B: Tensor, rejected_B: Tensor, inputs: dict[str, Tensor]) -> None:
        lengths_2B = inputs["attention_mask"].sum(dim=1) - inputs["prompt_length"].repeat(2)
        rows_B5 = torch.stack([chosen_B, rejected_B, inputs["p_chosen"], *lengths_2B.chunk(2)], 1)
        rows = self.accelerator.gather_for_metrics(rows_B5).tolist()
        if not self.model.training:
            self._seen += [ScoredPair(*row) for row in rows]
            return
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        metrics = self._metrics["train"]
        metrics["num_tokens"] = [self._total_train_tokens]
        metrics["accuracy"].append(accuracy([ScoredPair(*row) for row in rows]))
        metrics["margin"].append(sum(row[0] - row[1] for row in rows) / len(rows))


def reward_report(pairs: Sequence[ScoredPair]) -> dict[str, float]:
    """Figures over scored pairs; what is not defined is left out.

    `calibration_error` and `brier` compare σ(Δ) with the labels. `length_*` correlate rewards with
    the answers' lengths; `length_gap_spearman` does so within pairs, where the prompt is the same.
    """
    gaps = [pair.chosen - pair.rejected for pair in pairs]
    beliefs = torch.sigmoid(torch.tensor(gaps, dtype=torch.float64)).tolist()
    labels = [pair.p_chosen for pair in pairs]
    rewards = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    lengths = [pair.chosen_length for pair in pairs] + [pair.rejected_length for pair in pairs]
    values_N = torch.tensor(rewards, dtype=torch.float64)
    figures = {
        "accuracy": accuracy(pairs),
        "brier": brier(beliefs, labels),
        "calibration_error": calibration_error(beliefs, labels),
        "margin": sum(gaps) / len(gaps),
        "mean_reward": values_N.mean().item(),
        "std_reward": values_N.std(correction=0).item(),
        "length_pearson": pearson(rewards, lengths),
        "length_spearman": spearman(rewards, lengths),
        "length_gap_spearman": spearman(
            gaps, [pair.chosen_length - pair.rejected_length for pair in pairs]
        ),
    }
    return {name: value for name, value in figures.items() if value is not None}


def accuracy(pairs: Sequence[ScoredPair]) -> float:
    """Share of pairs in which the answer that the label prefers has the higher reward.

    A tie of rewards is half right; labels of exactly one half have no better answer and are left
    out (0.5 when all are so).
    """
    decided = [pair for pair in pairs if pair.p_chosen != 0.5]
    right = 0.0
    for pair in decided:
        gap = (pair.chosen - pair.rejected) * (1 if pair.p_chosen > 0.5 else -1)
        right += 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0
    return right / len(decided) if decided else 0.5
