"""Brier score and calibration error against values worked by hand, hard and soft."""

import pytest

from cai.stats.calibration import brier, calibration_error


def test_brier_worked_by_hand():
    """(0.2² + 0.4²) / 2 = 0.1."""
    assert brier([0.8, 0.4], [1.0, 0.0]) == pytest.approx(0.1)


def test_a_prediction_equal_to_the_soft_label_is_perfect():
    assert brier([0.7, 0.2], [0.7, 0.2]) == 0
    assert calibration_error([0.7, 0.2], [0.7, 0.2]) == pytest.approx(0)


def test_calibration_error_worked_by_hand():
    """Confidence 0.9 is right 3 of 4 times (gap 0.15 on 4), 0.6 always (gap 0.4 on 1): 0.2."""
    predicted = [0.9, 0.9, 0.1, 0.1, 0.6]
    assert calibration_error(predicted, [1, 1, 0, 1, 1]) == pytest.approx((4 * 0.15 + 0.4) / 5)


def test_swapping_both_answers_of_every_pair_changes_nothing():
    predicted, known = [0.9, 0.3, 0.55], [1.0, 0.25, 0.5]
    swapped = [1 - p for p in predicted], [1 - k for k in known]
    assert calibration_error(*swapped) == pytest.approx(calibration_error(predicted, known))


def test_certainty_falls_into_the_last_bin():
    assert calibration_error([1.0, 0.0], [1.0, 1.0]) == pytest.approx(0.5)


def test_of_nothing_there_is_none():
    assert brier([], []) is None
    assert calibration_error([], []) is None
