"""Hand-worked numbers for the maths of labels; logit(0.9) = ln 9 = 2.19722."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.errors import JudgeError
from cai.feedback.labels import (
    Vote,
    clamp,
    combine,
    flips,
    is_decided,
    logit,
    read_order,
    read_pair,
    scale,
    sigmoid,
)

LN = math.log


def pair(p_ab, p_ba, mass=(1.0, 1.0)):
    """A reading with P(a) = p_ab when a is shown first, p_ba when it is shown second."""

    def log(p):
        return LN(p) if p > 0 else -math.inf

    return read_pair(
        {"A": log(p_ab * mass[0]), "B": log((1 - p_ab) * mass[0])},
        {"A": log((1 - p_ba) * mass[1]), "B": log(p_ba * mass[1])},
    )


def test_row_of_the_interface_gives_its_published_numbers():
    """exp(-0.110) 0.8958, exp(-2.306) 0.0997: 0.8999; exp(-1.902) 0.1493, exp(-0.162) 0.8504.

    Mean 0.8753; P(first) is 0.8999 and 0.1493/0.9997=0.1493, so the bias is 0.5246 - 0.5.
    """
    read = read_pair({"A": -0.110, "B": -2.306}, {"A": -1.902, "B": -0.162})
    assert read.p_ab == pytest.approx(0.8999, abs=1e-4)
    assert read.p_ba == pytest.approx(0.8507, abs=1e-4)
    assert read.p_a == pytest.approx(0.8753, abs=1e-4)
    assert read.position_bias == pytest.approx(0.0246, abs=1e-4)
    assert read.mass == pytest.approx((0.9955, 0.9997), abs=1e-4)
    assert read.margin == pytest.approx(0.7506, abs=1e-3)
    assert not read.flips


def test_mass_outside_the_letters_does_not_move_the_label():
    """0.3 and 0.1 of the probability: 0.75 of the 0.4 that the letters hold."""
    order = read_order({"A": LN(0.3), "B": LN(0.1)})
    assert order.p_first == pytest.approx(0.75)
    assert order.mass == pytest.approx(0.4)


def test_swapped_order_gives_complementary_label():
    read = pair(0.9, 0.7)
    swapped = read.swapped()
    assert swapped.p_a == pytest.approx(1 - read.p_a)
    assert (swapped.p_ab, swapped.p_ba) == pytest.approx((0.3, 0.1))
    assert swapped.position_bias == pytest.approx(read.position_bias)
    assert swapped.order_ab == read.order_ba
    assert swapped.swapped() == read


def test_pure_position_bias_averages_out_to_a_tie():
    """Always 0.8 for the answer shown first: P(a) = (0.8 + 0.2) / 2, bias 0.3, and it flips."""
    read = pair(0.8, 0.2)
    assert read.p_a == pytest.approx(0.5)
    assert read.position_bias == pytest.approx(0.3)
    assert read.flips


@pytest.mark.parametrize(
    ("p_ab", "p_ba", "band", "expected"),
    [
        (0.6, 0.4, 0.0, True),
        (0.4, 0.6, 0.0, True),
        (0.6, 0.5, 0.0, False),
        (0.6, 0.7, 0.0, False),
        (0.6, 0.4, 0.15, False),
        (0.7, 0.3, 0.15, True),
    ],
)
def test_flip_is_both_orders_decided_for_different_answers(p_ab, p_ba, band, expected):
    assert flips(p_ab, p_ba, band=band) is expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.5])
def test_value_that_is_no_logprob_gives_no_label(bad):
    with pytest.raises(JudgeError) as failure:
        read_order({"A": bad, "B": -1.0})
    assert failure.value.reason == "not-a-number"


def test_missing_letter_gives_no_label():
    with pytest.raises(JudgeError, match="no log-prob for B") as failure:
        read_order({"A": -0.1})
    assert failure.value.reason == "no-label-tokens"


def test_both_letters_impossible_gives_no_label():
    with pytest.raises(JudgeError) as failure:
        read_order({"A": -math.inf, "B": -math.inf})
    assert failure.value.reason == "low-mass"


def test_one_impossible_letter_is_a_certain_verdict_that_json_can_hold():
    read = read_pair({"A": 0.0, "B": -math.inf}, {"A": -math.inf, "B": 0.0})
    assert read.p_a == 1.0
    assert all(math.isfinite(value) for value in read.order_ab.values())


def test_mean_weighs_the_principles():
    """Weights 3 and 1: (3 × 0.9 + 0.5) / 4 = 0.8."""
    votes = [Vote("x", pair(0.9, 0.9), 3.0), Vote("y", pair(0.5, 0.5), 1.0)]
    combined = combine(votes, "mean")
    assert combined.read.p_a == pytest.approx(0.8)
    assert combined.decided_by == ("x", "y")


def test_combined_logprobs_normalise_to_the_combined_label():
    """A reader of the row recomputes p_chosen from the log-probs alone, whatever the masses."""
    votes = [Vote("x", pair(0.9, 0.8, (0.5, 0.9))), Vote("y", pair(0.3, 0.4, (1.0, 0.7)))]
    read = combine(votes, "mean").read
    again = read_pair(read.order_ab, read.order_ba)
    assert again.p_a == pytest.approx(0.6)
    assert again.mass == pytest.approx((0.75, 0.8))
    assert again.p_ab == pytest.approx(0.6)


def test_priority_takes_the_first_decided_principle():
    """0.55 lies within 0.5 ± 0.1, 0.2 does not, so the third is not heard."""
    votes = [Vote("x", pair(0.55, 0.55)), Vote("y", pair(0.2, 0.2)), Vote("z", pair(1, 1))]
    assert combine(votes, "priority", band=0.1).decided_by == ("y",)
    assert combine(votes, "priority", band=0.1).read.p_a == pytest.approx(0.2)


def test_priority_without_a_decided_principle_is_the_mean():
    votes = [Vote("x", pair(0.55, 0.55)), Vote("y", pair(0.45, 0.45))]
    assert combine(votes, "priority", band=0.1).read.p_a == pytest.approx(0.5)


def test_decided_veto_overrules_the_mean_of_the_rest():
    votes = [Vote("x", pair(0.9, 0.9)), Vote("no", pair(0.1, 0.1), is_veto=True)]
    assert combine(votes, "veto").decided_by == ("no",)


def test_undecided_veto_leaves_the_verdict_to_the_rest():
    votes = [Vote("x", pair(0.9, 0.9)), Vote("no", pair(0.45, 0.45), is_veto=True)]
    assert combine(votes, "veto").decided_by == ("x",)
    assert combine(votes, "veto").read.p_a == pytest.approx(0.9)


def test_no_vote_is_no_verdict():
    with pytest.raises(JudgeError):
        combine([], "mean")


def test_edge_of_the_band_is_undecided():
    assert not is_decided(0.6, 0.1)
    assert is_decided(0.6001, 0.1)
    assert not is_decided(0.5, 0.0)


def test_clamp_holds_reasoned_labels_between_40_and_60_percent():
    assert [clamp(p) for p in (0.0, 0.39, 0.5, 0.61, 1.0)] == [0.4, 0.4, 0.5, 0.6, 0.6]


def test_temperature_divides_the_log_odds():
    """logit 0.9 = ln 9; halved it is ln 3, which is 0.75; doubled ln 81, which is 81/82."""
    assert scale(0.9, 2.0) == pytest.approx(0.75)
    assert scale(0.9, 0.5) == pytest.approx(81 / 82)
    assert scale(0.9, 1.0) == 0.9


@given(st.floats(-40, 40), st.floats(-40, 40))
def test_label_is_a_probability_and_symmetric(first, second):
    shift = max(first, second, 0.0)
    read = read_pair({"A": first - shift, "B": -shift}, {"A": second - shift, "B": -shift})
    assert 0.0 <= read.p_a <= 1.0
    assert -0.5 <= read.position_bias <= 0.5
    assert read.swapped().p_a == pytest.approx(1 - read.p_a)


@given(st.floats(1e-9, 1 - 1e-9))
def test_sigmoid_undoes_logit(p):
    assert sigmoid(logit(p)) == pytest.approx(p, rel=1e-6)
