"""Feedback is kept as it came, without names of people, and counted by arm and policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cai.db import Database
from cai.policy import feedback as feedbacks
from cai.policy.feedback import ArmResult, Feedback, FeedbackStore, user_digest
from tests.policy.registering import opened

ASK = [{"role": "user", "content": "Is the fence green?"}]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path) as database:
        yield database


@pytest.fixture
def store(database: Database) -> FeedbackStore:
    return FeedbackStore(database)


def said(**fields: Any) -> Feedback:
    return Feedback(**{"messages": ASK, "response": "Yes.", **fields})


def test_it_is_read_back_whole_and_in_order(
    store: FeedbackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedbacks, "_BATCH", 2)
    whole = said(
        thumbs="down", rating=2, better="I cannot see it. \U0001f33f", policy_id="p", arm="a"
    )
    kept = [store.add(whole), *(store.add(said(rating=number)) for number in (1, 2, 3, 4))]
    assert kept[0].model_dump(include=set(Feedback.model_fields)) == whole.model_dump()
    assert list(store.records()) == kept
    assert len({one.id for one in kept}) == 5
    first, last = kept[1].seq, kept[3].seq
    assert list(store.records(after=first, up_to=last)) == kept[2:4]
    assert store.last_seq() == kept[-1].seq


def test_an_empty_store_has_nothing(store: FeedbackStore) -> None:
    assert list(store.records()) == []
    assert store.last_seq() == 0
    assert store.results("arm") == {}


def test_results_are_counted_by_arm_and_by_policy(store: FeedbackStore) -> None:
    for fields in (
        {"thumbs": "up", "arm": "a", "policy_id": "p"},
        {"thumbs": "down", "rating": 2, "arm": "a", "policy_id": "q"},
        {"rating": 5, "arm": "a", "policy_id": "p"},
        {"better": "No.", "arm": "live", "policy_id": "p"},
        {"thumbs": "up"},
    ):
        store.add(said(**fields))
    assert store.results("arm") == {
        "a": ArmResult(num=3, num_up=1, num_down=1, num_rated=2, mean_rating=3.5, num_better=0),
        "live": ArmResult(num=1, num_up=0, num_down=0, num_rated=0, mean_rating=None, num_better=1),
    }
    assert {name: one.num for name, one in store.results("policy_id").items()} == {"p": 3, "q": 1}


@pytest.mark.parametrize("fields", [{}, {"rating": 0}, {"rating": 6}, {"thumbs": "sideways"}])
def test_what_says_nothing_or_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        said(**fields)


def test_a_users_tag_is_kept_as_a_digest() -> None:
    assert user_digest(None) is None
    assert user_digest("Jane Doe") == user_digest("Jane Doe") != user_digest("John Doe")
    assert "Jane" not in str(user_digest("Jane Doe"))
