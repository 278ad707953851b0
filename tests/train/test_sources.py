"""What trainers read: runs and files of any origin, and every row that will not do, by its line."""

import json
import math

import pytest

from cai.dataset.export.options import ExportOptions
from cai.dataset.export.shapes import trl, trl_unpaired
from cai.errors import DataError
from cai.files import digest_file
from cai.train.sources import load_demonstrations, load_pairs, load_prompts, load_rankings
from cai.train.split import prompt_key, split_by_prompt
from cai.types import Message
from tests.train.runs import CONSTITUTION, pair, question, transcript, write_lines, write_run


def texts(loaded):
    return [row.messages[-1].content for row in loaded.rows]


def test_pairs_of_a_run_come_with_label_source_and_constitution(tmp_path):
    run = write_run(tmp_path / "r1", num=3)
    loaded = load_pairs([run])
    first = loaded.rows[0]
    assert (first.prompt, first.chosen) == (question(0), "Please put 0 eggs in water.")
    assert (first.rejected, first.p_chosen) == ("Go away.", 0.9)
    assert first.place == f"{run / 'rows.jsonl'}:1"
    (source,) = loaded.sources
    assert (source.name, source.num_rows) == ("r1/rows.jsonl", 3)
    assert source.digest == digest_file(run / "rows.jsonl")
    assert loaded.constitutions == {"kind@1": CONSTITUTION["digest"]}


def test_two_runs_are_read_in_turn_with_their_constitutions(tmp_path):
    one = write_run(tmp_path / "one", num=2)
    other = {"ref": "kind@1", "digest": "sha256:" + "d" * 64}
    two = write_run(tmp_path / "two", num=1)
    write_lines(two / "rows.jsonl", [pair(9, constitution=other)])
    loaded = load_pairs([one, two])
    assert len(loaded.rows) == 3
    assert set(loaded.constitutions.values()) == {CONSTITUTION["digest"], other["digest"]}


def test_a_last_line_without_a_line_end_counts_in_a_file_of_others(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(pair(0)) + "\n" + json.dumps(pair(1)))
    assert len(load_pairs([file]).rows) == 2


def test_pairs_of_trl_and_rankings_are_taken(tmp_path):
    """B > A = C gives B over A and B over C."""
    file = write_lines(
        tmp_path / "p.jsonl",
        [
            {"prompt": "Hi?", "chosen": "Hello.", "rejected": "What?"},
            {"prompt": "Hi?", "outputs": ["a", "b", "c"], "ranking": "B > A = C"},
        ],
    )
    rows = load_pairs([file]).rows
    assert [(r.chosen, r.rejected, r.p_chosen) for r in rows] == [
        ("Hello.", "What?", 1.0),
        ("b", "a", 1.0),
        ("b", "c", 1.0),
    ]


@pytest.mark.parametrize(
    ("label", "p_chosen", "weight"),
    [
        ({}, 1.0, 1.0),
        ({"weight": 0.5}, 1.0, 0.5),
        ({"p_chosen": 0.8, "weight": 2}, 0.8, 2.0),
        ({"p_chosen": 0.3}, 0.3, 1.0),
        ({"margin": math.log(4)}, 0.8, 1.0),
        ({"margin": -math.log(4)}, 0.2, 1.0),
        ({"margin": 9.0, "p_chosen": 0.8}, 0.8, 1.0),
        ({"margin": None, "p_chosen": None}, 1.0, 1.0),
    ],
)
def test_a_pair_in_trls_form_has_the_label_and_weight_it_came_with(
    tmp_path, label, p_chosen, weight
):
    """log(4) is the log-odds of 0.8."""
    said = {"prompt": "Hi?", "chosen": "Hello.", "rejected": "What?"}
    (row,) = load_pairs([write_lines(tmp_path / "p.jsonl", [said | label])]).rows
    assert (row.p_chosen, row.weight) == (pytest.approx(p_chosen), weight)


def test_what_the_exporter_writes_for_trl_is_read_with_its_labels(tmp_path):
    row = pair(0, p_chosen=0.9, weight=0.5)
    for options in ({"margin": True, "extra": ("weight",)}, {"extra": ("p_chosen", "weight")}):
        ((_, record),) = trl(row, ExportOptions(**options), None)
        (found,) = load_pairs([write_lines(tmp_path / "p.jsonl", [record])]).rows
        assert (found.p_chosen, found.weight) == (pytest.approx(0.9), 0.5)


def test_rankings_alone_refuse_pairs(tmp_path):
    file = write_lines(tmp_path / "p.jsonl", [pair(0)])
    with pytest.raises(DataError, match=r"p\.jsonl:1: expected 'prompt', 'outputs' and 'ranking'"):
        load_rankings([file])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (pair(0, chosen="same", rejected="same"), "'chosen' equals 'rejected'"),
        (pair(0, p_chosen=float("nan")), "'p_chosen' should be a number from 0 to 1"),
        (pair(0, p_chosen=1.5), "'p_chosen' should be a number from 0 to 1"),
        (pair(0, chosen=" "), "'chosen' is empty"),
        (pair(0) | {"weight": -1}, "'weight' should be a number"),
        ({"prompt": "x", "chosen": "y"}, "rejected"),
        ({"prompt": "x", "chosen": "y", "rejected": "z", "p_chosen": 1.1}, "'p_chosen' should be"),
        ({"prompt": "x", "chosen": "y", "rejected": "z", "margin": "2"}, "'margin' should be"),
        ({"prompt": "x", "chosen": "y", "rejected": "z", "weight": -1}, "'weight' should be"),
        ({"prompt": "x", "chosen": "y", "rejected": "z", "weight": 10**400}, "'weight' should be"),
        ([1], "expected a JSON object"),
    ],
)
def test_a_pair_that_will_not_do_is_named_by_its_line(tmp_path, row, message):
    file = write_lines(tmp_path / "p.jsonl", [pair(1), row])
    with pytest.raises(DataError, match=rf"p\.jsonl:2: .*{message}"):
        load_pairs([file])


def test_files_without_rows_are_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no pairs"):
        load_pairs([tmp_path / "empty.jsonl"])
    with pytest.raises(DataError, match="no such file"):
        load_pairs([tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match=r"nor a \.jsonl file"):
        load_pairs([write_lines(tmp_path / "rows.csv", [])])
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:1: not valid JSON"):
        load_pairs([tmp_path / "bad.jsonl"])


def test_an_unfinished_run_is_refused(tmp_path):
    run = write_run(tmp_path / "r", num=1)
    (run / "DONE").unlink()
    with pytest.raises(DataError, match="no finished run"):
        load_pairs([run])


def test_a_run_without_pairs_says_what_it_lacks(tmp_path):
    run = write_run(tmp_path / "r", num=1)
    (run / "rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"no rows\.jsonl; give the run a judge"):
        load_pairs([run])


def test_each_use_takes_its_part_of_a_transcript(tmp_path):
    stands = transcript(1, steps=[{"status": "no_change", "critique": "Fine."}], answer="Go away.")
    run = write_run(tmp_path / "r", num=1)
    write_lines(run / "transcripts.jsonl", [transcript(0), stands])
    both = ["Put 0 eggs in.", "Please put 0 eggs in water."]
    assert texts(load_demonstrations([run], "revisions")) == both
    assert texts(load_demonstrations([run], "last-revision")) == both[1:]
    assert texts(load_demonstrations([run], "answers")) == [both[1], "Go away."]
    assert texts(load_demonstrations([run], "auto")) == [*both, "Go away."]
    assert texts(load_demonstrations([run], "chosen")) == both[1:]
    assert load_demonstrations([run], "revisions").left_out == {"no-revision": 1}


def test_only_usable_revisions_are_imitated(tmp_path):
    steps = [
        {"status": "unusable", "revision_raw": "ha", "problem": "degenerate"},
        {"status": "revised", "revision": "Kind."},
        {"status": "revised", "revision": "Kind."},
    ]
    run = write_run(tmp_path / "r", num=1)
    write_lines(run / "transcripts.jsonl", [transcript(0, steps=steps)])
    assert texts(load_demonstrations([run])) == ["Kind."]


def test_the_history_of_a_prompt_is_context_and_not_imitated(tmp_path):
    history = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"))]
    run = write_run(tmp_path / "r", num=1)
    asked = [*history, {"role": "user", "content": "c"}]
    write_lines(run / "transcripts.jsonl", [transcript(0, prompt=asked)])
    row = load_demonstrations([run], "last-revision").rows[0]
    assert (len(row.messages), row.num_context, len(row.prompt)) == (4, 3, 3)


def test_whole_conversations_of_others_are_imitated_in_every_turn(tmp_path):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    messages = [{"role": role, "content": content} for role, content in turns]
    file = write_lines(tmp_path / "m.jsonl", [{"messages": messages}])
    row = load_demonstrations([file]).rows[0]
    assert [m.content for m in row.messages] == ["a", "b", "c", "d"]
    assert (row.num_context, [m.content for m in row.prompt]) == (0, ["a"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "no turn of the assistant's"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "role should be one of"),
        ({"text": "a"}, "expected 'messages'"),
        ({"prompt": "a", "completion": " "}, "the answer to imitate is empty"),
        ({"prompt": "a", "completion": "b", "label": 0}, "'label' should be true or false"),
        ({"prompt": "a", "completion": "b", "label": None}, "'label' should be true or false"),
        ({"prompt": "a", "completion": "b", "weight": "2"}, "'weight' should be a number"),
    ],
)
def test_a_demonstration_that_will_not_do_is_named_by_its_line(tmp_path, row, message):
    file = write_lines(tmp_path / "m.jsonl", [row])
    with pytest.raises(DataError, match=rf"m\.jsonl:1: .*{message}"):
        load_demonstrations([file])


def test_a_rejected_answer_is_not_imitated_but_counted(tmp_path):
    """The form is that of an export as `trl-unpaired`."""
    exported = [
        record
        for row in (pair(0), pair(1, weight=0.5))
        for _, record in trl_unpaired(row, ExportOptions(extra=("weight",)), None)
    ]
    loaded = load_demonstrations([write_lines(tmp_path / "u.jsonl", exported)])
    assert texts(loaded) == [f"Please put {n} eggs in water." for n in (0, 1)]
    assert [row.weight for row in loaded.rows] == [1.0, 0.5]
    assert loaded.left_out == {"rejected-answer": 2}
    assert loaded.figures() == {"rows_left_out_rejected_answer": 2.0}
    file = write_lines(tmp_path / "bad.jsonl", [one for one in exported if not one["label"]])
    with pytest.raises(DataError, match=r"holds no demonstrations .*\(2 rejected-answer\)"):
        load_demonstrations([file])


def test_prompts_come_once_each_from_runs_and_files(tmp_path):
    run = write_run(tmp_path / "r", num=2)
    file = tmp_path / "p.txt"
    file.write_text("How do I boil 1 eggs?\nAnother?\n")
    loaded = load_prompts([run, file])
    asked = [row.prompt[0].content for row in loaded.rows]
    assert asked == ["How do I boil 0 eggs?", "How do I boil 1 eggs?", "Another?"]
    assert loaded.left_out["repeated-prompt"] == 1


def test_no_prompt_is_in_both_parts(tmp_path):
    file = write_lines(
        tmp_path / "p.jsonl", [pair(n, chosen=f"better {k}") for n in range(40) for k in range(3)]
    )
    rows = load_pairs([file]).rows
    train, validation = split_by_prompt(rows, 0.2, seed=1)
    assert len(train) + len(validation) == 120
    assert {r.prompt for r in train}.isdisjoint({r.prompt for r in validation})
    assert 0 < len(validation) < 60


def test_more_data_moves_no_prompt():
    few = [Row(n) for n in range(50)]
    many = [Row(n) for n in range(200)]
    held = {row.prompt for row in split_by_prompt(few, 0.3, seed=1).validation}
    still = {row.prompt for row in split_by_prompt(many, 0.3, seed=1).validation}
    assert held == still & {row.prompt for row in few}


def test_there_is_one_prompt_for_validation_at_the_least_and_one_for_training():
    for share in (0.001, 0.999):
        train, validation = split_by_prompt([Row(0), Row(1)], share, seed=1)
        assert (len(train), len(validation)) == (1, 1)


def test_rows_of_a_single_prompt_are_refused():
    with pytest.raises(DataError, match="all 3 rows answer the same prompt"):
        split_by_prompt([Row(1)] * 3, 0.1, seed=1)
    with pytest.raises(DataError, match="no rows"):
        split_by_prompt([], 0.1, seed=1)


def test_white_space_and_case_make_no_other_prompt():
    assert prompt_key((Message("user", "Hi  There"),)) == prompt_key((Message("user", "hi there"),))
    assert prompt_key((Message("user", "hi"),)) != prompt_key((Message("system", "hi"),))


class Row:
    def __init__(self, number):
        self.prompt = question(number)
