"""What was decided goes to other tools and back into a dataset."""

from __future__ import annotations

import json
from pathlib import Path

from cai.dataset.derived import merge_runs
from cai.dataset.feedback import Unusable
from cai.dataset.importers.reading import Imported, import_rows
from cai.dataset.importers.records import Skipped
from cai.files import read_jsonl
from cai.registry import load_object
from cai.review.decisions import human_rows
from cai.review.exporting import annotated_document, games, review_line
from cai.review.figures import figures
from cai.review.importing import import_file
from cai.review.items import iter_drafts
from cai.review.queue import ReviewQueue
from cai.review.records import ItemDraft
from tests.dataset.rows import row
from tests.policy.registering import opened
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


def test_lines_come_back_with_what_was_decided(tmp_path: Path) -> None:
    """A queue's export fills another queue, whose export then says the same of everybody."""
    found = [
        reviewed(pair(0, 0.9), {"ann": "good", "bob": "tie", "eve": "skip"}, is_random=True),
        reviewed(pair(1, 0.9), {"ann": "bad"}),
        reviewed(single("fine"), {}, ratings=(5, 2)),
    ]
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps(review_line(one)) + "\n" for one in found))
    with opened(tmp_path) as database:
        queue = ReviewQueue(database)
        how = {"source": "x", "actor": "me", "random_share": 0.0, "with_decisions": True}
        for told in ((3, 0), (0, 3)):  # the second time nobody decides again
            made = import_file(queue, path, **how)
            assert (made["new"], made["known"], made["skipped"]) == (*told, {})
        again = list(queue.reviewed())
    assert figures(again) == figures(found)
    for one, other in zip(map(review_line, found), map(review_line, again), strict=True):
        for name in ("kind", "prompt", "answers", "opinions", "decisions", "is_random", "origin"):
            assert one[name] == other[name], name
    assert [one.item.num_decided for one in again] == [2, 1, 2]


def test_who_may_not_write_decisions_of_others_brings_opinions(tmp_path: Path) -> None:
    line = review_line(reviewed(pair(0, None), {"ann": "good", "eve": "skip"}, is_random=True))
    path = tmp_path / "people.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with opened(tmp_path) as database:
        queue = ReviewQueue(database)
        import_file(queue, path, source="x", actor="me", random_share=0.0)
        (one,) = queue.page(only_decided=False).records
    assert (one.decisions, one.item.is_random) == ((), False)
    assert [(opinion.kind, opinion.by) for opinion in one.item.opinions] == [("human", "ann")]


def test_a_line_may_have_its_sides_the_other_way_round(tmp_path: Path) -> None:
    line = review_line(reviewed(pair(0, 0.9), {"ann": "good"}))
    good = line["decisions"][0]["choice"]
    other = {"a": "b", "b": "a"}[good]
    decision = {**line["decisions"][0], "choice": other}
    swapped = {"kind": "pair", "prompt": line["prompt"], "answers": line["answers"][::-1]}
    path = tmp_path / "people.jsonl"
    path.write_text(json.dumps({**swapped, "decisions": [decision]}) + "\n")
    (draft,) = iter_drafts(path)
    assert isinstance(draft, ItemDraft)
    assert (draft.id, draft.decisions[0].choice) == (line["id"], good)
    assert draft.decisions[0].is_swapped != decision["is_swapped"]


def test_a_line_that_is_no_item_is_told(tmp_path: Path) -> None:
    line = review_line(reviewed(pair(0, 0.9), {"ann": "good"}))
    (decision,) = line["decisions"]
    lines = [
        line,
        {**line, "format": 2},
        {**line, "answers": line["answers"][:1]},
        {**line, "answers": [line["answers"][0]] * 2},
        {**line, "decisions": [{**decision, "choice": "rating", "rating": 3}]},
        {**line, "decisions": [{**decision, "rater": ""}]},
        {**line, "opinions": [{"by": "x", "kind": "judge", "p_a": float("nan")}]},
        {**line, "kind": "other"},
    ]
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    told = [(one.line, one.reason) for one in iter_drafts(path) if isinstance(one, Skipped)]
    assert told == [
        (2, "bad-item"), (3, "bad-item"), (4, "same-answers"), (5, "bad-item"), (6, "bad-item"),
        (7, "bad-item"), (8, "bad-item"),
    ]  # fmt: skip
