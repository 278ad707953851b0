"""Who moved the labels: shares, turns, redundancy, and principles that never matter."""

import math

import pytest

from cai.evaluate.attribution import Ballot, ask_ballots, attribute, ballots_of_rows
from cai.evaluate.impact_pairs import JudgedPair
from cai.feedback.labels import Vote, combine, read_pair
from cai.types import Message
from tests.evaluate.taste import judge, made, principle
from tests.feedback.helpers import judge_engine


def vote(id, p, weight=1.0):
    read = read_pair(
        {"A": math.log(p), "B": math.log(1 - p)}, {"A": math.log(1 - p), "B": math.log(p)}
    )
    return Vote(id, read, weight)


def ballot(composition="mean", **ps):
    votes = tuple(vote(id, p) for id, p in ps.items())
    combined = combine(votes, composition)
    return Ballot(votes, combined.read.p_a, combined.decided_by)


def by_id(found):
    return {one.id: one for one in found.shares}


def test_shares_go_by_who_decided_and_turns_by_leaving_out():
    """Without `a` the first label goes from 0.6 to 0.45 and turns; without `b` neither does."""
    found = attribute([ballot(a=0.9, b=0.45, c=0.45), ballot(a=0.9, b=0.9, c=0.9)], "mean")
    shares = by_id(found)
    assert (found.num_labels, found.num_decisive) == (2, 1)  # 0.6 is not outside 0.5 ± 0.1
    assert [shares[id].num_turned for id in "abc"] == [1, 0, 0]
    assert shares["a"].share_decisive == pytest.approx(1 / 3)
    assert shares["a"].mean_p_a == pytest.approx(0.9)


def test_under_priority_the_first_that_is_decided_has_it_all():
    found = attribute([ballot("priority", a=0.9, b=0.2) for _ in range(4)], "priority")
    shares = by_id(found)
    assert (shares["a"].share_decisive, shares["b"].share_decisive) == (1.0, 0.0)
    assert (shares["a"].num_turned, shares["b"].num_turned) == (4, 0)
    assert shares["b"].never_matters
    assert not shares["a"].never_matters


def test_a_principle_that_was_never_asked_is_told():
    shares = by_id(attribute([ballot(a=0.9)], "sample", principles=["a", "idle"]))
    assert (shares["idle"].num_votes, shares["idle"].never_matters) == (0, True)
    assert shares["a"].num_turned is None


def test_votes_that_go_together_are_redundant():
    values = [0.1 + 0.8 * (number % 7) / 7 for number in range(40)]
    cast = [ballot(a=p, b=0.05 + 0.9 * p, c=1 - p) for p in values]
    (found,) = attribute(cast, "mean").redundant
    assert (found.first, found.second, found.num_shared) == ("a", "b", 40)
    assert attribute(cast[:19], "mean").redundant == ()


def test_stored_rows_make_ballots_and_rows_without_a_label_none():
    read = {"order_ab": {"A": -0.1, "B": -2.4}, "order_ba": {"A": -2.4, "B": -0.1}}
    single = {"p_chosen": 0.9, "label": {**read, "principles": ["a"]}}
    several = {
        "p_chosen": 0.9,
        "label": {
            **read,
            "principles": ["a", "b"],
            "votes": [
                {"principle": "a", "weight": 2.0, **read},
                {"principle": "b", "weight": 1.0, **read},
            ],
        },
    }
    ballots = list(ballots_of_rows([single, several, {"p_chosen": 1.0}], vetoes=["b"]))
    assert [[one.principle for one in each.votes] for each in ballots] == [["a"], ["a", "b"]]
    assert [one.is_veto for one in ballots[1].votes] == [False, True]
    assert ballots[1].votes[0].weight == 2.0


async def test_every_principle_is_asked_about_every_pair():
    pairs = [JudgedPair(str(n), (Message("user", "q"),), "kind+", "short+") for n in range(3)]
    ballots = await ask_ballots(judge(), made(principle("kind"), principle("calm")), pairs)
    assert [[round(one.p_a, 6) for one in each.votes] for each in ballots] == [[0.9, 0.5]] * 3
    shy = judge_engine(lambda *_: 0.9, mass=0.1)
    assert await ask_ballots(shy, made(principle("kind")), pairs) == []


def test_json_has_the_figures():
    shown = attribute([ballot(a=0.9, b=0.3)], "mean").as_dict()
    assert shown["labels"] == 1
    assert {"id", "votes", "share_decisive", "mean_p_a", "never_matters", "turned"} == set(
        shown["principles"][0]
    )
