"""Paired tests against figures worked out by hand, and against scipy where it is there."""

import math
import random

import pytest

from cai.stats.paired import compare_pairs, difference_interval, mcnemar_exact, sign_flip_test


def test_mcnemar_is_the_two_sided_binomial():
    """1 of 10: 2 (C(10,0) + C(10,1)) / 1024 = 22 / 1024. 0 of 5: 2 / 32. 3 of 8: 2 · 93 / 256."""
    assert mcnemar_exact(1, 9) == mcnemar_exact(9, 1) == 22 / 1024
    assert mcnemar_exact(0, 5) == 0.0625
    assert mcnemar_exact(3, 5) == pytest.approx(186 / 256)
    assert mcnemar_exact(0, 0) == mcnemar_exact(4, 4) == 1.0
    assert 0 < mcnemar_exact(0, 1000) < 1e-290
    with pytest.raises(ValueError, match="not below 0"):
        mcnemar_exact(-1, 2)


def test_mcnemar_is_scipys_binomial_test():
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    for b, c in ((1, 9), (3, 5), (12, 30), (0, 7), (100, 120)):
        assert mcnemar_exact(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue, abs=1e-12)


def test_the_sign_flip_test_of_single_trials_is_mcnemars():
    for b, c in ((1, 9), (3, 5), (0, 6), (2, 2), (20, 35)):
        units = [1] * b + [-1] * c + [0] * 7
        assert sign_flip_test(units) == pytest.approx(mcnemar_exact(b, c), abs=1e-15)


def test_the_sign_flip_test_counts_every_pattern():
    """Of 2, 2, -1 the sum is 3; the patterns' sums are ±5, ±3 and ±1 twice: 4 of 8 are so far."""
    assert sign_flip_test([2, 2, -1]) == 0.5
    assert sign_flip_test([3]) == 1.0
    assert sign_flip_test([]) == 1.0


def test_the_interval_is_agresti_and_mins():
    """b = 9, c = 1, n = 50: d = 8/52, variance (11 - 64/52) / 52²."""
    low, high = difference_interval([1.0] * 9 + [-1.0] + [0.0] * 40)
    half = 1.959963984540054 * math.sqrt(11 - 64 / 52) / 52
    assert (low, high) == pytest.approx((8 / 52 - half, 8 / 52 + half))
    low, high = difference_interval([0.0] * 20)
    assert low < 0 < high


def test_the_interval_holds_the_truth_nearly_always():
    draw = random.Random(2)
    held = 0
    for _ in range(400):
        units = [draw.choices((1.0, -1.0, 0.0), (0.12, 0.04, 0.84))[0] for _ in range(80)]
        low, high = difference_interval(units)
        held += low <= 0.08 <= high
    assert held >= 368  # 92 %, for the noise of 400


def test_a_comparison_of_several_trials_is_per_trial():
    """Differences 2, 1, 0, -1 of 2 trials: mean 2 / 8; of 8 sums ±4 and twice ±2 are so far."""
    found = compare_pairs([2, 1, 0, -1], trials=[2] * 4)
    assert found is not None
    assert found.difference == 0.25
    assert (found.first_only, found.second_only, found.n) == (2, 1, 4)
    assert found.p_value == 0.75
    assert found.as_dict()["ci"] == [round(end, 6) for end in found.ci]
    assert compare_pairs([]) is None
    with pytest.raises(ValueError, match="larger"):
        compare_pairs([2])


def test_units_with_unlike_numbers_of_trials_count_the_same():
    """4 of 4 and 1 of 1 are both the whole: 1, not 5 / 8."""
    found = compare_pairs([4, 1], trials=[4, 1])
    assert found is not None
    assert found.difference == 1.0
