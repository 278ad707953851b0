"""Confidence sequences: against hand-worked capital, against each other, and held at every look."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from cai.stats import sequential
from cai.stats.sequential import (
    DIFFERENCE,
    UNIT,
    bets,
    confidence_sequence,
    counted,
    log_evidence,
    mean_of,
    p_value,
    paired,
)


def test_evidence_is_the_mean_capital_of_the_bets_halved() -> None:
    """Three ones and a zero against 1/2: bets win (1 + λ/2)³ (1 − λ/2), on average over λ."""
    capital = [(1 + bet / 2) ** 3 * (1 - bet / 2) for bet in bets(UNIT)]
    expected = math.log(sum(capital) / len(capital) / 2)
    assert log_evidence({1.0: 3, 0.0: 1}, 0.5) == pytest.approx(expected, abs=1e-12)


def test_no_bet_can_lose_everything_in_one_step() -> None:
    for bounds in (UNIT, DIFFERENCE):
        width = bounds.high - bounds.low
        assert all(0 < bet * width < 1 for bet in bets(bounds))
        assert len(bets(bounds)) == sequential.NUM_BETS


@pytest.mark.parametrize("bounds", [UNIT, DIFFERENCE])
def test_a_mean_is_outside_exactly_where_its_p_value_is_small(bounds: sequential.Bounds) -> None:
    rng = random.Random(5)
    counts = counted(rng.choice([bounds.low, 0.25, bounds.high]) for _ in range(300))
    low, high = confidence_sequence(counts, bounds=bounds)
    mean = mean_of(counts)
    assert mean is not None
    assert low < mean < high
    for inside, outside in ((low + 1e-6, low - 1e-6), (high - 1e-6, high + 1e-6)):
        assert p_value(counts, inside, bounds=bounds) >= 0.05
        assert p_value(counts, outside, bounds=bounds) <= 0.05


def test_nothing_seen_rules_nothing_out() -> None:
    assert confidence_sequence({}) == (0.0, 1.0)
    assert confidence_sequence({1.0: 1}, bounds=DIFFERENCE) == (-1.0, 1.0)
    assert p_value({}, 0.5) == 1.0
    assert mean_of({}) is None


def test_values_of_one_kind_narrow_the_sequence_from_one_side() -> None:
    low, high = confidence_sequence({1.0: 200})
    assert 0.9 < low < 1.0
    assert high == 1.0


def test_more_values_and_a_larger_alpha_give_narrower_sequences() -> None:
    def width(n: int, alpha: float = 0.05) -> float:
        low, high = confidence_sequence({1.0: n, 0.0: n}, alpha=alpha)
        return high - low

    assert width(50) > width(500) > width(5000)
    assert width(500, 0.01) > width(500, 0.05)


def test_all_intervals_hold_together_in_nearly_all_runs() -> None:
    """Thirty runs of 400 draws, looked at every 20: at most one in twenty may ever miss."""
    missed = 0
    for seed in range(30):
        rng = random.Random(seed)
        counts: Counter[float] = Counter()
        looks = []
        for _ in range(20):
            counts.update(float(rng.random() < 0.7) for _ in range(20))
            looks.append(confidence_sequence(counts))
        missed += any(not low <= 0.7 <= high for low, high in looks)
    assert missed <= 2


@pytest.mark.parametrize(
    ("counts", "options", "told"),
    [
        ({1.5: 1}, {}, "value 1.5 is not from 0.0 to 1.0"),
        ({math.nan: 1}, {}, "value nan"),
        ({1.0: 1}, {"alpha": 0.0}, "alpha is 0.0"),
    ],
)
def test_values_out_of_bounds_are_refused(counts, options, told) -> None:
    with pytest.raises(ValueError, match=told):
        confidence_sequence(counts, **options)


def test_arms_meet_in_whole_blocks_in_their_order() -> None:
    """Two of a to one of b: (1 + 0) / 2 from 1, then (1 + 1) / 2 from 0; one of a waits."""
    arms = [("a", 1.0), ("b", 1.0), ("a", 0.0), ("x", 9.0), ("a", 1.0), ("a", 1.0), ("b", 0.0)]
    assert list(paired([*arms, ("a", 0.0)], "a", "b", ratio=(2, 1))) == [0.5, -1.0]
    assert list(paired([("a", 1.0)], "a", "b")) == []
