"""R(d) = d(α − β log d): its peak, its closed-form fit, and what the fit says of its own errors."""

import math
import random
import statistics

import pytest

from cai.stats.overoptimisation import Curve, fit, reward_at

E = math.e


def test_a_curve_is_read_off_by_hand():
    """α = 2, β = 1: R(1) = 2, R(e) = e(2 − 1) = e, which is the peak; R(e²) = 0 again."""
    assert reward_at(1.0, 2.0, 1.0) == 2.0
    assert reward_at(E, 2.0, 1.0) == pytest.approx(E)
    assert reward_at(E**2, 2.0, 1.0) == pytest.approx(0.0)
    assert reward_at(0.0, 2.0, 1.0) == 0.0


def test_the_peak_is_where_the_curve_is_highest_and_worth_beta_times_itself():
    curve = curve_of(alpha=2.0, beta=0.5)
    assert curve.peak == pytest.approx(E**3)
    assert curve.at(curve.peak) == pytest.approx(0.5 * E**3)
    assert curve.at(curve.peak) > max(curve.at(0.99 * curve.peak), curve.at(1.01 * curve.peak))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, -0.3), (1.0, 1e-9)])
def test_a_curve_that_does_not_turn_has_no_peak(alpha, beta):
    assert curve_of(alpha=alpha, beta=beta).peak is None
    assert curve_of(alpha=alpha, beta=beta).peak_interval is None


def test_points_on_a_curve_give_it_back_without_error():
    distances = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    found = fit(distances, [reward_at(d, 1.5, 0.4) for d in distances])
    assert (found.alpha, found.beta) == pytest.approx((1.5, 0.4))
    assert found.error == pytest.approx(0, abs=1e-12)
    assert found.n == 5, "d = 0 says nothing"


def test_a_fit_worked_by_hand():
    """Columns d and −d log d at d = 1, e, e: (1, e, e) and (0, −e, −e); gains 1, 0, 2e.

    s11 = 1 + 2e², s12 = −2e², s22 = 2e², determinant 2e²; s1y = 1 + 2e², s2y = −2e².
    α = (2e²(1 + 2e²) − 4e⁴) / 2e² = 1; β = ((1 + 2e²)(−2e²) + 2e²(1 + 2e²)) / 2e² = 0.
    Residuals 0, −e, e: σ² = 2e² / (3 − 2). Var α = σ²s22/det = 2e², Var β = σ²s11/det = 1 + 2e²,
    Cov = −σ²s12/det = 2e².
    """
    found = fit([1.0, E, E], [1.0, 0.0, 2 * E])
    assert (found.alpha, found.beta) == pytest.approx((1.0, 0.0))
    assert found.error**2 == pytest.approx(2 * E**2)
    assert found.alpha_error**2 == pytest.approx(2 * E**2)
    assert found.beta_error**2 == pytest.approx(1 + 2 * E**2)
    assert found.covariance == pytest.approx(2 * E**2)


def test_a_weight_of_two_is_the_point_twice():
    distances, gains = [1.0, 2.0, 3.0, 4.0], [1.0, 1.5, 1.4, 0.9]
    twice = fit([*distances, 4.0], [*gains, 0.9])
    weighted = fit(distances, gains, weights=[1, 1, 1, 2])
    assert (weighted.alpha, weighted.beta) == pytest.approx((twice.alpha, twice.beta))


def test_a_weight_of_nothing_leaves_a_point_out():
    found = fit([1.0, 2.0, 4.0, 5.0], [1.0, 1.0, 1.0, 99.0], weights=[1, 1, 1, 0])
    assert found == fit([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "distances", [[], [1.0, 2.0], [0.0, 0.0, 1.0, 2.0], [2.0, 2.0, 2.0, 2.0], [0.0] * 5]
)
def test_points_that_cannot_tell_the_two_apart_give_no_fit(distances):
    assert fit(distances, [1.0] * len(distances)) is None


@pytest.mark.parametrize(
    ("distance", "gain", "weight"), [(-1, 0, 1), (1, math.nan, 1), (math.inf, 0, 1), (1, 0, -1)]
)
def test_what_is_no_point_is_refused(distance, gain, weight):
    with pytest.raises(ValueError, match="no fit through"):
        fit([1.0, 2.0, 3.0, distance], [0.0, 1.0, 2.0, gain], weights=[1, 1, 1, weight])


def test_a_start_is_found_where_the_reference_was_not_measured():
    distances = [0.8, 1.5, 2.0, 3.0, 4.0]
    found = fit(distances, [7.0 + reward_at(d, 1.5, 0.4) for d in distances], has_start=True)
    assert (found.start, found.alpha, found.beta) == pytest.approx((7.0, 1.5, 0.4))
    assert found.at(0.0) == pytest.approx(7.0)
    assert (found.n, found.degrees) == (5, 2)


def test_a_fit_with_a_start_worked_by_hand():
    """The start and α go through the first two points, d = 0 and d = 1: R(0) = 0 and α = 1 − 0.

    β takes the two at e to their mean e: e(1 − β) = e. Residuals 0, 0, −e, e with one degree of
    freedom: σ² = 2e². α is the difference of two rewards: Var α = 2σ².
    """
    found = fit([0.0, 1.0, E, E], [0.0, 1.0, 0.0, 2 * E], has_start=True)
    assert (found.start, found.alpha, found.beta) == pytest.approx((0.0, 1.0, 0.0))
    assert found.error**2 == pytest.approx(2 * E**2)
    assert found.alpha_error**2 == pytest.approx(4 * E**2)


def test_a_start_takes_one_point_more():
    assert fit([1.0, 2.0, 3.0], [1.0, 1.0, 2.0], has_start=True) is None


def test_the_stated_errors_are_those_of_repeated_fits():
    """300 draws of noise 0.2 around α = 1.5, β = 0.6: errors as stated, peak in 95 % of intervals.

    The peak is at exp(1.5) = 4.48. Of 300, 95 % is 285 with a standard deviation of 3.8.
    """
    rng = random.Random(0)
    distances = [0.5 * step for step in range(1, 17)]
    found = [
        fit(distances, [reward_at(d, 1.5, 0.6) + rng.gauss(0, 0.2) for d in distances])
        for _ in range(300)
    ]
    for name, true in (("alpha", 1.5), ("beta", 0.6)):
        values = [getattr(one, name) for one in found]
        spread = statistics.stdev(values)
        stated = statistics.fmean(getattr(one, f"{name}_error") for one in found)
        assert statistics.fmean(values) == pytest.approx(true, abs=4 * spread / 300**0.5), name
        assert stated == pytest.approx(spread, rel=0.15), name
    held = sum(one.peak_interval.low <= math.exp(1.5) <= one.peak_interval.high for one in found)
    assert 273 <= held <= 297, f"the peak was in {held} of 300 intervals"


def curve_of(alpha, beta):
    return Curve(alpha, beta, 0.1, 0.1, 0.0, 0.1, degrees=8, n=10)
