"""Rankings into pairs, labelers into a consensus, and people's labels over a judge's."""

import math

import pytest

from cai.dataset.conversations import UnusableRow
from cai.dataset.human import (
    NoConsensus,
    agreement,
    consensus,
    merge,
    pairs_of_ranking,
    parse_ranking,
    with_weights,
)
from cai.dataset.preferences import answer_text, preference_row
from cai.types import Message

ASK = (Message("user", "How do I boil an egg?"),)
FIVE = ["one", "two", "three", "four", "five"]


def texts(row):
    return answer_text(row["chosen"]), answer_text(row["rejected"])


def human(chosen, rejected, labeler=None, prompt=ASK):
    return preference_row(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=1.0,
        source="human",
        labeler=labeler,
    )


def judged(chosen, rejected, p, input_id=None):
    log = {"A": math.log(p), "B": math.log(1 - p)}
    label = {
        "order_ab": log,
        "order_ba": {"A": log["B"], "B": log["A"]},
        "mass": [1.0, 1.0],
        "position_bias": 0.0,
        "principles": ["kind"],
        "template": "sha256:t",
        "judge": {"policy": "judge-1", "digest": None},
    }
    return preference_row(
        prompt=ASK,
        chosen=chosen,
        rejected=rejected,
        p_chosen=p,
        source="ai",
        input_id=input_id,
        label=label,
        policy={"id": "p", "digest": None},
    )


def test_ranking_of_five_gives_its_ten_pairs():
    """B > E > C > A > D: two beats all, four loses to all."""
    record = {"prompt": "Q?", "outputs": FIVE, "ranking": "B > E > C > A > D", "labeler": "ann"}
    rows = pairs_of_ranking(record)
    assert [texts(row) for row in rows] == [
        *(("two", loser) for loser in ("five", "three", "one", "four")),
        *(("five", loser) for loser in ("three", "one", "four")),
        *(("three", loser) for loser in ("one", "four")),
        ("one", "four"),
    ]
    assert {(row["source"], row["labeler"], row["p_chosen"]) for row in rows} == {
        ("human", "ann", 1.0)
    }
    assert len({row["id"] for row in rows}) == 10
    assert len(pairs_of_ranking(record, pairs="adjacent")) == 4


def test_ties_give_no_pair():
    """A = B > C: A and B beat C; nothing is said of A and B."""
    rows = pairs_of_ranking({"prompt": "Q?", "outputs": FIVE[:3], "ranking": "A = B > C"})
    assert [texts(row) for row in rows] == [("one", "three"), ("two", "three")]
    assert "labeler" not in rows[0]


@pytest.mark.parametrize(
    "text",
    ["", "A", "A > A > B > C", "A > B", "A > B > D", "A B C", "A > B >", "A < B < C", "a > b > c"],
)
def test_bad_ranking_is_named(text):
    with pytest.raises(UnusableRow) as failure:
        parse_ranking(text, 3)
    assert failure.value.reason == "bad-ranking"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"outputs": ["one"]}, "bad-outputs"),
        ({"outputs": FIVE * 2}, "bad-outputs"),
        ({"outputs": ["one", "", "three"]}, "empty-answer"),
        ({"outputs": ["one", 2, "three"]}, "empty-answer"),
        ({"ranking": None}, "bad-ranking"),
        ({"ranking": "A = B = C"}, "tie"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "no-user-turn"),
        ({"labeler": 3}, "bad-labeler"),
    ],
)
def test_unusable_ranking_record_is_named(change, reason):
    record = {"prompt": "Q?", "outputs": FIVE[:3], "ranking": "A > B > C"} | change
    with pytest.raises(UnusableRow) as failure:
        pairs_of_ranking(record)
    assert failure.value.reason == reason


def test_consensus_is_the_majority_with_its_share():
    rows = [human("x", "y", "ann"), human("y", "x", "ben"), human("x", "y", "cid")]
    (row,) = consensus(rows)
    assert texts(row) == ("x", "y")
    assert row["p_chosen"] == pytest.approx(2 / 3)
    assert row["votes"] == {"chosen": ["ann", "cid"], "rejected": ["ben"]}
    assert "labeler" not in row


def test_even_split_or_too_few_labelers_is_no_label():
    rows = [human("x", "y", "ann"), human("y", "x", "ben"), human("u", "v", "ann")]
    assert list(consensus(rows, min_labelers=2)) == [
        NoConsensus(rows[0]["input_id"], 2, 0.5),
        NoConsensus(rows[0]["input_id"], 1, 1.0),
    ]


def test_last_label_of_one_labeler_counts_and_the_unnamed_are_each_their_own():
    rows = [human("x", "y", "ann"), human("y", "x", "ann"), human("y", "x"), human("x", "y")]
    (row,) = consensus(rows)
    assert texts(row) == ("y", "x")
    assert row["p_chosen"] == pytest.approx(2 / 3)


def labelled(*choices):
    """Rows of ann, ben, cid: for each pair a word such as `xxy`, naming each one's choice."""
    rows = []
    for number, word in enumerate(choices):
        prompt = (Message("user", f"Question {number}?"),)
        for labeler, choice in zip(("ann", "ben", "cid"), word, strict=False):
            other = "y" if choice == "x" else "x"
            rows.append(human(choice, other, labeler, prompt))
    return rows


def test_agreement_is_hand_worked():
    """Four pairs, three labelers: xxx, xxx, yyx, yyy.

    Fleiss: agreement (1 + 1 + 1/3 + 1) / 4 = 5/6; x has 7 of 12, so by chance 49/144 + 25/144
    = 74/144; κ = (5/6 - 74/144) / (70/144) = 46/70. ann and ben agree always.
    """
    found = agreement(labelled("xxx", "xxx", "yyx", "yyy"))
    assert (found.num_pairs, found.num_labelers) == (4, 3)
    assert found.share == pytest.approx(10 / 12)
    assert found.fleiss == pytest.approx(46 / 70)
    assert found.cohen["ann / ben"] == 1.0
    assert found.cohen["ann / cid"] == pytest.approx(0.5)


def test_pairs_of_one_labeler_say_nothing_of_agreement():
    found = agreement(labelled("x", "y"))
    assert found.as_dict() == {"pairs": 0, "labelers": 0}


def test_human_label_overrides_the_judge_and_scores_it():
    judged_rows = [
        judged("x", "y", 0.9, "sha256:1"),
        judged("u", "v", 0.6, "sha256:2"),
        judged("k", "l", 0.7, "sha256:3"),
    ]
    people = [human("x", "y", "ann"), human("v", "u", "ann"), human("m", "n", "ann")]
    merged = merge(judged_rows, people)
    rows = list(merged.rows)
    assert [(texts(row), row["source"]) for row in rows] == [
        (("x", "y"), "human"),
        (("v", "u"), "human"),
        (("k", "l"), "ai"),
        (("m", "n"), "human"),
    ]
    assert [row["input_id"] for row in rows[:3]] == ["sha256:1", "sha256:2", "sha256:3"]
    assert rows[0]["id"] == judged_rows[0]["id"]
    assert rows[1]["overrides"]["p_chosen"] == pytest.approx(0.4)
    assert rows[1]["overrides"]["agrees"] is False
    assert "label" not in rows[1]
    assert rows[1]["policy"] == {"id": "p", "digest": None}
    measured = merged.judge.as_dict()["judge-1"]
    assert measured["known"] == 2
    assert measured["accuracy"] == 0.5
    assert measured["brier"] == pytest.approx((0.1**2 + 0.6**2) / 2)


def test_sources_keep_their_names_and_get_their_weights():
    rows = list(with_weights([human("x", "y"), judged("u", "v", 0.9)], {"human": 3.0}))
    assert [(row["source"], row["weight"]) for row in rows] == [("human", 3.0), ("ai", 1.0)]
