"""Episodes laid out for a forward pass, and grouped so that little is padding."""

from __future__ import annotations

import random

from cai.train.buckets import buckets
from cai.train.ppo_layout import lay_out
from cai.train.rollouts import Episode


def episode(prompt: tuple[int, ...], response: tuple[int, ...]) -> Episode:
    return Episode(prompt, response, (0.0,) * len(response), True)


def test_each_response_token_is_predicted_from_the_place_before_it():
    """Rows are padded to 4. Row 0: prompt 5 6, response 7 8: places 1, 2. Row 1: 9 | 3: place 4."""
    found = lay_out([episode((5, 6), (7, 8)), episode((9,), (3,))])
    assert found.ids_BL.tolist() == [[5, 6, 7, 8], [9, 3, 0, 0]]
    assert found.places_N.tolist() == [1, 2, 4]
    assert found.tokens_N.tolist() == [7, 8, 3]
    assert found.last_B.tolist() == [3, 5]


def test_long_rows_do_not_pad_short_ones():
    """Apart: 20 + 2,000 tokens and two passes; together: 4,000 tokens."""
    groups = buckets([10, 1000, 10, 990], max_rows=8)
    assert [sorted(group) for group in groups] == [[0, 2], [1, 3]]


def test_rows_of_nearly_one_length_share_a_pass():
    """Two tokens of padding cost less than a pass."""
    assert len(buckets([10, 11, 12], max_rows=8)) == 1


def test_every_row_is_in_one_group_of_bounded_size():
    draw = random.Random(0)
    lengths = [draw.randrange(1, 600) for _ in range(200)]
    groups = buckets(lengths, max_rows=16)
    assert sorted(row for group in groups for row in group) == list(range(200))
    assert max(map(len, groups)) <= 16
    padded = sum(len(group) * max(lengths[row] for row in group) for group in groups)
    assert padded < 1.2 * sum(lengths)


def test_many_rows_of_one_length_are_cut_by_size_alone():
    assert sorted(map(len, buckets([7] * 10, max_rows=4))) == [2, 4, 4]
