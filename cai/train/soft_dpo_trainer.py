"""TRL's DPOTrainer with a soft label and a weight per row, and an SFT term that minds both.

Takes the terms `sigmoid` or `sigmoid_norm` (per token), and `sft`, from TRL's own `loss_type` list.
Start from `SoftDPOTrainer`; `cai.train.dpo` runs it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol
from unittest.mock import patch

import torch
from torch import Tensor
from trl import DPOTrainer

from cai.errors import ConfigError
from cai.train.pairs_data import LABELS
from cai.train.soft_losses import (
    imitation_loss,
    log_ratio_delta,
    preference_loss,
    smoothed,
    weighted_mean,
)
from cai.train.trainer_common import from_main

TERMS = ("sigmoid", "sigmoid_norm", "sft")
_FALL_NATS = 0.5
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


class JudgedPair(NamedTuple):
    """A pair as policy and reference see it: log-probs of whole answers in nats, and the label."""

    chosen: float
    rejected: float
    ref_chosen: float
    ref_rejected: float
    p_chosen: float


class Watcher(Protocol):
    """Looks at the policy at each validation: `cai.train.dpo_watch.DpoWatch`."""

    def measure(self, model: Any) -> dict[str, float]:
        """Figures of the policy as it is now, before its validation rows are read."""
        ...

    def observe(
        self, step: int, figures: dict[str, float], history: Sequence[dict[str, Any]]
    ) -> dict[str, float]:
        """What is to be logged, under these names, beside the validation's `figures`."""
        ...


class SoftDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """Trains a policy whose log-ratios to the reference are rewards.

    `watch` measures the policy at each validation, its distance to the reference (`kl`) included.
    """

    def __init__(self, *args: Any, watch: Watcher | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        unknown = [name for name in self.loss_types if name not in TERMS]
        if unknown or not self.precompute_ref_logps:
            raise ConfigError(
                f"loss_type {self.loss_types}: soft labels go with {', '.join(TERMS)}, and with "
                "reference log-probs computed beforehand"
            )
        if "ref" in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter("ref")  # TRL's copy of the adapter has done its work
        self._watch = watch
        self._measured: dict[str, float] = {}
        self._seen: list[JudgedPair] = []

    def _prepare_dataset(self, dataset: Any, *_args: Any) -> Any:
        return dataset  # rows come encoded, by the code that serves

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "chosen_ids", "rejected_ids", *_REFERENCE, *LABELS]

    def _precompute_ref_logps(self, dataset: Any, *args: Any) -> Any:
        # Rows in memory have a cache folder per process, and only the main process writes its own.
        cache = from_main(lambda: dataset._get_cache_file_path("ref"))
        with (
            patch.object(dataset, "_get_cache_file_path", lambda _fingerprint: cache),
            patch.dict(os.environ, {"TQDM_DISABLE": "1"}),  # progress is told by our callbacks
        ):
            return super()._precompute_ref_logps(dataset, *args)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Tensor]) -> Any:
        """Reference log-probs of a batch; labels are no input of the model."""
        return super().compute_ref_log_probs(
            model, {name: value for name, value in inputs.items() if name not in LABELS}
        )

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        mask = inputs["completion_mask"]
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=inputs["input_ids"].masked_fill(mask == 0, -100),
            fused_lm_head=True,
            use_cache=False,
        )
        policy_B2 = torch.stack(outputs.log_probs.float().sum(dim=1).chunk(2), dim=1)
        reference_B2 = torch.stack([inputs[name].float() for name in _REFERENCE], dim=1)
        lengths_B2 = torch.stack(mask.sum(dim=1).chunk(2), dim=1)
        p_chosen_B = smoothed(inputs["p_chosen"], self.label_smoothing)
        loss_B = torch.zeros_like(p_chosen_B)
        for term, share in zip(self.loss_types, self.loss_weights, strict=True):
            if term == "sft":
                loss_B = loss_B + share * imitation_loss(
                    policy_B2[:, 0], lengths_B2[:, 0], inputs["p_chosen"]
                )
                continue
            per_token = lengths_B2 if term == "sigmoid_norm" else None
            delta_B = log_ratio_delta(policy_B2, reference_B2, lengths_B2=per_token)
            loss_B = loss_B + share * preference_loss(self.beta * delta_B, p_chosen_B)
        self._observe(policy_B2.detach(), reference_B2, inputs)
        loss = weighted_mean(loss_B, inputs["weight"])
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The validation set's figures, with the distance to the reference among them."""
        self._measured = self._watch.measure(self.model) if self._watch is not None else {}
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the figures of every validation pair to the log of an evaluation."""
        if not self.model.training and self._seen:
            figures = preference_report(self._seen, beta=self.beta) | self._measured
            figures["both_fell"] = float(both_fell(figures))
            logs.update({f"eval_{name}": value for name, value in figures.items()})
            if self._watch is not None:
                state = self.state
                logs.update(self._watch.observe(state.global_step, figures, state.log_history))
            self._seen = []
        super().log(logs, start_time)

    def _observe(self, policy_B2: Tensor, reference_B2: Tensor, inputs: dict[str, Tensor]) -> None:
        rows_B5 = torch.cat([policy_B2, reference_B2, inputs["p_chosen"][:, None]], dim=1)
        rows = self.accelerator.gather_for_metrics(rows_B5).tolist()
        pairs = [JudgedPair(*row) for row in rows]
        if not self.model.training:
            self._seen += pairs
            return
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        for name, value in preference_report(pairs, beta=self.beta).items():
            self._metrics["train"][name].append(value)


def preference_report(pairs: Sequence[JudgedPair], *, beta: float) -> dict[str, float]:
    """Means over pairs: log-probs of answers in nats, and the rewards β log π/π_ref they imply.

    `rewards/accuracies` is the share whose preferred answer has the higher reward, a tie half.
    """
    rows_N5 = torch.tensor(pairs, dtype=torch.float64)
    policy_N2, reference_N2, p_chosen_N = rows_N5[:, :2], rows_N5[:, 2:4], rows_N5[:, 4]
    rewards_N2 = beta * (policy_N2 - reference_N2)
    gap_N = rewards_N2[:, 0] - rewards_N2[:, 1]
    decided_N = p_chosen_N != 0.5
    right_N = (1 + torch.sign(gap_N) * torch.sign(p_chosen_N - 0.5)) / 2
    accuracy = right_N[decided_N].mean().item() if bool(decided_N.any()) else 0.5
    return {
        "rewards/chosen": rewards_N2[:, 0].mean().item(),
        "rewards/rejected": rewards_N2[:, 1].mean().item(),
        "rewards/margins": gap_N.mean().item(),
        "rewards/accuracies": accuracy,
        "logps/chosen": policy_N2[:, 0].mean().item(),
        "logps/rejected": policy_N2[:, 1].mean().item(),
        "logps/ref_chosen": reference_N2[:, 0].mean().item(),
        "logps/ref_rejected": reference_N2[:, 1].mean().item(),
    }


def both_fell(figures: dict[str, float]) -> bool:
    """Whether chosen answers became less likely than under the reference, and rejected ones too.

    A fall of the chosen ones counts from half a nat per answer on: less is noise of a held-out set.
    """
    fall = figures["logps/ref_chosen"] - figures["logps/chosen"]
    return fall > _FALL_NATS and figures["logps/rejected"] < figures["logps/ref_rejected"]
