"""Games into ratings: by hand, by their intervals, and every file that cannot be rated."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cai.errors import DataError
from cai.evaluate.arena import ArenaConfig, enough_games, percentiles, rate_players
from cai.evaluate.arena_data import Game, read_games
from cai.evaluate.arena_records import Arena, to_points

QUICK = ArenaConfig(bootstrap=60)


def game(number: int, a: str, b: str, winner: str = "a", **fields: Any) -> Game:
    return Game(prompt_id=number, a=a, b=b, winner=winner, **fields)  # type: ignore[arg-type]


def series(a: str, b: str, won: int, lost: int, ties: int = 0, start: int = 0) -> list[Game]:
    results = ["a"] * won + ["b"] * lost + ["tie"] * ties
    return [game(start + number, a, b, one) for number, one in enumerate(results)]


def simulated(strengths: dict[str, float], per_pair: int, seed: int) -> list[Game]:
    rng = random.Random(seed)
    names = list(strengths)
    return [
        game(number, a, b, "a" if rng.random() < odds / (1 + odds) else "b")
        for at, a in enumerate(names)
        for b in names[at + 1 :]
        for number in range(per_pair)
        if (odds := math.exp(strengths[a] - strengths[b]))
    ]


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_three_of_four_games_are_odds_of_three_in_points() -> None:
    """ln 3 between them is 400 log10 3 = 190.8 points, half above 1000 and half below."""
    config = ArenaConfig(bootstrap=60, prior_sd=100)
    found = rate_players(series("new", "old", 75, 25), config)
    first, second = found.players
    assert (first.name, second.name) == ("new", "old")
    assert first.rating == pytest.approx(1000 + 200 * math.log10(3), abs=0.01)
    assert second.rating == pytest.approx(1000 - 200 * math.log10(3), abs=0.01)
    assert (first.wins, first.ties, first.losses) == (75, 0, 25)
    assert first.share.rate == 0.75
    assert first.ci.low < first.rating < first.ci.high
    assert (first.ranks, second.ranks) == ((1, 1), (2, 2))
    assert found.above["new", "old"] == 1.0


def test_a_tie_is_half_a_game_for_each() -> None:
    """30 won, 10 lost, 20 tied: 40 of 60."""
    found = rate_players(series("a", "b", 30, 10, 20), QUICK)
    assert found.players[0].share.rate == pytest.approx(40 / 60)
    assert (found.players[1].wins, found.players[1].ties, found.players[1].losses) == (10, 20, 30)


def test_probabilities_count_as_shares_of_a_win() -> None:
    soft = [Game(prompt_id=n, a="a", b="b", p_a=0.75) for n in range(100)]
    hard = rate_players(series("a", "b", 75, 25), QUICK).players[0]
    assert rate_players(soft, QUICK).players[0].rating == pytest.approx(hard.rating)


def test_who_is_named_first_makes_no_difference() -> None:
    games = simulated({"a": 0.0, "b": 0.5, "c": 1.0}, 30, seed=1)
    turned = [Game(prompt_id=one.prompt_id, a=one.b, b=one.a, p_a=1 - one.result) for one in games]
    before, after = rate_players(games, QUICK), rate_players(turned, QUICK)
    assert [p.name for p in before.players] == [p.name for p in after.players]
    for one, other in zip(before.players, after.players, strict=True):
        assert one.rating == pytest.approx(other.rating)
        assert one.ci == pytest.approx(other.ci)


def test_intervals_hold_the_true_ratings_and_ranks_stay_open_where_they_overlap() -> None:
    """Two near equals above a third: their order is open, that of the third is not."""
    strengths = {"x": 0.0, "y": 1.5, "z": 1.5}
    found = rate_players(simulated(strengths, 120, seed=4), ArenaConfig(bootstrap=200))
    by_name = {player.name: player for player in found.players}
    assert by_name["x"].ranks == (3, 3)
    assert by_name["y"].ranks == (1, 2)
    assert by_name["z"].ranks == (1, 2)
    for name, strength in strengths.items():
        low, high = by_name[name].ci
        assert low < to_points(strength - 1.0) < high
    pairs = {(one["a"], one["b"]): one["separated"] for one in found.as_dict()["pairs"]}
    assert pairs == {("x", "y"): True, ("x", "z"): True, ("y", "z"): False}


def test_the_same_seed_gives_the_same_intervals() -> None:
    games = simulated({"a": 0.0, "b": 1.0}, 40, seed=2)
    assert rate_players(games, QUICK) == rate_players(games, QUICK)
    other = ArenaConfig(bootstrap=60, seed=1)
    assert rate_players(games, other).players[0].ci != rate_players(games, QUICK).players[0].ci


def test_games_on_few_prompts_are_resampled_one_by_one() -> None:
    games = [game(1, "a", "b", "a" if n % 4 else "b") for n in range(40)]
    found = rate_players(games, QUICK)
    assert found.resampled == "games"
    assert found.players[0].ci.low < found.players[0].ci.high
    assert rate_players(series("a", "b", 30, 10), QUICK).resampled == "prompts"


def test_who_won_everything_is_held_by_the_prior_and_it_is_said() -> None:
    found = rate_players(series("a", "b", 20, 0), QUICK)
    assert all(math.isfinite(player.rating) for player in found.players)
    assert [player.as_dict()["bounded_by_prior"] for player in found.players] == [True, True]
    beaten = rate_players(series("a", "b", 19, 1), QUICK)
    assert "bounded_by_prior" not in beaten.players[0].as_dict()


def test_elo_stands_beside_the_ratings() -> None:
    """One game of equals moves 16 points; twenty in a row bring the winner far above."""
    found = rate_players(series("a", "b", 20, 0), QUICK)
    assert found.players[0].elo > 1100
    assert sum(player.elo for player in found.players) == pytest.approx(2000)


def test_policies_with_few_games_are_told_and_not_rated() -> None:
    games = [*series("a", "b", 12, 8), *series("c", "a", 3, 0, start=100)]
    found = rate_players(games, QUICK)
    assert {player.name for player in found.players} == {"a", "b"}
    assert found.unrated == {"c": 3}
    assert found.num_games == 20


def test_leaving_one_out_may_leave_out_the_next() -> None:
    """C has 12 games, 4 of them with d, who has 4: without d, c has 8."""
    games = [
        *series("a", "b", 10, 5),
        *series("c", "a", 4, 4, start=50),
        *series("d", "c", 2, 2, start=90),
    ]
    rated, unrated = enough_games(games, 10)
    assert unrated == {"c": 8, "d": 4}
    assert len(rated) == 15


def lengths(found: Arena) -> Iterator[float]:
    assert found.style is not None
    yield from (rating for rating, _ in found.style.ratings.values())


def test_length_is_taken_out_of_the_ratings() -> None:
    """Talker wins because it writes more; on equal lengths the two are even."""
    rng = random.Random(6)
    games = []
    for number in range(300):
        long, short = rng.randrange(200, 400), rng.randrange(100, 300)
        style = (long - short) / (long + short)
        p = 1 / (1 + math.exp(-4 * style))
        winner = "a" if rng.random() < p else "b"
        games.append(game(number, "talker", "terse", winner, len_a=long, len_b=short))
    found = rate_players(games, QUICK)
    assert found.players[0].name == "talker"
    assert found.players[0].rating - found.players[1].rating > 100
    assert found.style is not None
    assert found.style.ci.low > 0
    high, low = lengths(found)
    assert high - low < 50
    assert found.as_dict()["style"]["games"] == 300


def test_without_lengths_for_all_there_is_no_style() -> None:
    assert rate_players(series("a", "b", 12, 8), QUICK).style is None
    games = [one.model_copy(update={"len_a": 5, "len_b": 5}) for one in series("a", "b", 12, 8)]
    assert rate_players(games, QUICK).style is None  # equal lengths say nothing


@pytest.mark.parametrize(
    ("games", "told"),
    [
        ([], r"no two policies have 10 games .*\(games: none\)"),
        ([game(1, "a", "b")], r"\(games: a 1, b 1\)"),
        (series("a", "b", 0, 0, 30), "all 30 games are ties"),
        (
            [*series("a", "b", 12, 8), *series("c", "d", 12, 8)],
            r"never met, so they have no common scale: a, b \| c, d",
        ),
    ],
)
def test_games_that_cannot_say_who_is_better_are_refused(games: list[Game], told: str) -> None:
    with pytest.raises(DataError, match=told):
        rate_players(games, QUICK)


def test_a_single_game_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="min_games"):
        ArenaConfig(min_games=1)


def test_percentiles_lie_between_neighbours() -> None:
    assert percentiles([float(n) for n in range(101)]) == pytest.approx((2.5, 97.5))
    assert percentiles([3.0]) == (3.0, 3.0)


def test_files_of_games_are_read_by_either_result(tmp_path: Path) -> None:
    path = written(
        tmp_path / "g.jsonl",
        {"prompt_id": 1, "a": "x", "b": "y", "winner": "tie"},
        {"prompt_id": "p", "a": "y", "b": "x", "p_a": 0.9, "len_a": 3, "len_b": 1, "source": "ann"},
    )
    first, second = read_games(path)
    assert (first.result, first.style, first.source) == (0.5, None, "judge")
    assert (second.result, second.style, second.source) == (0.9, 0.5, "ann")
    assert read_games(written(tmp_path / "again.jsonl", first.as_dict(), second.as_dict())) == [
        first,
        second,
    ]


GOOD = {"prompt_id": 1, "a": "x", "b": "y", "winner": "a"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({**GOOD, "winner": "c"}, ":2: winner"),
        ({"prompt_id": 1, "a": "x", "b": "y"}, ":2: .*no result: give 'winner'"),
        ({**GOOD, "b": "x"}, ":2: .*a and b are both 'x'"),
        ({**GOOD, "winner": None, "p_a": 1.5}, ":2: p_a"),
        ({**GOOD, "p_a": 0.2}, ":2: .*'winner' is a and 'p_a' is 0.2"),
        ({**GOOD, "len_a": -1}, ":2: len_a"),
        ({**GOOD, "score": 1}, ":2: score"),
        ([1, 2], ":2: the game"),
    ],
)
def test_a_line_that_is_no_game_is_named(tmp_path: Path, line: object, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_games(written(tmp_path / "g.jsonl", GOOD, line))


def test_a_score_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text('{"prompt_id": 1, "a": "x", "b": "y", "p_a": NaN}\n')
    with pytest.raises(DataError, match=r"g.jsonl:1: p_a"):
        read_games(path)


def test_a_torn_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text(json.dumps(GOOD) + '\n{"prompt_id": 1')
    with pytest.raises(DataError, match=r"g.jsonl:2"):
        read_games(path)


def test_an_unknown_policy_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path / "g.jsonl", GOOD, {**GOOD, "b": "basse"})
    with pytest.raises(DataError, match=r"g.jsonl:2: no policy 'basse' here; did you mean 'base'"):
        read_games(path, known=("x", "y", "base"))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no game in the file"):
        read_games(written(tmp_path / "g.jsonl"))
