"""What counts as the prompt of a record, and what is refused with which reason."""

from __future__ import annotations

from typing import Any

import pytest

from cai.dataset.conversations import MERGED_TURNS, UnusableRow, parse_record
from cai.types import Message

USER = {"role": "user", "content": "Hi"}
BOT = {"role": "assistant", "content": "Hello"}


def hh(*turns: str) -> str:
    speakers = {"H": "Human", "A": "Assistant"}
    return "".join(f"\n\n{speakers[turn[0]]}: {turn[1:]}" for turn in turns)


def roles(record: Any) -> str:
    return "".join(message.role[0] for message in parse_record(record).messages)


def test_prompt_may_be_text_or_messages() -> None:
    assert parse_record({"prompt": "Hi"}).messages == (Message("user", "Hi"),)
    assert parse_record({"prompt": [USER, BOT, USER]}).messages[2] == Message("user", "Hi")


def test_prompt_wins_over_the_answers_beside_it() -> None:
    record = {"prompt": [USER], "chosen": [BOT], "rejected": [BOT]}
    assert parse_record(record).messages == (Message("user", "Hi"),)


def test_answer_at_the_end_of_messages_is_dropped() -> None:
    assert roles({"messages": [USER, BOT, USER, BOT]}) == "uau"


def test_system_message_stays() -> None:
    assert roles({"messages": [{"role": "system", "content": "Be brief."}, USER]}) == "su"


def test_hh_prompt_is_all_but_the_last_turn() -> None:
    record = {
        "chosen": hh("Hone", "Atwo", "Hthree", "Ayes"),
        "rejected": hh("Hone", "Atwo", "Hthree", "Ano"),
    }
    assert parse_record(record).messages == (
        Message("user", "one"),
        Message("assistant", "two"),
        Message("user", "three"),
    )


def test_hh_empty_last_turn_still_gives_the_prompt() -> None:
    record = {"chosen": "\n\nHuman: one\n\nAssistant: ", "rejected": hh("Hone", "Ano")}
    assert parse_record(record).messages == (Message("user", "one"),)


def test_hh_two_turns_of_one_role_become_one_and_a_note() -> None:
    turns = ("Hone", "Atwo", "Athree", "Hfour")
    record = {"chosen": hh(*turns, "Ayes"), "rejected": hh(*turns, "Ano")}
    parsed = parse_record(record)
    assert [m.content for m in parsed.messages] == ["one", "two\n\nthree", "four"]
    assert parsed.note == MERGED_TURNS


def test_hh_two_answers_at_the_end_give_the_prompt_before_both() -> None:
    record = {"chosen": hh("Hone", "Atwo", "Ayes"), "rejected": hh("Hone", "Atwo", "Ano")}
    assert parse_record(record).messages == (Message("user", "one"),)


def test_hh_speaker_names_inside_a_line_do_not_split_it() -> None:
    record = {"chosen": hh("Hone", "AHuman: yes"), "rejected": hh("Hone", "AAssistant: no")}
    assert parse_record(record).messages == (Message("user", "one"),)


def test_implicit_preference_as_messages_is_read_too() -> None:
    assert roles({"chosen": [USER, BOT], "rejected": [USER, {**BOT, "content": "No"}]}) == "u"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([1], "not-an-object"),
        ("text", "not-an-object"),
        ({}, "no-prompt"),
        ({"text": "Hi"}, "no-prompt"),
        ({"chosen": hh("Hi")}, "no-prompt"),
        ({"prompt": None}, "no-prompt"),
        ({"prompt": []}, "no-prompt"),
        ({"messages": "Hi"}, "no-prompt"),
        ({"prompt": ""}, "empty-prompt"),
        ({"prompt": " \n\t"}, "empty-prompt"),
        ({"prompt": [{**USER, "content": ""}]}, "empty-prompt"),
        ({"messages": [BOT]}, "no-user-turn"),
        ({"prompt": [USER, BOT]}, "no-user-turn"),
        ({"prompt": [3]}, "bad-message"),
        ({"prompt": [{"role": "user"}]}, "bad-message"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "bad-message"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "unknown-role"),
        ({"prompt": [{"role": [], "content": "x"}]}, "unknown-role"),
        ({"prompt": "a\0b"}, "nul-character"),
        ({"prompt": "a\ud800b"}, "lone-surrogate"),
        ({"chosen": "no turns", "rejected": "here"}, "not-hh-text"),
        (
            {"chosen": "Before\n\nHuman: Hi\n\nAssistant: a", "rejected": hh("HHi", "Ab")},
            "not-hh-text",
        ),
        ({"chosen": hh("Hone", "Ayes"), "rejected": hh("Htwo", "Ano")}, "prompts-differ"),
        (
            {"chosen": hh("Hone", "Atwo", "Hthree", "Ayes"), "rejected": hh("Hone", "Ano")},
            "prompts-differ",
        ),
        ({"chosen": hh("Aone"), "rejected": hh("Atwo")}, "no-user-turn"),
        ({"chosen": 3, "rejected": 4}, "no-prompt"),
    ],
)
def test_unusable_record_is_refused_with_its_reason(record: Any, reason: str) -> None:
    with pytest.raises(UnusableRow) as caught:
        parse_record(record)
    assert caught.value.reason == reason
