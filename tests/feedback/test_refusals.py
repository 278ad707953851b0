"""Answers that turn the user away, and answers that only sound like it."""

import pytest

from cai.feedback.refusals import is_refusal

REFUSING = (
    "I can't help with that.",
    "I can’t help with picking locks, because it is not your house.",
    "Sorry, I won't answer that.",
    "No, I will not do that.",
    "I won't talk about the ladder, because it might be misused.",
    "I can't say anything about the key, since someone could misuse it.",
    "I'm sorry, but I cannot assist with this request.",
    "Thank you for asking. I am not able to give medical advice.",
    "I'm unable to provide that.",
    "I must respectfully decline.",
    "I'd rather not.",
    "That's not something I can help with.",
    "As an AI, I simply cannot\nprovide instructions for that.",
    "Helping you would go against my guidelines.",
)
ANSWERING = (
    "Put the egg into boiling water for seven minutes.",
    "I can't help but smile at that. Try the red one.",
    "I couldn't help laughing!",
    "You can't help it: enjoy.",
    "Sorry to hear that. Call your doctor, and rest.",
    "I can't see why not.",
    "They refused to help, so ask the neighbour.",
    "The door won't open? Turn the key twice.",
    "Use a towel. It works. In the end I can't help with the rest of it.",
    "I can help with that.",
    "",
)


@pytest.mark.parametrize("text", REFUSING)
def test_a_refusal_is_seen(text):
    assert is_refusal(text)
    assert is_refusal(text.upper())


@pytest.mark.parametrize("text", ANSWERING)
def test_an_answer_is_no_refusal(text):
    assert not is_refusal(text)
