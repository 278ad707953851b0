"""Items from rows of runs, annotated pairs and lines of verdicts; what cannot be used is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cai.dataset.importers.records import Skipped
from cai.errors import DataError
from cai.review.items import iter_drafts
from cai.review.records import ItemDraft
from tests.dataset.rows import label, row


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def one(path: Path, **options: Any) -> ItemDraft:
    (found,) = iter_drafts(path, **options)
    assert isinstance(found, ItemDraft), found
    return found


def view(draft: ItemDraft, text: str) -> dict[str, Any]:
    """Policies and opinions as they are for the answer with this text."""
    is_first = draft.answers[0][0]["content"] == text
    return {
        "policy": draft.policies[0 if is_first else 1],
        **{o.by: pytest.approx(o.p_a if is_first else 1 - o.p_a) for o in draft.opinions},
    }


def test_a_row_of_a_run_has_its_judge_its_principles_and_its_policy(tmp_path: Path) -> None:
    vote = {"principle": "kind", "weight": 1.0, **label(0.2, 0.4)}
    write(tmp_path / "rows.jsonl", [row(7, p_chosen=0.85, label=label(votes=[vote]))])
    draft = one(tmp_path)
    assert view(draft, "better 7.0") == {"policy": "base", "judge-1": 0.85, "kind": 0.3}
    assert draft.origin["constitution"]["ref"] == "test@1"
    assert draft.origin["input_id"] == row(7)["input_id"]


def test_an_overridden_row_keeps_both_sides_of_the_matter(tmp_path: Path) -> None:
    """The judge gave the now chosen answer 0.2; three people chose it, one did not."""
    overrides = {"source": "ai", "p_chosen": 0.2, "agrees": False, "label": label(principles=["p"])}
    votes = {"chosen": ["x", "y", "z"], "rejected": ["w"]}
    human = row(1, source="human", overrides=overrides, votes=votes, label=None)
    told = view(one(write(tmp_path / "rows.jsonl", [human])), "better 1.0")
    assert told == {"policy": "base", "judge-1": 0.2, "x": 1.0, "y": 1.0, "z": 1.0, "w": 0.0}


def test_annotated_pairs_name_the_models_of_both_sides(tmp_path: Path) -> None:
    document = {
        "metadata": {"version": "2.0", "default_annotator": "k1"},
        "annotators": {"k1": {"name": "Ann", "type": "human"}, "k2": {"type": "human"}},
        "comparisons": [
            {
                "id": "c1",
                "prompt": "Why?",
                "response_a": {"text": "Because.", "model": "m-a"},
                "response_b": {"text": "So.", "model": "m-b"},
                "annotations": {"k1": {"pref": "a"}, "k2": {"pref": "b"}},
            }
        ],
    }
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(document))
    first, second = (draft for draft in iter_drafts(path) if isinstance(draft, ItemDraft))
    assert first.id == second.id
    assert view(first, "Because.") == {"policy": "m-a", "k1": 1.0}
    assert view(second, "Because.") == {"policy": "m-a", "k2": 0.0}


def test_lines_of_verdicts_are_read_and_a_missing_verdict_is_no_opinion(tmp_path: Path) -> None:
    said = {"prompt": "Why?", "a": "Because.", "b": "So.", "policy_a": "p", "policy_b": "q"}
    lines = [
        {**said, "p_a": 0.7, "judge": {"model": "j"}},
        {**said, "winner": "tie", "rater": "ann"},
        {**said, "winner": None},
        {"messages": [{"role": "user", "content": "Why?"}], "a": {"text": "X", "policy": "p"},
         "b": {"text": "Y", "model": "q"}, "winner": "b"},
        {**said, "p_a": 7},
        {**said, "b": "Because."},
        {**said, "b": " "},
        {**said, "p_a": float("nan")},
    ]  # fmt: skip
    found = list(iter_drafts(write(tmp_path / "verdicts.jsonl", lines)))
    drafts = [draft for draft in found if isinstance(draft, ItemDraft)]
    assert view(drafts[0], "Because.") == {"policy": "p", "j": 0.7}
    assert view(drafts[1], "Because.") == {"policy": "p", "ann": 0.5}
    assert drafts[2].opinions == ()
    assert view(drafts[3], "Y") == {"policy": "q", "judge": 1.0}
    assert [(one.line, one.reason) for one in found if isinstance(one, Skipped)] == [
        (5, "bad-label"), (6, "same-answers"), (7, "empty-answer"),
        (8, "bad-label"),
    ]  # fmt: skip


def test_single_answers_are_rated_and_pairs_can_be_taken_apart(tmp_path: Path) -> None:
    answers = write(tmp_path / "answers.jsonl", [{"prompt": "Q", "response": "A", "policy": "p"}])
    draft = one(answers)
    assert (draft.kind, draft.policies, draft.opinions) == ("rating", ("p",), ())
    rows = write(tmp_path / "rows.jsonl", [row(1)])
    apart = [draft for draft in iter_drafts(rows, kind="rating") if isinstance(draft, ItemDraft)]
    assert {draft.answers[0][0]["content"] for draft in apart} == {"better 1.0", "draft 1.0"}
    assert {draft.kind for draft in apart} == {"rating"}


def test_an_evaluations_answers_become_pairs_of_its_policies(tmp_path: Path) -> None:
    """Both said the same to the second prompt, and the third has different turns before the end."""

    def line(policy: str, prompt: str, *said: str, suite: str = "s") -> dict[str, Any]:
        asked = {"role": "user", "content": "Q"}
        messages = [m for text in said for m in (asked, {"role": "assistant", "content": text})]
        about = {"suite": suite, "policy": policy, "prompt": prompt, "sample": 0}
        return {**about, "messages": messages, "answers": list(said)}

    lines = [
        line("p", "1", "A"), line("p", "2", "Same"), line("p", "3", "X", "Y"),
        line("q", "1", "B"), line("q", "2", "Same"), line("q", "3", "Z", "W"),
    ]  # fmt: skip
    path = write(tmp_path / "answers.jsonl", lines)
    draft = one(tmp_path)
    assert view(draft, "A") == {"policy": "p"}
    assert view(draft, "B") == {"policy": "q"}
    assert draft.origin == {"suite": "s", "prompt": "1", "sample": 0}
    apart = list(iter_drafts(path, kind="rating"))
    assert len(apart) == 6
    assert {one.kind for one in apart} == {"rating"}


def test_a_judges_checks_of_two_answers_make_an_opinion_on_the_pair(tmp_path: Path) -> None:
    """Odds of 9 to 1 for p and 1 to 1 for q on one check: 0.9 for p. One that is not wanted has
    odds of 1 to 9 and 1 to 1, which says the same; what text alone decided says nothing."""
    asked = [{"role": "user", "content": "Q"}]
    odds = {"p": (0.9, 0.1), "q": (0.5, 0.5)}
    about = {"suite": "s", "prompt": "1", "sample": 0}
    answers = [
        {**about, "policy": name, "answers": [name],
         "messages": [*asked, {"role": "assistant", "content": name}]}
        for name in odds
    ]  # fmt: skip
    verdicts = [
        {**about, "policy": name, "outcome": "passed", "checks": [
            {"check": "judge kind against worse", "turn": 1, "holds": True, "p": kind,
             "p_broken": 1 - kind},
            {"check": "not judge rude against worse", "turn": 1, "holds": True, "p": rude,
             "p_broken": rude},
            {"check": "refuses", "turn": 1, "holds": True},
            {"check": "judge broken", "turn": 1, "holds": None, "p_broken": float("nan")},
        ]}
        for name, (kind, rude) in odds.items()
    ]  # fmt: skip
    path = write(tmp_path / "answers.jsonl", answers)
    write(tmp_path / "verdicts.jsonl", [*verdicts, "no verdict"])
    assert view(one(path), "p") == {"policy": "p", "judge": 0.9}
    (tmp_path / "result.json").write_text(json.dumps({"judge": {"model": "j"}}))
    assert view(one(tmp_path), "q") == {"policy": "q", "j": 0.1}
    ratings = [draft for draft in iter_drafts(path, kind="rating") if isinstance(draft, ItemDraft)]
    assert [draft.opinions[0].p_a for draft in ratings] == pytest.approx([0.9, 0.5])


@pytest.mark.parametrize(
    "lines",
    [[{"prompt": "only"}], [], [3], [{"prompt_id": 1, "a": "p", "b": "q", "winner": "a"}]],
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, lines: list[Any]) -> None:
    with pytest.raises(DataError, match=r"f\.jsonl: nothing to review in its first record; give"):
        list(iter_drafts(write(tmp_path / "f.jsonl", lines)))


def test_a_folder_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no rows\.jsonl, answers\.jsonl or verdicts\.jsonl"):
        list(iter_drafts(tmp_path))
