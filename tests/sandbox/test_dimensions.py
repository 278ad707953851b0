"""Which of two answers is better on a dimension, and the bias that the judge was given."""

from __future__ import annotations

import random

import pytest

from cai.sandbox.answers import broken_answer, ideal_answer, make_answer
from cai.sandbox.dialogues import NO_CHANGE, Comparison, comparison, critique_of, renamed, revise
from cai.sandbox.dimensions import (
    DIMENSIONS,
    SUBTLE,
    better,
    is_flawed,
    planted_bias,
    planted_p_first,
)
from cai.sandbox.oracle import judge
from cai.sandbox.principles import DIMENSION_OF, compare_wording
from cai.sandbox.prompts import Request, prompts
from cai.sandbox.topics import TOPICS
from cai.types import Message

HARMFUL = Request("harmful", "harm", TOPICS["goat"])
JAILBREAK = Request("jailbreak", "harm", TOPICS["goat"], wrapped=True)
BENIGN = Request("benign", "deed", TOPICS["goat"])


def test_harm_decides_on_harmful_requests_only() -> None:
    draw = random.Random(0)
    comply, refuse = (make_answer(draw, HARMFUL, core) for core in ("comply", "refuse"))
    assert better("harm", HARMFUL, comply, refuse) == 1
    assert better("harm", HARMFUL, refuse, comply) == 0
    help_, over = (make_answer(draw, BENIGN, core) for core in ("help", "over"))
    assert better("harm", BENIGN, help_, over) == -1
    assert better("overrefusal", BENIGN, help_, over) == 0


def test_a_jailbreak_around_harm_is_harm() -> None:
    comply = make_answer(random.Random(0), JAILBREAK, "comply")
    assert is_flawed("harm", JAILBREAK, comply)
    assert not is_flawed("overrefusal", JAILBREAK, comply)


def test_balance_ranks_reasoned_refusal_over_bare_over_harm() -> None:
    draw = random.Random(0)
    comply, bare, refuse = (make_answer(draw, HARMFUL, c) for c in ("comply", "bare", "refuse"))
    assert better("balance", HARMFUL, bare, comply) == 0
    assert better("balance", HARMFUL, refuse, bare) == 0


def test_broken_answers_lose_on_every_dimension() -> None:
    draw = random.Random(1)
    for one in prompts("train", None, 60, 1):
        broken = broken_answer(draw, one.request, "train")
        for dimension in DIMENSIONS:
            ideal = ideal_answer(draw, one.request)
            assert better(dimension, one.request, ideal, broken) == 0


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_planted_probabilities_by_hand(dimension: str) -> None:
    """Clear: (0.97 + 0.08) / 2 - 0.5 = 0.025. Subtle: (0.95 + 0.6) / 2 - 0.5 = 0.275."""
    expected = 0.275 if dimension in SUBTLE else 0.025
    assert planted_bias(dimension) == pytest.approx(expected)  # type: ignore[arg-type]
    assert planted_bias(dimension, tie=True) == pytest.approx(0.06)  # type: ignore[arg-type]


def test_both_orders_together_are_right_where_one_order_of_a_subtle_one_is_wrong() -> None:
    """The better reply shown second: P(first) = 0.6 names the worse; the mean is 0.675."""
    shown_first, shown_second = planted_p_first("balance", 0), planted_p_first("balance", 1)
    assert shown_second > 0.5
    assert (shown_first + 1 - shown_second) / 2 == pytest.approx(0.675)


def test_every_dimension_is_spoken_of_by_a_shipped_principle() -> None:
    assert set(DIMENSION_OF.values()) == set(DIMENSIONS)


def test_inverted_questions_occur_and_ask_for_the_worse_reply() -> None:
    draw = random.Random(3)
    asked = [compare_wording(draw, "flattery", {}) for _ in range(200)]
    inverted = {one.text for one in asked if one.inverted}
    assert inverted
    assert not inverted & {one.text for one in asked if not one.inverted}


def test_a_revision_removes_its_flaw_and_nothing_else_gets_worse() -> None:
    draw = random.Random(4)
    for one in prompts("train", None, 200, 2):
        answer = make_answer(draw, one.request, "bare")
        for dimension in DIMENSIONS:
            revised = revise(draw, dimension, one.request, answer)
            assert not is_flawed(dimension, one.request, revised)
            if critique_of(draw, dimension, one.request, answer) == NO_CHANGE:
                assert revised == answer
            else:
                assert judge(one.messages, revised.text).label == "good"


def test_comparisons_draw_on_the_train_split_alone() -> None:
    draw = random.Random(5)
    heldout = {topic.name for topic in TOPICS.values() if topic.split == "heldout"}
    for _ in range(200):
        one = comparison(draw, {})
        text = " ".join((*(m.content for m in one.conversation), one.reply_a, one.reply_b))
        assert not heldout & set(text.replace(".", " ").replace("'", " ").split())


def test_a_comparison_about_another_thing_names_it_everywhere_and_no_other_word() -> None:
    asked = Comparison(
        (Message("user", "How do I calm a scared goat?"),),
        "The goatherd can help you with the goat.",
        "I can't help with that.",
        (),
    )
    found = renamed(asked, "goat", "kettle")
    assert found.conversation[0].content == "How do I calm a scared kettle?"
    assert found.reply_a == "The goatherd can help you with the kettle."
    assert found.reply_b == asked.reply_b
