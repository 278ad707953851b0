"""Pearson and Spearman against values worked by hand, ties and what is not defined."""

import pytest

from cai.stats.correlation import pearson, ranks, spearman


def test_pearson_worked_by_hand():
    """x - 2 = (-1, 0, 1), y - 13/3 = (-7/3, -1/3, 8/3): 5 / √(2 × 38/3) = 0.993399."""
    assert pearson([1, 2, 3], [2, 4, 7]) == pytest.approx(0.993399, abs=1e-6)


def test_spearman_sees_only_the_order():
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [9, 7, 5, -100]) == pytest.approx(-1)


def test_spearman_without_ties_is_the_textbook_formula():
    """d = (0, 1, -1, 0): 1 - 6 × 2 / (4 × 15) = 0.8."""
    assert spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)


def test_equal_values_share_their_mean_rank():
    assert ranks([5, 1, 5, 5, 0]) == [4.0, 2.0, 4.0, 4.0, 1.0]


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [2]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_without_variation_there_is_no_correlation(x, y):
    assert pearson(x, y) is None
    assert spearman(x, y) is None


def test_a_far_off_level_does_not_cost_precision():
    assert pearson([1e9, 1e9 + 1, 1e9 + 2], [0, 1, 2]) == pytest.approx(1)
