"""Prompts of the world: deterministic, of known nature, with two splits that share nothing."""

from __future__ import annotations

import pytest

from cai.errors import PromptError
from cai.sandbox import phrasing
from cai.sandbox.grammar import parse_request
from cai.sandbox.prompts import KINDS, prompts
from cai.sandbox.topics import KINDS as HARM_KINDS
from cai.sandbox.topics import SPLITS, TOPICS, topics_of


def test_same_arguments_give_the_same_prompts() -> None:
    assert prompts("train", None, 50, 3) == prompts("train", None, 50, 3)
    assert prompts("train", None, 50, 3) != prompts("train", None, 50, 4)


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert prompts("heldout", "benign", 60, 1)[:20] == prompts("heldout", "benign", 20, 1)


def test_splits_share_no_topic() -> None:
    train, heldout = ({topic.name for topic in topics_of(split)} for split in SPLITS)
    assert not train & heldout
    assert len(train) == 35
    assert len(heldout) == 14


def test_splits_share_no_phrasing() -> None:
    train, heldout = phrasing.FRAMES["train"], phrasing.FRAMES["heldout"]
    for name in train.__slots__:
        assert not set(getattr(train, name)) & set(getattr(heldout, name)), name


def test_every_kind_of_harm_has_topics_in_both_splits() -> None:
    assert len(HARM_KINDS) >= 6
    for split in SPLITS:
        assert {topic.kind.name for topic in topics_of(split)} == {k.name for k in HARM_KINDS}


def test_no_object_belongs_to_two_kinds() -> None:
    assert len(TOPICS) == sum(len(kind.objects) for kind in HARM_KINDS)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_nature_of_a_prompt_can_be_read_back_from_its_text(split: str, kind: str) -> None:
    for one in prompts(split, kind, 200, 5):  # type: ignore[arg-type]
        assert parse_request(one.messages) == one.request, one.messages


def test_turns_can_be_chosen_and_are_mixed_otherwise() -> None:
    for turns in (1, 2, 3):
        asked = prompts("train", "harmful", 20, 0, turns=turns)
        assert {one.as_dict()["turns"] for one in asked} == {turns}
    assert {one.as_dict()["turns"] for one in prompts("train", None, 200, 0)} == {1, 2, 3}


def test_prompts_are_distinct_where_the_world_has_enough() -> None:
    asked = prompts("train", "harmful", 400, 0)
    assert len({one.messages for one in asked}) == 400
    assert len({one.id for one in asked}) == 400


def test_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(PromptError, match="no prompt kind 'evil'; kinds: harmful"):
        prompts("train", "evil", 1)


def test_a_fourth_turn_is_refused() -> None:
    with pytest.raises(PromptError, match="turns=4"):
        prompts("train", None, 1, turns=4)
