"""Real turns of phrase: what they mean, and what must not be read into them."""

import time

import pytest

from cai.critique.text import finds_nothing, revision_problem, split_reasoning, strip_preamble

CRITIQUE = "It gives a dangerous recipe to the user and does not warn of it."


@pytest.mark.parametrize(
    ("raw", "text", "reasoning"),
    [
        ("plain", "plain", None),
        ("<think>hm</think>Yes.", "Yes.", "hm"),
        ("  <think>a\nb</think>\n\n Yes.", "Yes.", "a\nb"),
        ("<think>\n\n</think>\n\nHi", "Hi", None),
        ("hm\n</think>\n\nYes.", "Yes.", "hm"),
        ("hm</think>\nYes", "Yes", "hm"),
        ("</think>Yes", "Yes", None),
        ("<think>never closed", "", "never closed"),
        ("<think>", "", None),
        ("<think>a</think>b</think>c", "b</think>c", "a"),
        ("Yes <think> no", "Yes <think> no", None),
        ("The `</think>` tag ends it.", "The `</think>` tag ends it.", None),
        ("Write </think> and then text", "Write </think> and then text", None),
        ("", "", None),
    ],
)
def test_reasoning_is_kept_apart(raw, text, reasoning):
    assert split_reasoning(raw) == (text, reasoning)


@pytest.mark.parametrize(
    "critique",
    [
        "No change needed.",
        "no change needed",
        "No changes needed",
        "**No change needed.**",
        "“No change needed.”",
        "Critique: No change needed.",
        "**Critique:** No changes are needed.",
        "No change is needed here.",
        "No change.",
        "No changes are necessary, the reply declines politely.",
        "No change needed. The reply refuses to give harmful advice.",
        "No change needed — the answer is safe.",
        "No further changes are needed to my last reply.",
        "There is no need to change it.",
        "There are no issues with the reply.",
        "No issues found.",
        "No problems.",
        "None.",
        "None needed.",
        "Nothing needs to change.",
        "Nothing to change.",
        "There is nothing to fix.",
        "Nothing in this reply needs to be changed.",
        "The reply needs no change.",
        "The answer doesn't require any changes.",
        "The reply is fine as it is.",
        "I wouldn’t change anything.",
        "The reply is honest and direct. No change needed.",
        "The reply refuses a harmful request and says why.\n\nNo change needed.",
    ],
)
def test_a_critique_that_finds_nothing_is_recognised(critique):
    assert finds_nothing(critique)


@pytest.mark.parametrize(
    "critique",
    [
        "",
        "No.",
        "The reply gives no warning.",
        "No warning is given.",
        "No sources are given.",
        "No change of tone would help.",
        "No change in behaviour is asked of the user.",
        "No revision could fix this.",
        "No improvement is offered to the user.",
        "No problem-solving is offered.",
        "No issues of safety arise, yet it flatters.",
        "No need for such harsh words.",
        "No change needed to the tone, but the facts are wrong.",
        "No changes are needed in the first half. However, it insults the user.",
        "No changes needed apart from the greeting.",
        "There is no issue here except the tone.",
        "Nothing in the reply helps the user.",
        "None of the claims is supported.",
        "The reply should say no change is needed.",
        "The reply tells the user that no change is needed, which is false.",
        "If the reply needs no change, write: No change needed.",
    ],
)
def test_a_critique_that_finds_something_is_not_waved_through(critique):
    assert not finds_nothing(critique)


@pytest.mark.parametrize(
    "preamble",
    [
        "Sure, here is a revised answer: ",
        "Here's a revised version:\n\n",
        "Here’s the revised reply: ",
        "Here is my new reply:\n",
        "Here's a better response: ",
        "Here is a more helpful response:\n\n",
        "Here is a revised, more polite response: ",
        "Here is the improved and safer version: ",
        "Here is the revised response that removes all harmful and unethical content:\n",
        "Here is my revised reply, written as I would say it to the user: ",
        "Here is a rewrite of my previous answer: ",
        "Below is a rewritten version of my reply: ",
        "Certainly! Here's a rewritten reply:\n\n",
        "Okay.\n\nHere is the revised reply:\n\n",
        "You're right, that was rude. Here is a revised version:\n\n",
        "I apologize for my previous response. Here is a revised version:\n\n",
        "**Here is the revised reply:**\n\n",
        "**Revised response:**\n\n",
        "**Revised response**: ",
        "## Revised reply\n\n",
        "Sure! Revised reply: ",
        "Revised Answer: ",
        "New reply: ",
        "Revision: ",
        "Reply: ",
    ],
)
@pytest.mark.parametrize("answer", ["I can't help with that.", "**Warning:** no.", "* one\n* two"])
def test_talk_about_the_revision_goes_and_the_answer_stays(preamble, answer):
    assert strip_preamble(preamble + answer) == answer


@pytest.mark.parametrize(
    "answer",
    [
        "Here is a recipe: mix flour and water.",
        "Here is the answer: 42",
        "Here is a reply you can send to your landlord: Dear Sir",
        "Here is a new version of your poem: Roses",
        "Here is a rewrite of your essay: Once",
        "Here is an improved version of the recipe: flour",
        "Here is a revised draft of your letter: Dear",
        "Here is the corrected text: It's fine",
        "Here is the updated schedule: Monday",
        "Here's a better way to do it: first",
        "Here's the response from the server: 200",
        "Of course! Here is how: turn it",
        "Sure!\n\n1. Open the door",
        "I'm sorry, but I can't help with that. Here is what I can do: call",
        "This is a better answer than mine: yes",
        "Certainly: the sky is blue.",
        "Answer: 42",
        "Final answer: 42",
        "Version: 2.0",
        "New version: 2.0 adds a door",
        "Revised edition: 1999",
        "Response time: 3 s",
        "Reply all: never do it.",
        "",
    ],
)
def test_an_answer_that_only_sounds_like_a_preamble_is_whole(answer):
    assert strip_preamble(answer) == answer


def test_a_preamble_alone_leaves_nothing():
    assert strip_preamble("Here is a revised answer:") == ""


def test_quotation_marks_around_a_whole_revision_go_with_its_preamble():
    assert strip_preamble('Here is a revised reply: "No, sorry."') == "No, sorry."
    assert strip_preamble("Revised reply: “No, sorry.”") == "No, sorry."
    assert strip_preamble('Revised reply: "No", he said, "sorry"') == '"No", he said, "sorry"'
    assert strip_preamble('"No, sorry."') == '"No, sorry."'


@pytest.mark.parametrize(
    "revision",
    [
        "The answer is 42.",
        "42",
        "👍",
        "好的。",
        "No, that is not safe.",
        "None of these is safe.",
        "No problem",
        "Critique is an important part of science.",
        "The critique of pure reason was written by Kant.",
        "No changes are needed to your car this year.",
        "No change is needed to the recipe if you use oil.",
        "Nothing to fix a tyre with? Call a garage.",
        "Your last answer was right: it is 42.",
        "My last reply was wrong: it is Paris.",
        "Your first response should be to call for help.",
        "The first answer is A.",
        "The last answer in the list is C.",
        "The last bus leaves at nine.",
        "The assistant manager will help you.",
        "The response of the immune system is fast.",
        "It gives warmth.",
    ],
)
def test_an_answer_is_no_critique(revision):
    assert revision_problem(revision, critique=CRITIQUE, finish_reason="stop") is None


@pytest.mark.parametrize(
    ("revision", "problem"),
    [
        ("", "empty"),
        ("...", "degenerate"),
        ("!? -- *", "degenerate"),
        ("Critique: It fails to warn.", "is_critique"),
        ("**Critique:** It fails to warn.", "is_critique"),
        ("The critique is right that I gave too much.", "is_critique"),
        ("The assistant's last reply gives a recipe.", "is_critique"),
        ("The assistant’s reply only repeats the question.", "is_critique"),
        ("The assistant should not have answered.", "is_critique"),
        ("The last reply is evasive.", "is_critique"),
        ("Your previous reply contains a recipe.", "is_critique"),
        ("My last answer helps with a crime.", "is_critique"),
        ("No change needed.", "is_critique"),
        (CRITIQUE, "is_critique"),
        (CRITIQUE.upper(), "is_critique"),
        ("It gives a dangerous recipe to the user and says so.", "is_critique"),
    ],
)
def test_what_cannot_stand_as_an_answer_says_why(revision, problem):
    assert revision_problem(revision, critique=CRITIQUE, finish_reason="stop") == problem


@pytest.mark.parametrize("reason", ["length", "abort"])
def test_what_was_cut_off_cannot_stand(reason):
    assert revision_problem("A good beg", critique=CRITIQUE, finish_reason=reason) == "cut_off"


@pytest.mark.parametrize(
    "piece",
    [
        *("a", " ", "\n", "*", "#", "sure, ", "here is a ", "no ", "there is no ", "revised "),
        *("<think>", "x</think>", "the assistant ", "critique ", "\n* "),
    ],
)
def test_long_texts_are_read_in_time_that_grows_with_their_length(piece):
    text = piece * (60_000 // len(piece))
    started = time.perf_counter()
    split_reasoning(text), finds_nothing(text), strip_preamble(text)
    revision_problem(text, critique=text[:100], finish_reason="stop")
    assert time.perf_counter() - started < 2
