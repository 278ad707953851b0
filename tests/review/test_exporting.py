"""What was decided goes to other tools and back into a dataset."""

from __future__ import annotations

import json
from pathlib import Path

from cai.dataset.derived import merge_runs
from cai.dataset.feedback import Unusable
from cai.dataset.importers.reading import Imported, import_rows
from cai.files import read_jsonl
from cai.registry import load_object
from cai.review.decisions import human_rows
from cai.review.exporting import annotated_document, games, review_line
from cai.review.items import iter_drafts
from cai.review.records import ItemDraft
from tests.dataset.rows import row
from tests.review.things import pair, reviewed, single


def test_choices_override_the_judge_when_merged_with_the_run(tmp_path: Path) -> None:
    """Of three judged rows people agree with one, turn one, and are split on the third."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row(number)) + "\n" for number in range(3)))
    drafts = [draft for draft in iter_drafts(rows) if isinstance(draft, ItemDraft)]
    chosen = [draft.answers[0][0]["content"].startswith("better") for draft in drafts]
    sides = ["a" if first else "b" for first in chosen]
    other = {"a": "b", "b": "a"}
    votes = [
        {"ann": sides[0], "bob": sides[0]},
        {"ann": other[sides[1]], "bob": other[sides[1]]},
        {"ann": sides[2], "bob": other[sides[2]]},
    ]
    found = list(human_rows(reviewed(d, v) for d, v in zip(drafts, votes, strict=True)))
    people = tmp_path / "people.jsonl"
    people.write_text("".join(json.dumps(one) + "\n" for one in found if isinstance(one, dict)))
    made = merge_runs([rows, people], tmp_path / "merged")
    merged = {one["input_id"]: one for one in read_jsonl(tmp_path / "merged" / "rows.jsonl")}
    first, second, third = (merged[row(number)["input_id"]] for number in range(3))
    assert (first["source"], first["overrides"]["agrees"]) == ("human", True)
    assert second["chosen"] == row(1)["rejected"]
    assert second["votes"] == {"chosen": ["ann", "bob"], "rejected": []}
    assert third["source"] == "ai"
    assert made.manifest["agreement"]["pairs"] == 3
    assert made.manifest["judge_stats"]["judge-1"]["accuracy"] == 0.5


def test_ties_and_skips_give_no_row_and_ratings_give_pairs() -> None:
    found = list(
        human_rows(
            [
                reviewed(pair(0), {"ann": "tie", "bob": "skip"}),
                reviewed(single("fine"), {}, ratings=(5, 4)),
                reviewed(single("poor"), {}, ratings=(1, 2)),
            ]
        )
    )
    assert [one.reason for one in found if isinstance(one, Unusable)] == ["tie", "skip"]
    (rated,) = (one for one in found if isinstance(one, dict))
    assert (rated["source"], rated["chosen"][0]["content"]) == ("human", "fine")


def test_annotated_pairs_are_read_back_with_every_rater(tmp_path: Path) -> None:
    found = [
        reviewed(pair(0, 0.9), {"ann": "good", "bob": "bad"}),
        reviewed(pair(1, 0.9), {"ann": "good", "bob": "tie"}),
        reviewed(single("fine"), {}, ratings=(5,)),
    ]
    document = annotated_document(found, created_at="2026-01-01T00:00:00Z")
    assert document["metadata"]["version"] == "2.0"
    assert {one["type"] for one in document["annotators"].values()} == {"human", "ai"}
    models = {
        one[s]["model"] for one in document["comparisons"] for s in ("response_a", "response_b")
    }
    assert models == {"new", "old"}
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(document))
    rows = [item.row for item in import_rows(path) if isinstance(item, Imported)]
    chosen = [one["chosen"][0]["content"] for one in rows]
    assert sorted(chosen) == ["bad 0", "good 0", "good 1"]
    assert {one["source"] for one in rows} == {"human"}
    ties = [view for one in document["comparisons"] for view in one["annotations"].values()]
    assert {"pref": None, "no_pref_reason": "tie"} in ties


def test_votes_on_two_policies_are_games_of_an_arena(tmp_path: Path) -> None:
    found = [
        reviewed(pair(0), {"ann": "good", "bob": "tie"}),
        reviewed(pair(1, policies=("new", "new")), {"ann": "good"}),
        reviewed(pair(2, policies=(None, "old")), {"ann": "good"}),
    ]
    first, second = (game for one in found for game in games(one))
    assert first[first["winner"]] == "new"
    assert first["len_" + first["winner"]] == len("good 0")
    assert (second["winner"], second["source"]) == ("tie", "bob")
    path = tmp_path / "games.jsonl"
    path.write_text("".join(json.dumps(game) + "\n" for game in (first, second)))
    assert len(load_object("cai.evaluate.arena_data:read_games")(path)) == 2


def test_a_line_tells_who_answered_and_who_decided() -> None:
    line = review_line(reviewed(pair(0, 0.9), {"ann": "good"}, is_random=True))
    assert json.loads(json.dumps(line)) == line
    assert {answer["policy"] for answer in line["answers"]} == {"new", "old"}
    assert line["is_random"]
    assert line["decisions"][0]["rater"] == "ann"
