"""The schedule: it spends where the order is open, stops when it is not, and keeps its budget."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import combinations

import pytest

from cai.evaluate.arena_schedule import Match, Schedule, ScheduleConfig

STRENGTHS = (0.0, 0.3, 0.4, 2.5)


def schedule(num: int = 4, prompts: int = 60, *, seed: int = 0, **options: float) -> Schedule:
    pairs = {two: range(prompts) for two in combinations(range(num), 2)}
    return Schedule(num, pairs, ScheduleConfig(**options), seed=seed)  # type: ignore[arg-type]


def played(one: Schedule, strengths: tuple[float, ...], seed: int = 0) -> list[Match]:
    """Every match that the schedule hands out, its results drawn by the strengths."""
    rng = random.Random(seed)
    found = []
    while matches := one.next():
        for i, j, _ in matches:
            odds = math.exp(strengths[i] - strengths[j])
            one.record(i, j, float(rng.random() < odds / (1 + odds)))
        found += matches
    return found


def test_no_prompt_is_asked_twice_and_the_budget_holds() -> None:
    one = schedule(share=0.5)
    matches = played(one, STRENGTHS)
    assert len(matches) == len(set(matches)) == one.num_asked <= one.budget == 180
    assert all(i < j for i, j, _ in matches)


def test_games_go_where_the_order_is_open() -> None:
    """Players 0, 1 and 2 are near each other; 3 is far above and soon settled."""
    one = schedule(prompts=100)
    asked = Counter((i, j) for i, j, _ in played(one, STRENGTHS))
    near = sum(asked[two] for two in ((0, 1), (0, 2), (1, 2)))
    far = sum(asked[two] for two in ((0, 3), (1, 3), (2, 3)))
    assert near > 2 * far


def test_it_stops_when_all_orders_are_settled() -> None:
    one = schedule(prompts=100)
    played(one, (0.0, 2.0, 4.0, 6.0))
    assert one.stopped == "resolved"
    assert one.num_asked < 0.25 * one.num_round_robin


def test_equals_use_the_budget_and_say_so() -> None:
    one = schedule(2, 50, share=0.4)
    played(one, (0.0, 0.0), seed=1)
    assert one.stopped == "budget"
    assert one.num_asked == 20


def test_it_ends_when_prompts_run_out() -> None:
    one = schedule(2, 12, share=1.0)
    played(one, (0.0, 0.0), seed=3)
    assert one.stopped == "exhausted" or one.num_asked == 12
    assert one.next() == []


def test_nothing_is_settled_before_each_has_played_enough() -> None:
    one = schedule(2, 50, min_games=15, batch=1, share=1.0)
    for _ in range(14):
        (match,) = one.next()
        one.record(match.i, match.j, 1.0)
    assert one.stopped is None
    (match,) = one.next()
    one.record(match.i, match.j, 1.0)
    assert one.stopped == "resolved"


def test_a_match_without_a_result_costs_and_tells_nothing() -> None:
    one = schedule(2, 10, batch=4, share=1.0)
    assert len(one.next()) == 4
    assert one.num_asked == 4
    assert one.stopped is None


def test_the_same_seed_asks_the_same() -> None:
    assert played(schedule(seed=5), STRENGTHS) == played(schedule(seed=5), STRENGTHS)
    first = schedule(seed=5).next()
    assert first != schedule(seed=6).next()


def test_the_order_found_is_right_wherever_it_is_clear() -> None:
    """Eight seeds, neighbours 0.9 apart, at most 40 % of a round robin: no pair is turned round."""
    strengths = (0.0, 0.9, 1.8, 2.7, 3.6)
    for seed in range(8):
        one = schedule(5, 80, seed=seed)
        wins: Counter[int] = Counter()
        rng = random.Random(seed)
        while matches := one.next():
            for i, j, _ in matches:
                odds = math.exp(strengths[i] - strengths[j])
                result = float(rng.random() < odds / (1 + odds))
                one.record(i, j, result)
                wins[i if result else j] += 1
        assert one.num_asked <= 0.4 * one.num_round_robin
        values = one.ratings().values
        assert sorted(range(5), key=values.__getitem__) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("options", [{"share": 0.0}, {"confidence": 0.5}, {"batch": 0}])
def test_settings_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ScheduleConfig(**options)  # type: ignore[arg-type]


def test_the_fewest_games_from_which_anybody_is_rated() -> None:
    """With 10 prompts two can meet 10 times; with 5 it takes three, who have 15 games together."""
    config = ScheduleConfig(min_games=10, share=0.5)
    assert [config.fewest(num) for num in (20, 10, 5, 1)] == [(2, 10), (2, 10), (3, 15), (11, 55)]
    assert config.budget(21) == 11
