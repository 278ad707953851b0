"""Ratings with the length of answers taken out. Start from `at_equal_length`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cai.evaluate.arena_data import Game
from cai.evaluate.arena_records import SCALE, Style, to_points
from cai.stats.intervals import Z_95, Interval
from cai.stats.ratings import components
from cai.stats.styled_ratings import fit_styled, standardised


def at_equal_length(
    games: Sequence[Game], names: Sequence[str], places: Mapping[str, int], *, prior_sd: float
) -> Style | None:
    """Ratings at equal length, over the games that know it; None where they do not link all."""
    told = [(game, style) for game in games if (style := game.style) is not None]
    links = [(places[game.a], places[game.b]) for game, _ in told]
    styles, spread = standardised([style for _, style in told])
    if not spread or len(components(len(names), links)) > 1:
        return None
    found = fit_styled(
        len(names), [game.comparison(places) for game, _ in told], styles, prior_sd=prior_sd
    )
    ends = {
        name: (
            to_points(found.ratings.values[place]),
            _around(to_points(found.ratings.values[place]), SCALE * found.ratings.errors[place]),
        )
        for name, place in places.items()
    }
    return Style(
        weight=found.weight,
        ci=_around(found.weight, found.error),
        sd=spread,
        num_games=len(told),
        ratings=dict(sorted(ends.items(), key=lambda one: (-one[1][0], one[0]))),
    )


def _around(centre: float, error: float) -> Interval:
    return Interval(centre - Z_95 * error, centre + Z_95 * error)
