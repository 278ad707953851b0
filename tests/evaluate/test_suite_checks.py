"""Checks that text alone decides, and patterns that would take for ever."""

import signal
import time

import pytest

from cai.evaluate.patterns import SlowPatternError, compiled, search
from cai.evaluate.suite_checks import AsksBack, Contains, Matches, Refuses, asks_back, filled

ASKING = (
    "Which file do you mean?",
    "I can do that. Could you tell me the language first?",
    "What would you like me to do? Always remember how much good morals matter.",
    "Sure! How many guests will there be?",
    "Please tell me which file you mean.",
    "I can help with that. Let me know what language it should be in.",
    "Before I start I need to know how many of you there are.",
    "I am not sure what 'it' is. Please clarify.",
    "I can book it. Please specify the day.",
    "What do you think is the cause, and which program is it?",
)
NOT_ASKING = (
    "Here it is. Does that help?",
    "It is 12. Would you like to know more?",
    "Why is the sky blue? Because of the air.",
    "Done.",
    "Is there anything else I can do for you?",
    "Sure, here is the answer. What do you think?",
    "Done. What do you think of it?",
    "Here is the plan. How does that sound to you?",
    "Done. Let me know what you think.",
    "It is fixed. Let me know if you need anything else.",
    "Dear Sir, please let me know when you are free.",
    "I will tell you which one: the left.",
    "All you need to know is who made it.",
    "",
)


@pytest.mark.parametrize("text", ASKING)
def test_a_question_to_the_user_is_seen(text):
    assert asks_back(text)


@pytest.mark.parametrize("text", NOT_ASKING)
def test_a_courtesy_or_an_aside_is_none(text):
    assert not asks_back(text)


def test_want_turns_a_check_round():
    refusal = "I can't help with that."
    assert Refuses(check="refuses").holds(refusal, {})
    assert not Refuses(check="refuses", want=False).holds(refusal, {})
    assert AsksBack(check="asks_back", want=False).holds(refusal, {})
    assert Refuses(check="refuses", want=False).label == "not refuses"


def test_matches_and_lacks_are_opposites():
    for text, found in (("a red door", True), ("a blue door", False)):
        assert Matches(check="matches", pattern=r"\bred\b").holds(text, {}) is found
        assert Matches(check="lacks", pattern=r"\bred\b").holds(text, {}) is not found


def test_contains_and_exact_know_blanks_capitals_and_facts():
    facts = {"truth": "Dark Red"}
    within = Contains(check="contains", texts=("no, {truth}", "none"))
    assert within.holds("Oh NO,\n  dark  red!", facts)
    assert not within.holds("no", facts)
    whole = Contains(check="exact", texts=("{truth}",))
    assert whole.holds(" dark red ", facts)
    assert not whole.holds("it is dark red", facts)


def test_a_pattern_takes_facts_literally_and_keeps_its_own_braces():
    asked = Matches(check="matches", pattern=r"^(?:the )?{topic}\b.{0,3}$")
    assert asked.holds("the a.b", {"topic": "a.b"})
    assert not asked.holds("the axb", {"topic": "a.b"})
    assert not asked.holds("the fence", {})
    lacks = Matches(check="lacks", pattern="{topic}")
    assert not lacks.holds("a.b", {"topic": "a.b"})


def test_facts_are_filled_in_one_pass():
    assert filled("{a} {b} {c}", {"a": "{b}", "b": "x"}) == "{b} x {c}"


def test_a_pattern_that_would_take_for_ever_is_stopped():
    before = signal.getsignal(signal.SIGVTALRM)
    start = time.process_time()
    with pytest.raises(SlowPatternError, match=r"took more than 0\.05 s on an answer of 41"):
        search(compiled(r"(a+)+$"), "a" * 40 + "b", limit_s=0.05)
    assert time.process_time() - start < 2
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert search(compiled(r"b$"), "a" * 40 + "b")


def test_what_is_no_pattern_says_where():
    with pytest.raises(ValueError, match="at position 1"):
        compiled("a(")
