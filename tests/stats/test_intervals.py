"""Rates and Wilson's interval, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from cai.stats.intervals import Z_95, mean_interval, rate_of, student_t, wilson


def test_wilson_at_one_half() -> None:
    """5 of 10, z = 1.96: centre 0.5; half-width z / (2 sqrt(n + z²)) = 1.96 / (2 · 3.7206)."""
    low, high = wilson(5, 10, z=1.96)
    assert low == pytest.approx(0.5 - 1.96 / (2 * math.sqrt(13.8416)))
    assert low == pytest.approx(0.2366, abs=1e-4)
    assert high == pytest.approx(0.7634, abs=1e-4)


def test_wilson_at_zero_starts_at_zero_and_ends_at_z2_over_n_plus_z2() -> None:
    """0 of 400: the upper bound is z² / (n + z²) = 3.8415 / 403.8415 = 0.009512."""
    low, high = wilson(0, 400)
    assert low == 0.0
    assert high == pytest.approx(Z_95**2 / (400 + Z_95**2))
    assert high == pytest.approx(0.009512, abs=1e-6)


def test_wilson_at_all_mirrors_wilson_at_zero() -> None:
    assert wilson(400, 400).high == 1.0
    assert wilson(400, 400).low == pytest.approx(1 - wilson(0, 400).high)


@pytest.mark.parametrize(("count", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(count: int, n: int) -> None:
    with pytest.raises(ValueError, match="need 0 <= count <= n"):
        wilson(count, n)


def test_a_rate_in_the_form_of_reports() -> None:
    rate = rate_of(1, 4)
    assert rate is not None
    assert rate.as_dict() == {"rate": 0.25, "n": 4, "ci": [0.045587, 0.699358]}


def test_nothing_tried_is_no_rate() -> None:
    assert rate_of(0, 0) is None


@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
)
def test_student_t_is_the_printed_table(degrees, t):
    assert student_t(degrees) == pytest.approx(t, abs=5e-5)


def test_mean_interval_worked_by_hand():
    """Mean 2, sd 1, n 3: 2 ± 4.3027 / √3 = 2 ± 2.4841."""
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((-0.4841, 4.4841), abs=1e-4)


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0])
