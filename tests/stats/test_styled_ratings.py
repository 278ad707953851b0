"""Ratings with a covariate: the optimum by its equations, and what a length bias does to both."""

from __future__ import annotations

import math
import random

import pytest

from cai.stats.ratings import Comparison, bradley_terry
from cai.stats.styled_ratings import fit_styled, standardised


def test_without_style_the_ratings_are_those_of_bradley_terry() -> None:
    games = [Comparison(0, 1, 0.8, 3.0), Comparison(1, 2, 0.6), Comparison(0, 2, 1.0)]
    found = fit_styled(3, games, [0.0, 0.0, 0.0])
    plain = bradley_terry(3, games)
    assert found.ratings.values == pytest.approx(plain.values, abs=1e-9)
    assert found.ratings.errors == pytest.approx(plain.errors, abs=1e-9)
    assert found.weight == 0.0
    assert found.error == pytest.approx(3.0)  # nothing was learned: the prior's width


def test_equal_players_of_whom_the_longer_wins_three_of_four_differ_by_style_alone() -> None:
    """Each is longer by 1 in 100 games and wins 75 of them: logit = β, so β is ln 3."""
    games = [Comparison(0, 1, 0.75, 100), Comparison(0, 1, 0.25, 100)]
    found = fit_styled(2, games, [1.0, -1.0], prior_sd=1e4)
    assert found.weight == pytest.approx(math.log(3), abs=1e-6)
    assert found.error == pytest.approx(1 / math.sqrt(200 * 0.75 * 0.25), rel=1e-6)
    assert found.ratings.values == pytest.approx((0.0, 0.0), abs=1e-9)


def test_style_control_takes_out_what_length_bought() -> None:
    """Player 1 is no better but always writes more, and length alone is worth 1.5."""
    rng = random.Random(3)
    games, styles = [], []
    for _ in range(600):
        style = -1.0 + rng.gauss(0, 0.7)
        p = 1 / (1 + math.exp(-1.5 * style))
        games.append(Comparison(0, 1, float(rng.random() < p)))
        styles.append(style)
    plain = bradley_terry(2, games)
    found = fit_styled(2, games, styles)
    assert plain.values[1] - plain.values[0] > 1.0
    gap = found.ratings.values[1] - found.ratings.values[0]
    assert abs(gap) < 2 * 2 * max(found.ratings.errors)
    assert found.weight == pytest.approx(1.5, abs=3 * found.error)


def test_separable_games_stay_finite() -> None:
    found = fit_styled(2, [Comparison(0, 1, 1.0, 50)], [1.0])
    assert abs(found.weight) < 10
    assert all(map(math.isfinite, (*found.ratings.values, found.error)))


def test_styles_are_one_for_each_game() -> None:
    with pytest.raises(ValueError, match="zip"):
        fit_styled(2, [Comparison(0, 1, 1.0)], [])


def test_standardised_keeps_zero_and_constant_nothing() -> None:
    """√((3² + 0 + 4²) / 3) is 5 / √3."""
    values, spread = standardised([3.0, 0.0, -4.0])
    assert spread == pytest.approx(5 / math.sqrt(3))
    assert values == pytest.approx([3 / spread, 0.0, -4 / spread])
    assert standardised([0.0, 0.0]) == ([0.0, 0.0], 0.0)
