"""κ against published and hand-worked numbers."""

import pytest

from cai.stats.agreement import cohen_kappa, fleiss_kappa, share_agreed


def test_cohen_on_a_hand_worked_table():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p_o = 0.7, p_e = 0.5·0.6 + 0.5·0.4 = 0.5."""
    first = "y" * 25 + "n" * 25
    second = "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15
    assert share_agreed(first, second) == pytest.approx(0.7)
    assert cohen_kappa(first, second) == pytest.approx(0.4)


@pytest.mark.parametrize(("weights", "expected"), [("linear", 5 / 7), ("quadratic", 4 / 5)])
def test_weighted_cohen_on_a_hand_worked_table(weights, expected):
    """One miss by one step in four items: the observed cost is 1/4 either way.

    By chance, cell by cell (rows 1 1 2, columns 1 2 1), linear 2+2+1+1+4+4 = 14 of 16 and
    quadratic 2+4+1+1+8+4 = 20 of 16: 1 - 4/14 and 1 - 4/20.
    """
    ours = cohen_kappa([1, 2, 3, 3], [1, 2, 2, 3], order=[1, 2, 3], weights=weights)
    assert ours == pytest.approx(expected)


def test_fleiss_on_the_table_of_its_paper_form():
    """Ten items, fourteen labels each in five categories; the well-known table gives 0.210."""
    table = [
        (0, 0, 0, 0, 14),
        (0, 2, 6, 4, 2),
        (0, 0, 3, 5, 6),
        (0, 3, 9, 2, 0),
        (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0),
        (3, 2, 6, 3, 0),
        (2, 5, 3, 2, 2),
        (6, 5, 2, 1, 0),
        (0, 2, 2, 3, 7),
    ]
    items = [[c for c, n in enumerate(row) for _ in range(n)] for row in table]
    assert fleiss_kappa(items) == pytest.approx(0.210, abs=5e-4)


def test_items_with_one_label_say_nothing_of_agreement():
    assert fleiss_kappa(["aaa", "bbb", "a"]) == 1.0
    assert fleiss_kappa(["a", "b"]) is None


def test_undefined_kappa_is_none():
    assert cohen_kappa("aaa", "aaa") is None
    assert cohen_kappa("", "") is None
    assert share_agreed("", "") is None
    assert fleiss_kappa(["aa", "aa"]) is None
