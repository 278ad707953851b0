"""PPO's maths against numbers worked by hand; the working is in each docstring."""

from __future__ import annotations

import math

import pytest
import torch

from cai.train import ppo_maths as maths


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rows(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def mask(*lengths: int, width: int) -> torch.Tensor:
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]


def test_k1_and_k3_at_half_against_a_quarter():
    """r = 0.25/0.5 = 0.5: k1 = ln 2 = 0.6931; k3 = 0.5 - 1 + ln 2 = 0.1931."""
    p, ref = tensor(math.log(0.5)), tensor(math.log(0.25))
    assert maths.kl_estimate(p, ref, "k1").item() == pytest.approx(0.693147, abs=1e-6)
    assert maths.kl_estimate(p, ref, "k3").item() == pytest.approx(0.193147, abs=1e-6)


def test_both_kl_estimators_are_unbiased():
    """p = [.7, .3], ref = [.4, .6]: KL = .7 ln(.7/.4) + .3 ln(.3/.6) = .391731 - .207944."""
    p, ref = tensor(0.7, 0.3), tensor(0.4, 0.6)
    for kind in ("k1", "k3"):
        mean = (p * maths.kl_estimate(p.log(), ref.log(), kind)).sum().item()
        assert mean == pytest.approx(0.183787, abs=1e-6)


def test_k3_is_never_negative_where_k1_is():
    """p = 0.2, ref = 0.4, r = 2: k1 = -ln 2; k3 = 1 - ln 2 = 0.3069."""
    p, ref = tensor(math.log(0.2)), tensor(math.log(0.4))
    assert maths.kl_estimate(p, ref, "k1").item() == pytest.approx(-0.693147, abs=1e-6)
    assert maths.kl_estimate(p, ref, "k3").item() == pytest.approx(0.306853, abs=1e-6)


def test_whitening_leaves_padding_out_of_the_statistics():
    """Real tokens 1, 2, 3: mean 2, unbiased variance 1. The 99 is padding."""
    x, real = rows([1, 2], [3, 99]), mask(2, 1, width=2)
    assert maths.whiten(x, real).tolist() == [
        pytest.approx([-1, 0], abs=1e-6),
        pytest.approx([1, 0], abs=1e-6),
    ]


def test_dividing_by_the_deviation_leaves_padding_and_zero_alone():
    """0.1, 0.3: unbiased variance 0.02, deviation 0.1414: 0.7071, 2.1213. The 99 is padding."""
    x, real = rows([0.1, 99], [0.3, 99]), mask(1, 1, width=2)
    found = maths.over_deviation(x, real)
    assert found[:, 0].tolist() == pytest.approx([0.7071, 2.1213], abs=1e-4)
    assert found[:, 1].tolist() == [0, 0]
    assert maths.over_deviation(rows([0, 0, 3]), mask(3, width=3))[0, :2].tolist() == [0, 0]


def test_without_a_deviation_there_is_nothing_to_divide_by():
    """One token, or all alike: they stay as they are, and do not become huge."""
    assert maths.over_deviation(rows([5.0]), mask(1, width=1)).item() == 5.0
    assert maths.over_deviation(rows([2, 2, 9]), mask(2, width=3))[0].tolist() == [2, 2, 0]


def test_whitening_one_token_gives_zero_and_not_nan():
    assert maths.whiten(rows([5.0]), mask(1, width=1)).item() == 0.0


def test_the_score_stands_on_the_last_real_token():
    """-0.1 * KL everywhere; scores 2 and 3 on tokens 2 and 0; padding stays 0."""
    kl, real = rows([1, 2, 3], [4, 5, 6]), mask(3, 1, width=3)
    found = maths.token_rewards(tensor(2, 3), kl, real, kl_coef=0.1)
    assert found[0].tolist() == pytest.approx([-0.1, -0.2, 1.7])
    assert found[1].tolist() == pytest.approx([2.6, 0, 0])


def test_gae_of_two_steps():
    """r = [0, 1], V = [.5, .25], gamma 1, lambda .5: deltas -.25, .75; A = [.125, .75]."""
    found = maths.gae(rows([0, 1]), rows([0.5, 0.25]), mask(2, width=2), gamma=1, lam=0.5)
    assert found.advantages[0].tolist() == pytest.approx([0.125, 0.75])
    assert found.returns[0].tolist() == pytest.approx([0.625, 1.0])


def test_gae_discounts_the_future():
    """r = [1, 2, 4], V = 0, gamma .5, lambda 1: A = [1 + .5*4, 2 + .5*4, 4] = [3, 4, 4]."""
    found = maths.gae(rows([1, 2, 4]), rows([0, 0, 0]), mask(3, width=3), gamma=0.5, lam=1)
    assert found.advantages[0].tolist() == pytest.approx([3, 4, 4])


def test_gae_with_lambda_one_is_the_return_less_the_value():
    """gamma = lambda = 1: returns are the sums of rewards still to come, whatever V is."""
    found = maths.gae(rows([1, 2, 3]), rows([9, -4, 7]), mask(3, width=3), gamma=1, lam=1)
    assert found.returns[0].tolist() == pytest.approx([6, 5, 3])


def test_gae_of_a_short_sequence_does_not_see_what_stands_in_its_padding():
    """The first row is one token: A = 1 - 0.5; the 7 and 8 after it are padding."""
    rewards, values = rows([1, 7], [0, 1]), rows([0.5, 8], [0.5, 0.25])
    found = maths.gae(rewards, values, mask(1, 2, width=2), gamma=1, lam=0.5)
    assert found.advantages[0].tolist() == pytest.approx([0.5, 0])
    assert found.returns[0].tolist() == pytest.approx([1.0, 0])
    assert found.advantages[1].tolist() == pytest.approx([0.125, 0.75])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped", "slope"),
    [
        (1.5, 1.0, -1.2, 1, 0.0),  # the gain is capped at 1 + eps
        (1.5, -1.0, 1.5, 0, 1.5),  # a loss is not
        (0.5, -1.0, 0.8, 1, 0.0),  # nor is more than 1 - eps taken away
        (0.5, 1.0, -0.5, 0, -0.5),
        (1.1, 2.0, -2.2, 0, -2.2),
    ],
)
def test_the_clipped_surrogate(ratio, advantage, loss, clipped, slope):
    """-min(rho A, clip(rho) A); its derivative by the log-prob is -rho A where free, else 0."""
    logprobs = tensor(math.log(ratio)).requires_grad_()
    found = maths.policy_loss(logprobs, tensor(0.0), tensor(advantage), clip=0.2)
    found.total.backward()
    assert found.total.item() == pytest.approx(loss)
    assert found.num_clipped.item() == clipped
    assert logprobs.grad is not None
    assert logprobs.grad.item() == pytest.approx(slope)


@pytest.mark.parametrize(
    ("value", "loss", "clipped", "slope"),
    [(0.5, 0.32, 1, 0.0), (-0.5, 1.125, 0, -1.5), (0.1, 0.405, 0, -0.9)],
)
def test_the_clipped_value_loss(value, loss, clipped, slope):
    """Old 0, return 1, clip 0.2: half of max((v - 1)^2, (clip(v) - 1)^2)."""
    values = tensor(value).requires_grad_()
    found = maths.value_loss(values, tensor(0.0), tensor(1.0), clip=0.2)
    found.total.backward()
    assert found.total.item() == pytest.approx(loss)
    assert found.num_clipped.item() == clipped
    assert values.grad is not None
    assert values.grad.item() == pytest.approx(slope)


def test_an_unclipped_value_loss():
    """Half of (0.5 - 1)^2."""
    found = maths.value_loss(tensor(0.5), tensor(0.0), tensor(1.0), clip=None)
    assert found.total.item() == pytest.approx(0.125)
    assert found.num_clipped.item() == 0


@pytest.mark.parametrize(
    ("kl", "factor"), [(12, 1.02), (30, 1.02), (10, 1.0), (9, 0.99), (0, 0.98)]
)
def test_the_adaptive_coefficient_follows_the_target(kl, factor):
    """Target 10, 100 episodes, horizon 1000: e is held within ±0.2, a tenth of it is taken."""
    found = maths.adapted_kl_coef(0.5, kl, target=10, num_episodes=100, horizon=1000)
    assert found == pytest.approx(0.5 * factor)


def test_the_adaptive_coefficient_stays_positive_at_the_shortest_horizon():
    """An iteration as long as the horizon: the whole e is taken, never more."""
    kept = {"target": 10, "num_episodes": 256, "horizon": 256}
    assert maths.adapted_kl_coef(0.05, 0.0, **kept) == pytest.approx(0.04)
    assert maths.adapted_kl_coef(0.05, 99.0, **kept) == pytest.approx(0.06)


def test_the_gap_between_two_engines():
    """Differences 0.1, -0.3 and 0.2 on three real tokens: mean 0.2, largest 0.3.

    Sequence sums are -0.2 and 0.2: the ratio is (e^-0.2 + e^0.2) / 2 = 1.020067.
    """
    trainer, rollout = rows([-1.0, -2.0], [-3.0, 0.0]), rows([-1.1, -1.7], [-3.2, 5.0])
    found = maths.logprob_gap(trainer, rollout, mask(2, 1, width=2))
    assert found.mean_abs == pytest.approx(0.2)
    assert found.max_abs == pytest.approx(0.3)
    assert found.ratio == pytest.approx(1.020067, abs=1e-6)
