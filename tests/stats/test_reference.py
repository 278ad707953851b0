"""Ratings and κ against choix, scikit-learn and statsmodels, on fixed data, to 1e-6."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cai.stats.agreement import cohen_kappa, fleiss_kappa
from cai.stats.ratings import Comparison, bradley_terry, elo
from cai.stats.styled_ratings import fit_styled
from tests.stats import make_reference as reference

KEPT: dict[str, Any] = json.loads(reference.FILE.read_text())
FLAT = 1e5  # so wide a prior that it moves nothing by 1e-8


def comparisons() -> list[Comparison]:
    return [Comparison(winner, loser, 1.0) for winner, loser in reference.games()]


def our_styled() -> dict[str, Any]:
    found = fit_styled(6, comparisons(), reference.styles(), prior_sd=FLAT)
    values = list(found.ratings.values)
    return {"values": values, "weight": found.weight, "error": found.error}


def our_cohen() -> dict[str, float | None]:
    first, second = reference.labels()
    order = list(reference.CATEGORIES)
    return {
        "plain": cohen_kappa(first, second),
        "linear": cohen_kappa(first, second, order=order, weights="linear"),
        "quadratic": cohen_kappa(first, second, order=order, weights="quadratic"),
    }


def our_prior() -> list[float]:
    return list(bradley_terry(6, comparisons(), prior_sd=reference.PRIOR_SD).values)


OURS: dict[str, Callable[[], Any]] = {
    "bradley_terry": lambda: list(bradley_terry(6, comparisons(), prior_sd=FLAT).values),
    "bradley_terry_prior": our_prior,
    "styled": our_styled,
    "cohen": our_cohen,
    "fleiss": lambda: fleiss_kappa(reference.panel()),
}
NEEDS = {
    "bradley_terry": "choix",
    "bradley_terry_prior": "choix",
    "styled": "statsmodels",
    "cohen": "sklearn",
    "fleiss": "statsmodels",
}


def assert_near(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, abs=1e-6), name
    else:
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("name", OURS)
def test_ours_are_the_kept_figures_of_the_reference_library(name: str) -> None:
    assert_near(OURS[name](), KEPT[name])


@pytest.mark.parametrize("name", OURS)
def test_ours_are_the_figures_of_the_library_where_it_is_installed(name: str) -> None:
    pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not among the locked packages")
    assert_near(OURS[name](), getattr(reference, name)())


def test_games_in_one_sum_rate_as_the_games_one_by_one() -> None:
    wins: dict[tuple[int, int], int] = {}
    for pair in reference.games():
        wins[pair] = wins.get(pair, 0) + 1
    summed = [Comparison(i, j, 1.0, n) for (i, j), n in wins.items()]
    assert_near(list(bradley_terry(6, summed, prior_sd=reference.PRIOR_SD).values), our_prior())


def test_elo_is_its_recurrence() -> None:
    ratings = [1000.0] * 6
    for i, j in reference.games():
        expected = 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400))
        ratings[i], ratings[j] = ratings[i] + 32 * (1 - expected), ratings[j] - 32 * (1 - expected)
    assert elo(6, comparisons()) == pytest.approx(ratings, abs=1e-9)
