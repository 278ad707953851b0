"""The losses of soft labels against numbers worked by hand, hard labels, and numerical slopes.

log σ(0) = -0.693147, log σ(1) = -0.313262, log σ(-1) = -1.313262, log σ(2) = -0.126928.
"""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from cai.train.soft_losses import (
    centring_loss,
    imitation_loss,
    log_ratio_delta,
    preference_loss,
    row_weights,
    smoothed,
    unit_mean,
    weighted_mean,
)

DELTAS = (-3.0, -0.7, 0.0, 0.4, 2.5)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def slope_of(loss, at):
    """dloss/dx at each of `at`, by autograd."""
    x = tensor(*at).requires_grad_()
    loss(x).sum().backward()
    return x.grad


def test_the_loss_of_a_soft_label_worked_by_hand():
    """p = 0.75, Δ = 1: 0.75 × 0.313262 + 0.25 × 1.313262 = 0.563262."""
    assert preference_loss(tensor(1.0), tensor(0.75)).item() == pytest.approx(0.563262, abs=1e-6)


def test_a_margin_asks_either_side_to_win_by_it():
    """p = 0.75, Δ = 1, m = 1: 0.75 × 0.693147 + 0.25 × 2.126928 = 1.051592."""
    found = preference_loss(tensor(1.0), tensor(0.75), margin_B=tensor(1.0)).item()
    assert found == pytest.approx(1.051592, abs=1e-6)


def test_certain_labels_give_the_hard_loss_and_its_slope():
    hard = slope_of(lambda d: -logsigmoid(d), DELTAS)
    soft = slope_of(lambda d: preference_loss(d, torch.ones_like(d)), DELTAS)
    torch.testing.assert_close(soft, hard)
    swapped = slope_of(lambda d: preference_loss(d, torch.zeros_like(d)), DELTAS)
    torch.testing.assert_close(swapped, slope_of(lambda d: -logsigmoid(-d), DELTAS))


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_slope_is_the_models_belief_less_the_label(p):
    """d/dΔ = σ(Δ) - p, also by finite differences."""
    labels = torch.full((len(DELTAS),), p, dtype=torch.float64)
    slope = slope_of(lambda d: preference_loss(d, labels), DELTAS)
    torch.testing.assert_close(slope, torch.sigmoid(tensor(*DELTAS)) - p)
    step = 1e-6
    ends = [preference_loss(tensor(*DELTAS) + s, labels) for s in (step, -step)]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("margin", [0.0, 0.8])
def test_the_slopes_of_every_loss_match_finite_differences(margin):
    deltas = tensor(*DELTAS).requires_grad_()
    labels = tensor(0.1, 0.3, 0.5, 0.7, 1.0)
    assert torch.autograd.gradcheck(lambda d: preference_loss(d, labels, margin_B=margin), deltas)
    rejected = (-0.3 * tensor(*DELTAS)).requires_grad_()
    assert torch.autograd.gradcheck(centring_loss, (deltas, rejected))
    lengths = tensor(1, 2, 3, 4, 5)
    assert torch.autograd.gradcheck(lambda x: imitation_loss(x, lengths, labels), deltas)


def test_the_loss_is_least_at_the_logit_of_the_label_where_it_is_the_entropy():
    """p = 0.8: logit 1.386294, entropy 0.500402."""
    labels = tensor(0.8)
    at = math.log(0.8 / 0.2)
    assert slope_of(lambda d: preference_loss(d, labels), [at]).item() == pytest.approx(
        0, abs=1e-12
    )
    assert preference_loss(tensor(at), labels).item() == pytest.approx(0.500402, abs=1e-6)


@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_an_undecided_row_wants_no_gap_whatever_the_margin(margin):
    slope = slope_of(lambda d: preference_loss(d, tensor(0.5), margin_B=margin), [0.0])
    assert slope.item() == pytest.approx(0, abs=1e-12)


def test_far_off_scores_neither_overflow_nor_lose_their_slope():
    labels = torch.tensor([0.5, 1.0])
    deltas = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = preference_loss(deltas, labels)
    torch.testing.assert_close(loss, torch.tensor([5e3, 1e4]))
    loss.sum().backward()
    torch.testing.assert_close(deltas.grad, torch.tensor([0.5, -1.0]))


def test_smoothing_a_hard_label_is_conservative_dpo():
    """ε = 0.1, Δ = 2: 0.9 × 0.126928 + 0.1 × 2.126928 = 0.326928."""
    found = preference_loss(tensor(2.0), smoothed(tensor(1.0), 0.1)).item()
    assert found == pytest.approx(0.326928, abs=1e-6)


def test_smoothing_draws_every_label_to_a_half():
    torch.testing.assert_close(
        smoothed(tensor(0.0, 0.5, 0.75, 1.0), 0.2), tensor(0.2, 0.5, 0.65, 0.8)
    )
    torch.testing.assert_close(smoothed(tensor(0.3, 1.0), 0.5), tensor(0.5, 0.5))


def test_a_soft_label_is_the_mixture_of_the_pair_and_its_swap():
    p, delta = tensor(0.3, 0.9), tensor(0.6, -1.2)
    one = torch.ones_like(p)
    mixture = p * preference_loss(delta, one) + (1 - p) * preference_loss(-delta, one)
    torch.testing.assert_close(preference_loss(delta, p), mixture)


def test_log_ratios_worked_by_hand():
    """(-10 + 12) - (-20 + 15) = 7; per token of 2 and 5: 2/2 + 5/5 = 2."""
    policy, reference = tensor(-10.0, -20.0)[None], tensor(-12.0, -15.0)[None]
    assert log_ratio_delta(policy, reference).tolist() == [7.0]
    lengths = torch.tensor([[2, 5]])
    assert log_ratio_delta(policy, reference, lengths_B2=lengths).tolist() == [2.0]


def test_imitation_is_per_token_and_grows_with_certainty():
    """-(-8) / 4 = 2 nats a token, times 2p - 1 for p = 1, 0.75, 0.5, 0.2."""
    found = imitation_loss(tensor(-8.0), tensor(4), tensor(1.0, 0.75, 0.5, 0.2))
    assert found.tolist() == [2.0, 1.0, 0.0, 0.0]


def test_rewards_are_centred_by_their_sum():
    assert centring_loss(tensor(3.0), tensor(-1.0)).tolist() == [4.0]


def test_a_row_pulls_equally_in_any_batch():
    """Weights 3 and 1 over two batches of two: the same sum as over one batch of four."""
    losses, weights = tensor(1.0, 2.0, 3.0, 4.0), tensor(1.5, 1.5, 0.5, 0.5)
    whole = weighted_mean(losses, weights)
    halves = [weighted_mean(losses[s], weights[s]) for s in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole, (halves[0] + halves[1]) / 2)
    assert whole.item() == 2.0


def test_a_prompt_with_more_answers_does_not_dominate():
    """4 answers give 6 pairs of 1/6, one pair is 1: they share 7 evenly, so 7/12 each and 7/2."""
    found = row_weights(["a"] * 6 + ["b"], [1.0] * 7)
    assert found == pytest.approx([7 / 12] * 6 + [7 / 2])
    assert sum(found[:6]) == pytest.approx(found[6])
    assert sum(found) == pytest.approx(7)


def test_given_weights_hold_within_a_prompt():
    assert row_weights(["a", "a", "b"], [3.0, 1.0, 1.0]) == pytest.approx([1.5, 0.5, 1.0])


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(ValueError, match="at least one must be above 0"):
        unit_mean([0.0, 0.0])
