"""Rates of clustered trials: between so many clusters and so many independent trials."""

import random

import pytest

from cai.stats.clusters import clustered_rate
from cai.stats.intervals import rate_of, wilson_of_share


def test_one_trial_a_cluster_is_the_plain_rate():
    clusters = [(1, 1)] * 3 + [(0, 1)] * 17
    assert clustered_rate(clusters) == rate_of(3, 20)


def test_trials_that_are_all_alike_count_as_one():
    found = clustered_rate([(8, 8)] * 5 + [(0, 8)] * 5)
    assert found is not None
    assert (found.rate, found.n) == (0.5, 80)
    assert found.ci == wilson_of_share(0.5, 10)


def test_even_clusters_count_in_full():
    found = clustered_rate([(2, 4)] * 6)
    assert found is not None
    assert found.ci == wilson_of_share(0.5, 24)


def test_a_rate_of_none_or_all_has_the_width_of_its_clusters():
    found = clustered_rate([(0, 10)] * 12)
    assert found is not None
    assert found.ci == wilson_of_share(0.0, 12)


def test_nothing_tried_is_no_rate():
    assert clustered_rate([]) is None
    assert clustered_rate([(0, 0)]) is None


def test_the_interval_holds_the_truth_of_correlated_trials():
    """Prompts fail with their own probability, 0.9 or 0.1: the truth is 0.34 over all of them."""
    draw = random.Random(3)
    held = 0
    for _ in range(400):
        rates = [0.9 if draw.random() < 0.3 else 0.1 for _ in range(60)]
        found = clustered_rate([(sum(draw.random() < p for _ in range(5)), 5) for p in rates])
        assert found is not None
        held += found.ci.low <= 0.34 <= found.ci.high
    assert 372 <= held <= 392  # 93 to 98 %
    assert rate_of(0, 0) is None


@pytest.mark.parametrize("n", [1, 3])
def test_a_single_cluster_is_one_trial(n):
    found = clustered_rate([(n, n)])
    assert found is not None
    assert found.ci == wilson_of_share(1.0, 1)
