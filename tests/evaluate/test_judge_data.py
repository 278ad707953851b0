"""Files of labelled pairs as a judge is held against them: formats, several labelers, limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cai.errors import ConfigError, DataError
from cai.evaluate.judge_data import read_known
from tests.dataset.test_importers import RECORDS

NAMES = {"judgebench": "judgebench", "hhh": "hhh", "rewardbench": "rewardbench", "hh-rlhf": "hh"}


def written(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def annotated(path: Path, *prefs: dict[str, str]) -> Path:
    """Comparisons with each of these labels by annotator."""
    comparisons = [
        {
            "id": str(number),
            "prompt": f"Question {number}?",
            "response_a": {"text": f"First answer to {number}.", "model": "m"},
            "response_b": {"text": f"Second, to {number}.", "model": "n"},
            "annotations": {name: {"pref": pref} for name, pref in pref_of.items()},
        }
        for number, pref_of in enumerate(prefs)
    ]
    people = {name: {"name": name, "type": "human"} for name in ("ann", "bob", "cid")}
    document = {"metadata": {"version": "2.0"}, "annotators": people, "comparisons": comparisons}
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_formats_are_known_by_their_records(tmp_path: Path, name: str) -> None:
    known = read_known(written(tmp_path / "x.jsonl", RECORDS[name]))
    assert known.format == NAMES[name]
    (pair,) = known.pairs
    assert (pair.better, pair.worse) != ("", "")
    assert pair.is_human
    assert pair.side != pair.other_side
    again = read_known(tmp_path / "x.jsonl", format=NAMES[name])
    assert again == known


def test_judgebench_keeps_its_source_and_which_answer_stands_first(tmp_path: Path) -> None:
    record = RECORDS["judgebench"]
    other = {**record, "label": "A>B", "question": "Else?"}
    second, first = read_known(written(tmp_path / "x.jsonl", record, other)).pairs
    assert (second.is_second, first.is_second) == (True, False)
    assert second.better == record["response_B"]
    assert first.better == record["response_A"]
    assert second.subset == record["source"]


def test_rewardbench_2_is_known_by_its_several_answers(tmp_path: Path) -> None:
    record = {**RECORDS["rewardbench"], "chosen": ["Yes."], "rejected": ["No.", "Never.", "Ha."]}
    known = read_known(written(tmp_path / "x.jsonl", record))
    assert known.format == "rewardbench2"
    assert len(known.pairs) == 3
    assert {pair.group for pair in known.pairs} == {str(record["id"])}


def test_a_limit_counts_records_and_not_their_pairs(tmp_path: Path) -> None:
    record = {**RECORDS["rewardbench"], "chosen": ["Yes."], "rejected": ["No.", "Never.", "Ha."]}
    other = {**record, "prompt": "Else?"}
    path = written(tmp_path / "x.jsonl", record, other)
    assert len(read_known(path, limit=1).pairs) == 3
    assert len(read_known(path, limit=5).pairs) == 6


def test_several_labelers_become_their_majority_and_are_kept(tmp_path: Path) -> None:
    """Three say a, then two of three say b; on the third they are split and there is no label."""
    path = annotated(
        tmp_path / "x.json",
        {"ann": "a", "bob": "a", "cid": "a"},
        {"ann": "b", "bob": "b", "cid": "a"},
        {"ann": "a", "bob": "b"},
    )
    known = read_known(path)
    first, second = known.pairs
    assert (first.better, first.share) == ("First answer to 0.", 1.0)
    assert (second.better, second.share) == ("Second, to 1.", pytest.approx(2 / 3))
    assert first.labels == dict.fromkeys(("ann", "bob", "cid"), first.side)
    assert second.labels == {"ann": second.side, "bob": second.side, "cid": second.other_side}
    assert known.skipped == {"no-consensus": 1}
    assert known.agreement is not None
    assert known.agreement.num_labelers == 3


def test_a_label_for_the_rejected_answer_turns_the_pair_and_a_tie_is_none(tmp_path: Path) -> None:
    row = RECORDS["cai"]
    turned = {**row, "p_chosen": 0.2}
    even = {**row, "p_chosen": 0.5, "prompt": [{"role": "user", "content": "Else?"}]}
    known = read_known(written(tmp_path / "x.jsonl", turned, even))
    (pair,) = known.pairs
    assert pair.better == row["rejected"][0]["content"]
    assert pair.share == pytest.approx(0.8)
    assert not pair.is_human
    assert known.skipped == {"tie": 1}


def test_a_file_without_a_usable_pair_says_what_was_left_out(tmp_path: Path) -> None:
    broken = {**RECORDS["judgebench"], "label": "A=B"}
    with pytest.raises(DataError, match="left out: no-verdict 1"):
        read_known(written(tmp_path / "x.jsonl", broken))


@pytest.mark.parametrize(
    ("options", "told"),
    [({"format": "judgebenhc"}, "did you mean 'judgebench'"), ({"limit": 0}, "limit is 0")],
)
def test_what_is_asked_for_wrongly_is_refused(tmp_path: Path, options, told) -> None:
    path = written(tmp_path / "x.jsonl", RECORDS["judgebench"])
    with pytest.raises(ConfigError, match=told):
        read_known(path, **options)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_known(written(tmp_path / "x.jsonl"), format="judgebench")
