"""The maths of PPO on tensors, and nothing else: KL, rewards, GAE, whitening, clipped losses.

Padded arrays are (B, T): sequences by response tokens, with a mask that is True on real tokens.
The losses take flat arrays (N,): the real tokens of a minibatch, without padding.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

KlEstimator = Literal["k1", "k3"]

_TINY = 1e-8


class Advantages(NamedTuple):
    """(B, T) each; `returns` are what the value model is to predict."""

    advantages: Tensor
    returns: Tensor


class ClippedLoss(NamedTuple):
    """`total` is the sum over the tokens; `num_clipped` counts those where the clip decided."""

    total: Tensor
    num_clipped: Tensor


class Gap(NamedTuple):
    """How far two log-probs of the same sampled tokens are apart, in nats.

    `ratio` is the mean over sequences of exp(Σ trainer − rollout): 1 where both are one policy.
    """

    mean_abs: float
    max_abs: float
    ratio: float


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the entries where the mask is True."""
    return (x * mask).sum() / mask.sum()


def whiten(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Shift and scale real tokens to mean 0 and variance 1 (unbiased): [1, 2, 3] to [-1, 0, 1].

    A single token has no variance and is only shifted. Padding becomes 0.
    """
    centred = (x_BT - masked_mean(x_BT, mask_BT)) * mask_BT
    return centred * torch.rsqrt(_variance(centred, mask_BT) + _TINY)


def over_deviation(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Divide real tokens by their standard deviation (unbiased): [2, 4, 6] becomes [1, 2, 3].

    Nothing is added to a token, so a reward of 0 stays 0 and a longer answer earns no more for its
    length. Without a deviation the tokens stay as they are. Padding becomes 0.
    """
    variance = _variance((x_BT - masked_mean(x_BT, mask_BT)) * mask_BT, mask_BT)
    return x_BT * mask_BT / torch.where(variance > _TINY, variance, 1.0).sqrt()


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, kind: KlEstimator) -> Tensor:
    """Schulman's estimators of KL(policy ‖ reference), per token sampled from the policy, in nats.

    With r = p_ref / p (http://joschu.net/blog/kl-approx.html): k1 = −log r, unbiased, of either
    sign; k3 = (r − 1) − log r, unbiased, never negative. At p = 0.5 and p_ref = 0.25, r is 0.5:
    k1 = 0.6931, k3 = −0.5 + 0.6931 = 0.1931. As a *reward* only k1 has the KL-regularised optimum
    as its fixed point: the policy gradient does not pass through the estimate itself.
    """
    log_ratio = ref_logprobs - logprobs
    return -log_ratio if kind == "k1" else log_ratio.exp() - 1 - log_ratio


def token_rewards(scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, *, kl_coef: float) -> Tensor:
    """−kl_coef · KL on every token, and the sequence's score on its last: (B, T)."""
    rewards = -kl_coef * kl_BT * mask_BT
    last = mask_BT.sum(1) - 1
    rewards[torch.arange(len(scores_B), device=rewards.device), last] += scores_B
    return rewards


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float
) -> Advantages:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16), backwards in time.

    δ_t = r_t + γ·V_{t+1} − V_t with V = 0 after the last token; A_t = δ_t + γλ·A_{t+1};
    returns = A + V. With r = [0, 1], V = [0.5, 0.25], γ = 1, λ = 0.5: δ = [−0.25, 0.75],
    A = [0.125, 0.75], returns = [0.625, 1].
    """
    values = values_BT * mask_BT
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = (rewards_BT + gamma * following - values) * mask_BT
    advantages = torch.zeros_like(deltas)
    running = torch.zeros_like(deltas[:, 0])
    for t in reversed(range(deltas.shape[1])):
        running = deltas[:, t] + gamma * lam * running
        advantages[:, t] = running
    return Advantages(advantages, advantages + values)


def policy_loss(
    logprobs_N: Tensor, old_logprobs_N: Tensor, advantages_N: Tensor, *, clip: float
) -> ClippedLoss:
    """The clipped surrogate (Schulman et al. 2017, equation 7), summed and negated.

    Per token −min(ρA, clip(ρ, 1 − ε, 1 + ε)·A), ρ = exp(new − old). At ε = 0.2 and ρ = 1.5:
    A = 1 gives −1.2 (clipped, no gradient), A = −1 gives 1.5 (not clipped).
    """
    ratio = (logprobs_N - old_logprobs_N).exp()
    free = -advantages_N * ratio
    clipped = -advantages_N * ratio.clamp(1 - clip, 1 + clip)
    return ClippedLoss(torch.maximum(free, clipped).sum(), (clipped > free).sum())


def value_loss(
    values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, *, clip: float | None
) -> ClippedLoss:
    """Half the squared error, the larger of the free and the clipped one, summed.

    The clipped value stays within ±`clip` of the old one; None does not clip. Old 0, return 1,
    clip 0.2: value 0.5 gives ½·max(0.25, 0.64) = 0.32 (clipped), value −0.5 gives
    ½·max(2.25, 1.44) = 1.125.
    """
    if clip is None:
        free = (values_N - returns_N).square()
        return ClippedLoss(0.5 * free.sum(), torch.zeros((), device=free.device))
    held = old_values_N + (values_N - old_values_N).clamp(-clip, clip)
    free, clipped = (values_N - returns_N).square(), (held - returns_N).square()
    return ClippedLoss(0.5 * torch.maximum(free, clipped).sum(), (clipped > free).sum())


def adapted_kl_coef(
    coef: float, kl: float, *, target: float, num_episodes: int, horizon: int
) -> float:
    """The proportional controller of Ziegler et al. 2019 (section 2.2).

    e = clip(KL / target − 1, −0.2, 0.2); the coefficient grows by the factor 1 + e · episodes /
    horizon. `kl` and `target` are nats per sequence. KL 12, target 10, 100 episodes, horizon 1000:
    e = 0.2, factor 1.02. Beyond the horizon the factor could fall below 0 and pay for drift.
    """
    assert num_episodes <= horizon, (num_episodes, horizon)
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coef * (1 + error * num_episodes / horizon)


def logprob_gap(trainer_BT: Tensor, rollout_BT: Tensor, mask_BT: Tensor) -> Gap:
    """The trainer's log-probs against the rollout engine's, on the tokens that it sampled."""
    difference = (trainer_BT - rollout_BT) * mask_BT
    mean_abs = difference.abs().sum() / mask_BT.sum()
    ratio = difference.sum(1).exp().mean()
    return Gap(float(mean_abs), float(difference.abs().max()), float(ratio))


def _variance(centred_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Unbiased, of what was shifted to mean 0 and has no padding; 0 of a single token."""
    return centred_BT.square().sum() / (mask_BT.sum() - 1).clamp(min=1)
