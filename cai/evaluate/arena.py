"""From games to ratings: Bradley–Terry with bootstrap intervals, Elo beside it, length taken out.

A tie is half a game for each. Policies with too few games are not rated, and what no chain of
games links cannot be compared; both are said. Pure functions over games; start from `rate_players`.
Method: Chiang et al. (2024, arXiv 2403.04132).
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from cai.errors import DataError
from cai.evaluate.arena_data import Game
from cai.evaluate.arena_records import CENTRE, SEPARATED, Arena, Player, to_points
from cai.evaluate.arena_style import at_equal_length
from cai.stats.intervals import Interval, rate_of
from cai.stats.ratings import Comparison, bradley_terry, components, elo

_MIN_PROMPTS = 5  # fewer clusters than these say nothing of how prompts vary


class ArenaConfig(BaseModel):
    """How games become ratings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_games: int = Field(default=10, ge=2)
    """Games below which a policy is not rated, 2 or more."""
    bootstrap: int = Field(default=400, ge=50, le=10_000)
    """Samples of the games from which intervals are taken, 50 to 10,000."""
    prior_sd: float = Field(default=3.0, gt=0, le=100)
    """Width of the prior on ratings in log-odds; it keeps those finite who won every game."""
    seed: int = 0
    """Decides the samples."""


def rate_players(games: Sequence[Game], config: ArenaConfig | None = None) -> Arena:
    """Rate everyone with enough games. Raises DataError where the games cannot say who is better.

    That is: no two policies with `min_games`, every game a tie, or groups that never met.
    """
    config = config or ArenaConfig()
    rated, unrated = enough_games(games, config.min_games)
    names = sorted({name for game in rated for name in (game.a, game.b)})
    places = {name: place for place, name in enumerate(names)}
    _check(rated, names, places)
    rows = _rows(rated, places)
    values = bradley_terry(len(names), _totals(rows), prior_sd=config.prior_sd).values
    samples, resampled = _bootstrap(rows, len(names), config)
    above = {
        (a, b): sum(_is_above(sample, places[a], places[b]) for sample in samples) / len(samples)
        for at, a in enumerate(names)
        for b in names[at + 1 :]
    }
    points = elo(len(names), [game.comparison(places) for game in rated], start=CENTRE)
    players = [
        _player(
            name, values[place], [sample[place] for sample in samples], above, points[place], rated
        )
        for name, place in places.items()
    ]
    return Arena(
        players=tuple(sorted(players, key=lambda player: (-player.rating, player.name))),
        unrated=unrated,
        above=above,
        met=_met(rated),
        style=at_equal_length(rated, names, places, prior_sd=config.prior_sd),
        num_games=len(rated),
        resampled=resampled,
    )


def enough_games(games: Sequence[Game], min_games: int) -> tuple[list[Game], dict[str, int]]:
    """The games among policies with `min_games` of them, and how many the others had.

    Leaving one out takes games from others, who may fall below it in turn.
    """
    rated, unrated = list(games), dict[str, int]()
    while True:
        counts = Counter(name for game in rated for name in (game.a, game.b))
        few = {name: n for name, n in counts.items() if n < min_games}
        if not few:
            break
        unrated.update(few)
        rated = [game for game in rated if game.a not in few and game.b not in few]
    if not rated:
        whole = Counter(name for game in games for name in (game.a, game.b))
        told = ", ".join(f"{name} {n}" for name, n in sorted(whole.items())[:8])
        raise DataError(
            f"no two policies have {min_games} games against each other or other rated ones "
            f"(games: {told or 'none'}); play more, or lower --min-games (2 at least)"
        )
    return rated, dict(sorted(unrated.items()))


def _check(games: Sequence[Game], names: Sequence[str], places: Mapping[str, int]) -> None:
    if all(game.result == 0.5 for game in games):
        raise DataError(
            f"all {len(games)} games are ties, which say nothing of who is better; take other "
            "prompts, or a judge that tells the answers apart"
        )
    links = [(places[game.a], places[game.b]) for game in games]
    groups = components(len(names), links)
    if len(groups) > 1:
        told = " | ".join(", ".join(names[place] for place in group) for group in groups)
        raise DataError(
            f"these groups never met, so they have no common scale: {told}; play games between "
            "them, or rate each alone"
        )


class _Row(NamedTuple):
    """A game by the numbers of its policies, the smaller first, and of its prompt."""

    prompt: int
    i: int
    j: int
    result: float


def _rows(games: Sequence[Game], places: Mapping[str, int]) -> list[_Row]:
    prompts = {id: at for at, id in enumerate(dict.fromkeys([game.prompt_id for game in games]))}
    rows = []
    for game in games:
        i, j, result, _ = game.comparison(places)
        turned = (i, j, result) if i < j else (j, i, 1 - result)
        rows.append(_Row(prompts[game.prompt_id], *turned))
    return rows


def _totals(rows: Iterable[_Row], weights: Sequence[int] | None = None) -> list[Comparison]:
    """One comparison for each two that met: the mean result, and the number of games.

    `weights` has how often each prompt counts.
    """
    sums: dict[tuple[int, int], list[float]] = {}
    for prompt, i, j, result in rows:
        weight = 1 if weights is None else weights[prompt]
        total = sums.setdefault((i, j), [0.0, 0.0])
        total[0] += weight * result
        total[1] += weight
    return [Comparison(i, j, won / n, n) for (i, j), (won, n) in sums.items() if n]


def _bootstrap(
    rows: Sequence[_Row], num_items: int, config: ArenaConfig
) -> tuple[list[tuple[float, ...]], str]:
    """Ratings of samples with replacement: of prompts, whose games belong together, or of games."""
    rng = random.Random(config.seed)
    num_prompts = len({row.prompt for row in rows})
    by_prompt = num_prompts >= _MIN_PROMPTS
    samples = []
    for _ in range(config.bootstrap):
        if by_prompt:
            drawn = Counter(rng.choices(range(num_prompts), k=num_prompts))
            totals = _totals(rows, [drawn[prompt] for prompt in range(num_prompts)])
        else:
            totals = _totals(rng.choices(rows, k=len(rows)))
        samples.append(bradley_terry(num_items, totals, prior_sd=config.prior_sd).values)
    return samples, "prompts" if by_prompt else "games"


def _player(
    name: str,
    value: float,
    samples: Sequence[float],
    above: Mapping[tuple[str, str], float],
    points: float,
    games: Sequence[Game],
) -> Player:
    results = [game.result for game in games if game.a == name]
    results += [1 - game.result for game in games if game.b == name]
    share = rate_of(math.fsum(results), len(results))
    assert share is not None, "a rated policy has games"
    over = {b: p for (a, b), p in above.items() if a == name}
    over |= {a: 1 - p for (a, b), p in above.items() if b == name}
    return Player(
        name=name,
        rating=to_points(value),
        ci=Interval(*(to_points(end) for end in percentiles(samples))),
        ranks=(
            1 + sum(p <= 1 - SEPARATED for p in over.values()),
            1 + sum(p < SEPARATED for p in over.values()),
        ),
        elo=points,
        wins=sum(result > 0.5 for result in results),
        ties=results.count(0.5),
        losses=sum(result < 0.5 for result in results),
        share=share,
        is_bounded=0 < share.rate < 1,
    )


def percentiles(values: Sequence[float]) -> Interval:
    """The 2.5 % and 97.5 % points of samples, between neighbours in proportion.

    >>> percentiles([float(n) for n in range(41)])
    Interval(low=1.0, high=39.0)
    """
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return Interval(at(0.025), at(0.975))


def _is_above(sample: Sequence[float], i: int, j: int) -> float:
    return 1.0 if sample[i] > sample[j] else 0.5 if sample[i] == sample[j] else 0.0


def _met(games: Iterable[Game]) -> dict[tuple[str, str], tuple[float, int]]:
    """What the first of each two won against the second, by name, and in how many games."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for game in games:
        if game.a < game.b:
            found[game.a, game.b].append(game.result)
        else:
            found[game.b, game.a].append(1 - game.result)
    return {pair: (math.fsum(results), len(results)) for pair, results in found.items()}
