"""Ratings against closed forms and hand-worked numbers."""

import math

import pytest

from cai.stats.ratings import Comparison, bradley_terry, components, elo


def test_two_items_without_prior_have_the_log_odds_of_their_wins():
    """75 wins of 100: ln 3 between them, so ± ln 3 / 2; the error of the gap is 1/sqrt(n p q)."""
    ratings = bradley_terry(2, [Comparison(0, 1, 0.75, 100)], prior_sd=1e4)
    assert ratings.values == pytest.approx((math.log(3) / 2, -math.log(3) / 2), abs=1e-6)
    assert ratings.p_wins(0, 1) == pytest.approx(0.75)
    gap_error = 1 / math.sqrt(100 * 0.75 * 0.25)
    assert ratings.errors == pytest.approx((gap_error / 2, gap_error / 2), rel=1e-4)
    assert ratings.confidence(0, 1) == pytest.approx(
        0.5 * (1 + math.erf(math.log(3) / gap_error / math.sqrt(2)))
    )


def test_ratings_are_the_optimum():
    """At the most likely ratings each item's surprises balance the pull of the prior."""
    games = [
        Comparison(0, 1, 0.9),
        Comparison(1, 2, 0.6),
        Comparison(2, 3, 0.8, 2.0),
        Comparison(0, 3, 0.99),
        Comparison(1, 3, 0.3),
    ]
    ratings = bradley_terry(4, games, prior_sd=2.0)
    surprises = [0.0] * 4
    for i, j, p, weight in games:
        surprises[i] += weight * (p - ratings.p_wins(i, j))
        surprises[j] -= weight * (p - ratings.p_wins(i, j))
    assert surprises == pytest.approx([value / 4 for value in ratings.values], abs=1e-9)
    assert sum(ratings.values) == pytest.approx(0.0, abs=1e-9)
    assert ratings.order == (0, 2, 1, 3)  # 1 lost to 3


def test_separable_data_stay_finite_and_in_order():
    games = [Comparison(i, j, 1.0, 50) for i in range(5) for j in range(i + 1, 5)]
    ratings = bradley_terry(5, games)
    assert ratings.order == (0, 1, 2, 3, 4)
    assert max(abs(v) for v in ratings.values) < 20


def test_more_comparisons_make_smaller_errors():
    few = bradley_terry(3, [Comparison(0, 1, 0.7), Comparison(1, 2, 0.7)])
    many = bradley_terry(3, [Comparison(0, 1, 0.7, 50), Comparison(1, 2, 0.7, 50)])
    assert many.confidence(0, 2) > few.confidence(0, 2) > 0.5
    assert all(m < f for m, f in zip(many.errors, few.errors, strict=True))


def test_no_comparison_leaves_all_equal():
    ratings = bradley_terry(3, [])
    assert ratings.values == (0.0, 0.0, 0.0)
    assert ratings.confidence(0, 1) == pytest.approx(0.5)
    assert bradley_terry(0, []).order == ()


def test_components_find_the_groups():
    assert components(5, [(0, 1), (3, 4), (1, 0)]) == [[0, 1], [2], [3, 4]]
    assert components(4, [(3, 2), (2, 1), (1, 0)]) == [[0, 1, 2, 3]]


def test_elo_moves_by_k_times_the_surprise():
    """Equal ratings expect 0.5, so a win moves 16; then 1016 against 984 expects 0.5460."""
    ratings = elo(2, [Comparison(0, 1, 1.0), Comparison(0, 1, 1.0)])
    assert ratings[0] == pytest.approx(1016 + 32 * (1 - 1 / (1 + 10 ** (-32 / 400))))
    assert sum(ratings) == pytest.approx(2000)
