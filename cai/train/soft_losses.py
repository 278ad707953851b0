"""The losses of preference learning with soft labels, per row, as plain functions of tensors.

A label is a probability that the first answer is the better one; 1 gives the usual hard-label loss.
Nothing here knows a model, a batch or a trainer. Start from `preference_loss`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from torch import Tensor
from torch.nn.functional import logsigmoid


def preference_loss(
    delta_B: Tensor, p_chosen_B: Tensor, *, margin_B: Tensor | float = 0.0
) -> Tensor:
    """Bernoulli cross-entropy of σ(Δ) with the label, in nats, one value per row.

    `delta_B` is score(chosen) - score(rejected) in log-odds. Without a margin this is
    -p log σ(Δ) - (1 - p) log σ(-Δ), smallest at Δ = logit p, where it is the label's entropy.
    A margin m asks each side to win by m: it is the mean, under the label, of the hard-label loss
    -log σ(±Δ - m) of Llama 2 (Touvron et al. 2023, eq. 2), so an undecided row still wants Δ = 0.
    """
    return -(
        p_chosen_B * logsigmoid(delta_B - margin_B)
        + (1 - p_chosen_B) * logsigmoid(-delta_B - margin_B)
    )


def smoothed(p_chosen_B: Tensor, label_smoothing: float) -> Tensor:
    """The label when each verdict is flipped with probability `label_smoothing` (0 to 0.5).

    On hard labels, `preference_loss` of it is the conservative DPO of Mitchell (2023).
    """
    return p_chosen_B * (1 - 2 * label_smoothing) + label_smoothing


def centring_loss(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    """Square of the sum of a pair's rewards: pulls their mean to zero, and leaves Δ free.

    Eisenstein et al. (2023), "Helping or Herding?", eq. 2, before its coefficient.
    """
    return (chosen_B + rejected_B) ** 2


def log_ratio_delta(
    policy_B2: Tensor, reference_B2: Tensor, *, lengths_B2: Tensor | None = None
) -> Tensor:
    """Log π/π_ref of the chosen answer less that of the rejected one, in nats, per row.

    Columns are (chosen, rejected); log-probs are sums over an answer's tokens. With `lengths_B2`
    (tokens, at least 1) each log-ratio is a mean per token: the length-normalised DPO.
    """
    ratios_B2 = policy_B2 - reference_B2
    if lengths_B2 is not None:
        ratios_B2 = ratios_B2 / lengths_B2.clamp(min=1)
    return ratios_B2[:, 0] - ratios_B2[:, 1]


def imitation_loss(logprobs_B: Tensor, lengths_B: Tensor, p_chosen_B: Tensor) -> Tensor:
    """Negative log-likelihood of the chosen answer per token, in nats, as far as it is the better.

    The factor 2p - 1 (not below 0) is how much more often the label calls the chosen answer the
    better one than the worse: a row that could go either way teaches nothing by imitation. With
    p = 1 it is the SFT term of Pang et al. (2024), "Iterative Reasoning Preference Optimization".
    """
    certainty_B = (2 * p_chosen_B - 1).clamp(min=0)
    return -certainty_B * logprobs_B / lengths_B.clamp(min=1)


def weighted_mean(loss_B: Tensor, weight_B: Tensor) -> Tensor:
    """Mean of weight × loss over the rows of a batch.

    It is not divided by the batch's weights: weights have mean 1 over the data set, and so a row
    pulls equally whatever rows share its batch.
    """
    return (loss_B * weight_B).mean()


def row_weights(prompts: Sequence[Hashable], weights: Sequence[float]) -> list[float]:
    """Weights with mean 1 in which every prompt counts as its average row does, not by its rows.

    A prompt ranked with K answers gives C(K, 2) rows, each weighted 1 / C(K, 2), as InstructGPT
    does (Ouyang et al. 2022, eq. 1); any other number of rows of one prompt likewise.
    """
    counts: dict[Hashable, int] = {}
    for prompt in prompts:
        counts[prompt] = counts.get(prompt, 0) + 1
    shares = [weight / counts[prompt] for prompt, weight in zip(prompts, weights, strict=True)]
    return unit_mean(shares)


def unit_mean(weights: Sequence[float]) -> list[float]:
    """The weights scaled to mean 1, so that they do not change the size of a step.

    Raises ValueError when they are all 0.
    """
    total = sum(weights)
    if not total > 0:
        raise ValueError(f"the {len(weights)} weights sum to {total}; at least one must be above 0")
    return [weight * len(weights) / total for weight in weights]
