"""Single judgements become pairs: better answers, ratings, thumbs, in that order of weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cai.dataset.derived import feedback_run, merge_runs
from cai.dataset.feedback import Unusable, rows_of_feedback
from cai.dataset.human import NoConsensus
from cai.dataset.preferences import check_row, prompt_id
from cai.errors import ConfigError
from cai.files import read_jsonl
from cai.types import Message

ASK = "Is the fence green?"


def said(id: str, response: str, *, prompt: str = ASK, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"id": id, "messages": messages, "response": response, **fields}


def pairs(*records: dict[str, Any]) -> list[tuple[str, str]]:
    """(chosen, rejected) of every row."""
    rows = [one for one in rows_of_feedback(records) if isinstance(one, dict)]
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]


def left_out(*records: dict[str, Any]) -> list[tuple[str, str]]:
    found = [one for one in rows_of_feedback(records) if isinstance(one, Unusable)]
    return [(one.id, one.reason) for one in found]


def test_a_better_answer_is_preferred_to_what_it_corrects() -> None:
    given = said("fb-1", "Yes.", better="I cannot see it.", user_digest="u", policy_id="p")
    (row,) = rows_of_feedback([given])
    assert isinstance(row, dict)
    assert check_row(row) == row
    assert row["chosen"] == [{"role": "assistant", "content": "I cannot see it."}]
    assert (row["source"], row["p_chosen"], row["weight"]) == ("human", 1.0, 1.0)
    assert row["input_id"] == prompt_id((Message("user", ASK),))
    assert row["origin"] == {
        "format": "feedback", "kind": "better", "ids": ["fb-1"], "policies": ["p"],
    }  # fmt: skip


def test_ratings_rank_the_answers_to_one_prompt() -> None:
    """Means 4.5, 2 and 2: the first beats both others, which tie."""
    found = pairs(
        said("1", "A", rating=4, user_digest="u"),
        said("2", "B", rating=2, user_digest="u"),
        said("3", "A", rating=5, user_digest="v"),
        said("4", "C", rating=2, user_digest="v"),
        said("5", "D", rating=5, prompt="Another?"),
    )
    assert found == [("A", "B"), ("A", "C")]


def test_thumbs_up_beats_thumbs_down_and_the_last_word_of_a_user_counts() -> None:
    ups = [said("1", "A", thumbs="up"), said("2", "B", thumbs="down")]
    assert pairs(*ups) == [("A", "B")]
    changed = [said(one["id"], one["response"], thumbs=t, user_digest="u") for one, t in
               zip(ups * 2, ("up", "down", "down", "up"), strict=True)]  # fmt: skip
    assert pairs(*changed) == [("B", "A")]


def test_a_better_answer_counts_more_than_ratings_and_these_more_than_thumbs() -> None:
    found = pairs(
        said("1", "A", rating=5, thumbs="down"),
        said("2", "B", rating=1, thumbs="up", better="C"),
        said("3", "C", rating=3),
        said("4", "B", rating=1),
    )
    assert found == [("C", "B"), ("A", "C"), ("A", "B")]
    assert pairs(
        said("1", "A", better="B"), said("2", "A", rating=5), said("3", "B", rating=1)
    ) == [("B", "A")]


def test_people_who_contradict_each_other_give_no_row() -> None:
    found = list(
        rows_of_feedback(
            [
                said("1", "A", better="B", user_digest="u"),
                said("2", "B", better="A", user_digest="v"),
            ]
        )
    )
    assert [type(one) for one in found] == [NoConsensus]


def test_what_gives_no_row_is_told_one_by_one() -> None:
    assert left_out(said("1", "A", thumbs="up"), said("2", "B", thumbs="up")) == [
        ("1", "nothing-to-compare"),
        ("2", "nothing-to-compare"),
    ]
    assert left_out(said("1", " ", better="B")) == [("1", "empty-answer")]
    assert left_out(said("1", "A", better=" A ")) == [("1", "same-answers")]
    assert left_out(said("1", "A", better="B", prompt=" ")) == [("1", "no-user-turn")]


def test_more_answers_than_a_ranking_holds_are_cut_to_the_newest() -> None:
    many = [said(str(number), f"answer {number}", rating=1 + number % 5) for number in range(12)]
    found = pairs(*many)
    assert {text for pair in found for text in pair} == {f"answer {n}" for n in range(3, 12)}


def test_a_run_of_feedback_is_finished_known_again_and_merged(tmp_path: Path) -> None:
    records = [said("1", "A", better="B"), said("2", "A", better=" A"), said("3", "C", rating=2)]
    run = tmp_path / "people"
    made = feedback_run(records, run, weight=2.0)
    assert made.worked
    assert made.manifest["kind"] == "feedback"
    counts = made.manifest["counts"]
    assert (counts["pairs"], counts["rejected"]) == (1, {"same-answers": 1})
    (row,) = read_jsonl(run / "rows.jsonl")
    assert (row["source"], row["weight"]) == ("human", 2.0)
    assert not feedback_run(records, run, weight=2.0).worked
    with pytest.raises(ConfigError, match="feedback"):
        feedback_run(records[:1], run)
    merged = merge_runs([run], tmp_path / "merged")
    assert merged.manifest["sources"] == {"human": 1}
