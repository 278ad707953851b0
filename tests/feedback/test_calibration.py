"""The judge's measurements, against hand-worked numbers and planted ones."""

import math
import random

import pytest

from cai.feedback.calibration import Calibration, CalibrationLimits
from cai.feedback.labels import Vote, read_pair, sigmoid
from cai.feedback.records import PairLabel
from cai.feedback.tally import Tally, minimize


def read(p_ab, p_ba):
    return read_pair(
        {"A": math.log(p_ab), "B": math.log(1 - p_ab)},
        {"A": math.log(1 - p_ba), "B": math.log(p_ba)},
    )


def label(p_ab, p_ba, principle="kind", policy="judge-1"):
    one = read(p_ab, p_ba)
    return PairLabel(one, (Vote(principle, one),), (principle,), "sha256:t", policy, None)


def test_flips_bias_and_orders_are_counted():
    """P(a) shown first, then second. Bias: (0.9+0.3)/2-0.5 = 0.1, (0.8+0.6)/2-0.5 = 0.2.

    The second flips. Truth a, a: means 0.8 and 0.6 are right; the second order of the second
    (0.4) is wrong.
    """
    stats = Calibration()
    stats.observe(label(0.9, 0.7), known="a")
    stats.observe(label(0.8, 0.4), known="a")
    measured = stats.as_dict()["judge-1"]
    assert measured["pairs"] == 2
    assert measured["flip_share"] == 0.5
    assert measured["position_bias"] == pytest.approx(0.15)
    assert measured["position_bias_sd"] == pytest.approx(math.sqrt(0.005))
    assert measured["accuracy"] == 1.0
    assert measured["accuracy_first_order"] == 1.0
    assert measured["accuracy_second_order"] == 0.5
    assert measured["brier"] == pytest.approx((0.2**2 + 0.4**2) / 2)
    assert measured["calibration_error"] == pytest.approx((0.2 + 0.4) / 2)
    assert "temperature" not in measured


def test_truth_on_the_other_side_mirrors_everything():
    one, other = Tally(), Tally()
    one.observe(read(0.9, 0.6), 0.75, "a")
    other.observe(read(0.4, 0.1), 0.25, "b")
    assert one.accuracy == other.accuracy == 1.0
    assert one.brier == pytest.approx(other.brier)


def test_missing_verdict_counts_as_wrong():
    stats = Calibration()
    stats.observe(label(0.9, 0.9), known="a")
    stats.miss("judge-1", "low-mass", known=True)
    measured = stats.as_dict()["judge-1"]
    assert measured["accuracy"] == 0.5
    assert measured["missing"] == 1
    assert measured["refused"] == {"low-mass": 1}


def test_refused_label_is_measured_but_not_right():
    stats = Calibration()
    stats.observe(label(0.8, 0.4), known="a", refused="flip")
    measured = stats.as_dict()["judge-1"]
    assert measured["flip_share"] == 1.0
    assert measured["accuracy"] == 0.0


def test_unmeasured_is_absent():
    stats = Calibration()
    stats.observe(label(0.9, 0.7))
    assert "accuracy" not in stats.as_dict()["judge-1"]
    assert "position_bias_sd" not in stats.as_dict()["judge-1"]


def overconfident(num_pairs, temperature, seed=3):
    """Verdicts whose true probability is that of their log-odds over `temperature`."""
    rng = random.Random(seed)
    tally = Tally()
    for _ in range(num_pairs):
        z = rng.gauss(0, 3)
        p = sigmoid(z)
        is_a = rng.random() < sigmoid(z / temperature)
        tally.observe(read(p, p), p, "a" if is_a else "b")
    return tally


def test_fitted_temperature_finds_the_planted_one():
    tally = overconfident(20_000, 2.0)
    assert tally.temperature() == pytest.approx(2.0, rel=0.05)
    tally = overconfident(20_000, 1.0)
    assert tally.temperature() == pytest.approx(1.0, rel=0.05)
    assert tally.calibration_error < 0.02


def test_reliability_bins_hold_every_known_pair():
    tally = overconfident(2000, 2.0)
    bins = tally.reliability()
    assert sum(one.n for one in bins) == 2000
    assert all(0.5 <= one.confidence <= 1 for one in bins)
    assert bins[-1].confidence - bins[-1].accuracy > 0.05


def test_perfect_judge_wants_the_lowest_temperature():
    tally = Tally()
    for _ in range(50):
        tally.observe(read(0.8, 0.8), 0.8, "a")
    assert tally.temperature() == pytest.approx(0.05, rel=0.01)


def test_memory_does_not_grow_with_the_pairs():
    small = overconfident(5_000, 2.0)
    large = overconfident(50_000, 2.0)
    assert len(large.bins) <= 10
    assert len(large.logits) < 2 * len(small.logits) < 1300


def test_parts_merge_into_the_whole():
    whole, parts = Calibration(), [Calibration(), Calibration()]
    for index in range(40):
        one = label(0.3 + index / 100, 0.6, principle="kind" if index % 3 else "true")
        whole.observe(one, known="a")
        parts[index % 2].observe(one, known="a")
    parts[0].merge(parts[1])
    merged, expected = parts[0].as_dict()["judge-1"], whole.as_dict()["judge-1"]
    assert merged.pop("reliability")
    assert expected.pop("reliability")
    assert merged["principles"].keys() == expected["principles"].keys() == {"kind", "true"}
    for name in ("pairs", "flip_share", "position_bias", "accuracy", "brier", "temperature"):
        assert merged[name] == pytest.approx(expected[name], rel=1e-6), name


def test_row_counts_as_its_label_did():
    live, resumed = Calibration(), Calibration()
    for one in (label(0.9, 0.7), label(0.2, 0.4), label(0.4, 0.8)):
        live.observe(one)
        resumed.observe_row(one.as_row_label(), one.p_chosen)
    expected = live.as_dict()["judge-1"]
    measured = resumed.as_dict()["judge-1"]
    assert measured["flip_share"] == expected["flip_share"]
    assert measured["position_bias"] == pytest.approx(expected["position_bias"])
    assert measured["principles"]["kind"]["pairs"] == 3


def test_limits_name_judge_value_and_limit():
    stats = Calibration()
    for _ in range(10):
        stats.observe(label(0.9, 0.2), known="b")
    limits = CalibrationLimits(min_pairs=10, min_accuracy=0.9, max_calibration_error=0.9)
    breaches = stats.breaches(limits)
    assert breaches == [
        "judge judge-1: share of flips is 1.000, the limit 0.5 (n=10)",
        "judge judge-1: position bias is 0.350, the limit 0.25 (n=10)",
        "judge judge-1: accuracy is 0.000, the limit 0.9 (n=10)",
    ]
    assert stats.breaches(limits.model_copy(update={"min_pairs": 11})) == []


def test_golden_section_finds_the_valley():
    assert minimize(lambda x: (x - 0.3) ** 2, -5, 5) == pytest.approx(0.3, abs=1e-5)
