"""Agreement of raters and judge, by hand; what was not measured is absent."""

from __future__ import annotations

import pytest

from cai.review.figures import bootstrap, figures, majority
from cai.review.records import ItemDraft
from tests.review.things import pair, reviewed, single


def test_agreement_between_raters_is_that_by_hand() -> None:
    """Votes gg, gg, gb, bb: 3 of 4 agree. Cohen: p_o 3/4, p_e (3·2 + 1·2)/16 = 1/2, κ = 1/2.

    Fleiss: 5 of 8 votes for g, by chance (25 + 9)/64 = 0.53125, κ = (0.75 - 0.53125)/0.46875.
    Good and bad are sides a and b as the digests have it, so the sides are turned to good first.
    """
    drafts = [one for one in map(pair, range(40)) if starts_good(one)][:4]
    votes = [("good", "good"), ("good", "good"), ("good", "bad"), ("bad", "bad")]
    found = [
        reviewed(draft, {"ann": x, "bob": y}) for draft, (x, y) in zip(drafts, votes, strict=True)
    ]
    between = figures(found)["all"]["between_raters"]
    assert between["agreed"]["rate"] == 0.75
    assert between["agreed"]["n"] == 4
    assert between["fleiss_kappa"]["kappa"] == pytest.approx(0.21875 / 0.46875, abs=1e-6)
    assert between["cohen_kappa"]["ann / bob"]["kappa"] == pytest.approx(0.5)
    assert "ci" not in between["fleiss_kappa"]  # four items bear no bootstrap
    assert "random" not in figures(found)


def test_the_judge_is_held_against_most_raters_on_the_random_share_and_on_all() -> None:
    """The judge prefers good. Random: 2 of 2 with it; all: 3 of 4, a tie of raters left out."""
    found = [
        reviewed(pair(0, 0.9), {"ann": "good", "bob": "good"}, is_random=True),
        reviewed(pair(1, 0.6), {"ann": "good", "bob": "tie"}, is_random=True),
        reviewed(pair(2, 0.7), {"ann": "bad"}),
        reviewed(pair(3, 0.8), {"ann": "good"}),
        reviewed(pair(4, 0.8), {"ann": "good", "bob": "bad"}),
        reviewed(pair(5, 0.5), {"ann": "good"}),
        reviewed(pair(6, None), {"ann": "good"}),
    ]
    told = figures(found)
    assert told["random"]["with_judge"]["agreed"]["rate"] == 1.0
    assert told["random"]["with_judge"]["agreed"]["n"] == 2
    everyone = told["all"]["with_judge"]
    assert (everyone["agreed"]["rate"], everyone["agreed"]["n"]) == (0.75, 4)
    assert everyone["by_rater"]["ann"]["rate"] == 0.8
    assert everyone["by_rater"]["bob"]["n"] == 2
    assert majority(found[4]) is None
    assert told["policies"]["new over old"]["n"] == 6


def test_a_raters_leaning_to_what_is_shown_first_is_told() -> None:
    found = [reviewed(pair(number), {"ann": "good", "bob": "skip"}) for number in range(30)]
    ann = figures(found)["raters"]["ann"]
    assert ann["a"] + ann["b"] == 30
    assert 0.2 < ann["chose_first"]["rate"] < 0.8
    assert figures(found)["raters"]["bob"] == {"skip": 30}


def test_ratings_have_quadratic_kappa_and_means_by_policy() -> None:
    """Ratings (1, 1), (3, 3), (5, 5) agree wholly; means 1, 3, 5 of one policy: 3."""
    found = [reviewed(single(str(n)), {}, ratings=(n, n)) for n in (1, 3, 5)]
    told = figures(found)
    assert told["ratings"]["cohen_kappa_quadratic"]["r0 / r1"]["kappa"] == 1.0
    assert told["rated_policies"]["new"]["mean"] == 3
    assert told["rated_policies"]["new"]["n"] == 3
    assert "all" not in told


def test_nothing_decided_gives_no_figure() -> None:
    assert figures([]) == {}


def test_the_bootstrap_is_around_the_figure_and_needs_five_items() -> None:
    items = [1.0] * 50 + [0.0] * 50
    low, high = bootstrap(lambda found: sum(found) / len(found), items) or (0, 0)
    assert 0.38 < low < 0.46
    assert 0.54 < high < 0.62
    assert bootstrap(lambda _found: 1.0, [1, 2, 3, 4]) is None
    assert bootstrap(lambda _found: None, items) is None


def starts_good(draft: ItemDraft) -> bool:
    return draft.answers[0][0]["content"].startswith("good")
