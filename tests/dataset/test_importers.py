"""Every preference format read from small files made here, and every unusable line named."""

import json
from pathlib import Path

import pytest

from cai.dataset.importers import (
    Imported,
    ImportReport,
    Skipped,
    detect_format,
    import_rows,
)
from cai.dataset.preferences import preference_row
from cai.types import Message

SHARED = Path(__file__).parents[3] / "shared" / "data" / "hh-harmless-test-1200.jsonl.gz"
ASK, YES, NO = "How do I boil an egg?", "In water, for eight minutes.", "No idea."


def turns(*contents, first="user"):
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]


def hh(*contents):
    speakers = ("Human", "Assistant")
    return "".join(f"\n\n{speakers[i % 2]}: {text}" for i, text in enumerate(contents))


def write(folder, records, name="data.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def imported(path, **options):
    return list(import_rows(path, **options))


def only_row(path, **options):
    (item,) = imported(path, **options)
    assert isinstance(item, Imported), item
    return item.row


RECORDS = {
    "hh-rlhf": {"chosen": hh(ASK, YES), "rejected": hh(ASK, NO)},
    "trl": {"prompt": ASK, "chosen": YES, "rejected": NO},
    "ultrafeedback": {
        "prompt": ASK,
        "prompt_id": "p1",
        "chosen": turns(ASK, YES),
        "rejected": turns(ASK, NO),
        "messages": turns(ASK, YES),
        "score_chosen": 8.5,
        "score_rejected": 3.0,
    },
    "hf-cai": {
        "init_prompt": ASK,
        "init_response": NO,
        "critic_prompt": "Is it helpful?",
        "critic_response": "It is not.",
        "revision_prompt": "Rewrite it.",
        "revision_response": YES,
        "prompt": ASK,
        "messages": turns(ASK, YES),
        "chosen": turns(ASK, YES),
        "rejected": turns(ASK, NO),
    },
    "rewardbench": {
        "prompt": ASK,
        "chosen": YES,
        "chosen_model": "m1",
        "rejected": NO,
        "rejected_model": "m2",
        "subset": "chat",
        "id": 7,
    },
    "judgebench": {
        "pair_id": "x",
        "original_id": "y",
        "source": "math",
        "question": ASK,
        "response_model": "m",
        "response_A": NO,
        "response_B": YES,
        "label": "B>A",
    },
    "hhh": {
        "prompt": f"\n\nConsider:\n\nHuman: {ASK}\n\nOptions:\n"
        f" (A) [[[{NO}]]]\n (B) [[[{YES}]]]\n\nThe answer is:",
        "corrects": [" (B)"],
        "incorrects": [" (A)"],
        "text_correct": hh(ASK, YES),
        "text_incorrect": hh(ASK, NO),
    },
    "ranking": {"prompt": ASK, "outputs": [NO, YES], "ranking": "B > A", "labeler": "ann"},
    "cai": preference_row(
        prompt=(Message("user", ASK),), chosen=YES, rejected=NO, p_chosen=0.8, source="ai"
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_each_format_is_known_by_its_record_and_gives_the_pair(name, tmp_path):
    path = write(tmp_path, [RECORDS[name]])
    assert detect_format(path) == name
    row = only_row(path)
    assert row["prompt"] == turns(ASK)
    assert row["chosen"] == turns(YES, first="assistant")
    assert row["rejected"] == turns(NO, first="assistant")
    assert row["source"] == ("ai" if name in ("ultrafeedback", "hf-cai", "cai") else "human")
    assert row["format"] == 1
    assert row["p_chosen"] == (0.8 if name == "cai" else 1.0)


def test_the_same_pair_has_the_same_ids_in_every_format(tmp_path):
    rows = [
        only_row(write(tmp_path, [record], f"{name}.jsonl"), format=name)
        for name, record in RECORDS.items()
    ]
    assert len({(row["id"], row["input_id"]) for row in rows}) == 1


def test_where_a_row_came_from_is_kept(tmp_path):
    row = only_row(write(tmp_path, [RECORDS["rewardbench"]]))
    assert row["origin"] == {
        "format": "rewardbench",
        "line": 1,
        "id": 7,
        "subset": "chat",
        "chosen_model": "m1",
        "rejected_model": "m2",
    }
    row = only_row(write(tmp_path, [RECORDS["hf-cai"]]))
    assert row["transcript"] == {
        "draft": NO,
        "steps": [{"principle": "Is it helpful?", "critique": "It is not.", "revision": YES}],
    }


def test_multi_turn_prompts_stay_whole(tmp_path):
    record = {"chosen": hh("Hi", "Hello!", ASK, YES), "rejected": hh("Hi", "Hello!", ASK, NO)}
    assert only_row(write(tmp_path, [record]))["prompt"] == turns("Hi", "Hello!", ASK)


HH_ODD = [
    ({"chosen": hh(ASK, YES), "rejected": hh("Hm?", NO)}, "prompts-differ"),
    ({"chosen": hh(ASK, ""), "rejected": hh(ASK, NO)}, "empty-answer"),
    ({"chosen": hh(ASK, YES), "rejected": hh(ASK, YES)}, "identical"),
    ({"chosen": hh(ASK, YES, "Thanks"), "rejected": hh(ASK, YES, "Bye")}, "no-user-turn"),
    ({"chosen": hh(ASK, YES), "rejected": "no turns"}, "not-hh-text"),
    ({"chosen": hh(ASK, YES)}, "missing-field"),
    ({"chosen": hh(ASK, YES + "\0"), "rejected": hh(ASK, NO)}, "nul-character"),
    (["not", "an", "object"], "not-an-object"),
]


def test_irregular_rows_are_named_by_line_and_the_rest_imports(tmp_path):
    good = RECORDS["hh-rlhf"]
    path = write(tmp_path, [good, *(record for record, _ in HH_ODD), good])
    items = imported(path)
    assert [(one.line, one.reason) for one in items if isinstance(one, Skipped)] == [
        (number, reason) for number, (_, reason) in enumerate(HH_ODD, start=2)
    ]
    assert [one.line for one in items if isinstance(one, Imported)] == [1, len(HH_ODD) + 2]


def test_two_turns_of_one_role_are_joined_and_noted(tmp_path):
    twice = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nAssistant: Well?\n\nHuman: " + ASK
    record = {"chosen": f"{twice}\n\nAssistant: {YES}", "rejected": f"{twice}\n\nAssistant: {NO}"}
    (item,) = imported(write(tmp_path, [record]))
    assert item.note == "merged-turns"
    assert item.row["prompt"] == turns("Hi", "Hello.\n\nWell?", ASK)


@pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is not there")
def test_real_hh_file_imports_with_its_irregular_rows_by_line():
    report = ImportReport()
    for item in import_rows(SHARED):
        report.add(item)
    assert report.num_rows == 1196
    assert report.skipped == {"empty-answer": 4}
    assert report.notes == {"merged-turns": 2}
    assert [one["line"] for one in report.lines] == [87, 517, 668, 764, 926, 1104]


@pytest.mark.parametrize(
    "record",
    [
        {
            "prompt": turns(ASK),
            "chosen": turns(YES, first="assistant"),
            "rejected": turns(NO, first="assistant"),
        },
        {"prompt": turns(ASK), "chosen": turns(ASK, YES), "rejected": turns(ASK, NO)},
        {"chosen": turns(ASK, YES), "rejected": turns(ASK, NO)},
        {"prompt": ASK, "chosen": YES, "rejected": NO, "margin": 0.5},
    ],
    ids=["explicit", "explicit-with-prompt", "implicit", "margin"],
)
def test_forms_of_trl(record, tmp_path):
    path = write(tmp_path, [record])
    assert detect_format(path) == "trl"
    row = only_row(path)
    assert row["prompt"] == turns(ASK)
    assert row["chosen"] == turns(YES, first="assistant")
    assert row["origin"].get("margin") == record.get("margin")


def test_implicit_texts_are_split_where_they_begin_to_differ(tmp_path):
    record = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    (item,) = imported(write(tmp_path, [record]))
    assert item.row["prompt"] == turns("The sky is")
    assert item.row["chosen"][0]["content"] == "blue."
    assert item.note == "prompt-from-shared-text"


def test_rewardbench_2_pairs_each_right_answer_with_each_wrong_one(tmp_path):
    record = RECORDS["rewardbench"] | {
        "chosen": ["r1", "r2"],
        "rejected": ["w1", "w2", "w3"],
        "num_correct": 2,
        "total_completions": 5,
    }
    rows = [item.row for item in imported(write(tmp_path, [record]))]
    assert len(rows) == 6
    assert len({row["id"] for row in rows}) == 6
    assert len({row["input_id"] for row in rows}) == 1


def test_equal_scores_of_ultrafeedback_are_no_preference(tmp_path):
    record = RECORDS["ultrafeedback"] | {"score_chosen": 3.0}
    assert imported(write(tmp_path, [record]))[0].reason == "tie"


def test_hhh_record_whose_options_disagree_with_its_texts_is_skipped(tmp_path):
    record = RECORDS["hhh"] | {"corrects": [" (A)"]}
    assert imported(write(tmp_path, [record]))[0].reason == "options-disagree"


def test_unpaired_answers_meet_by_prompt_and_the_lonely_are_named(tmp_path):
    def one(prompt, completion, label):
        return {"prompt": prompt, "completion": completion, "label": label}

    path = write(
        tmp_path,
        [
            one(ASK, YES, True),
            one("Other?", "a", True),
            one(ASK, NO, False),
            one(ASK, "Ask a cook.", True),
            {"prompt": ASK, "completion": "x", "label": "good"},
        ],
    )
    assert detect_format(path) == "trl-unpaired"
    items = imported(path)
    assert items[0].line == 3
    assert items[0].row["chosen"][0]["content"] == YES
    assert items[0].row["origin"]["other_line"] == 1
    assert [(one.line, one.reason) for one in items[1:]] == [
        (5, "no-verdict"),
        (2, "unpaired"),
        (4, "unpaired"),
    ]


def annotated(**comparison):
    return {
        "metadata": {"version": "2.0", "dataset_name": "d", "default_annotator": "x1"},
        "annotators": {
            "x1": {"name": "votes", "description": "", "type": "unknown"},
            "h1": {"name": "Ann", "description": "", "type": "human"},
            "p1": {"description": "the kinder one", "type": "principle"},
        },
        "comparisons": [
            {
                "id": "c1",
                "prompt": ASK,
                "response_a": {"text": NO, "model": "m1"},
                "response_b": {"text": YES, "model": "m2"},
                "annotations": {"x1": {"pref": "b"}, "h1": {"pref": "a"}, "p1": {"pref": "a"}},
                **comparison,
            }
        ],
    }


def test_annotated_pairs_hear_the_default_annotator_and_people_not_principles(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(annotated(), indent=1))
    assert detect_format(path) == "annotated-pairs"
    first, second = (item.row for item in imported(path))
    assert (first["labeler"], first["chosen"][0]["content"]) == ("x1", YES)
    assert (second["labeler"], second["chosen"][0]["content"]) == ("h1", NO)
    assert second["source"] == "human"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"annotations": {"x1": {"pref": None, "no_pref_reason": "tie"}}}, "no-verdict"),
        ({"annotations": {}}, "no-verdict"),
        ({"prompt": None}, "no-prompt"),
        ({"response_a": {"model": "m"}}, "bad-message"),
    ],
)
def test_annotated_pair_without_a_label_is_skipped(change, reason, tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(annotated(**change)))
    assert imported(path)[0].reason == reason


def test_own_rows_come_back_as_they_were_and_damaged_ones_are_named(tmp_path):
    row = RECORDS["cai"] | {"label": {"order_ab": {"A": -0.1, "B": -2.3}}, "later_key": 1}
    row["id"] = "an id of another tool's"
    odd = [
        (row | {"format": 2}, "unknown-format"),
        (row | {"p_chosen": 1.5}, "bad-label"),
        (row | {"p_chosen": None}, "bad-label"),
        (row | {"source": "robot"}, "unknown-source"),
        (row | {"weight": -1}, "bad-weight"),
        ({k: v for k, v in row.items() if k != "id"}, "missing-field"),
        (row | {"chosen": "text"}, "no-prompt"),
    ]
    path = write(tmp_path, [row, *(one for one, _ in odd)])
    items = imported(path)
    assert items[0].row == row
    assert [one.reason for one in items[1:]] == [reason for _, reason in odd]


def test_weight_and_source_are_set_by_the_caller(tmp_path):
    path = write(tmp_path, [RECORDS["cai"] | {"weight": 2.0}])
    row = only_row(path, source="human", weight=0.5)
    assert (row["source"], row["weight"]) == ("human", 1.0)


def test_a_pair_that_comes_again_keeps_an_id_of_its_own(tmp_path):
    path = write(tmp_path, [RECORDS["trl"]] * 2)
    first, second = imported(path)
    assert second.note == "duplicate"
    assert first.row["id"] != second.row["id"]
    assert first.row["input_id"] == second.row["input_id"]


def test_report_counts_and_shows_a_bounded_number_of_lines():
    report = ImportReport(max_shown=2)
    for line in range(5):
        report.add(Skipped(line, "empty-answer", "x"))
    report.add(Imported(6, {}, "duplicate"))
    assert report.as_dict()["skipped"] == {"empty-answer": 5}
    assert report.as_dict()["rows"] == 1
    assert len(report.lines) == 2
