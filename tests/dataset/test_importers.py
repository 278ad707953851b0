"""Every preference format read from small files made here, and every unusable line named."""

import gzip
import json
from pathlib import Path

import pytest

from cai.dataset.importers import (
    BatchAnswer,
    Imported,
    ImportReport,
    Skipped,
    detect_format,
    import_rows,
    join_batch,
)
from cai.dataset.importers.formats import NAMES
from cai.dataset.preferences import preference_row
from cai.errors import CaiError, DataError, InputError
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


def test_gzip_json_list_json_lines_under_json_and_parquet_read_alike(tmp_path):
    records = [RECORDS["hh-rlhf"], RECORDS["hh-rlhf"] | {"chosen": hh(ASK, "Softly.")}]
    paths = [write(tmp_path, records), write(tmp_path, records, "lines.json")]
    (tmp_path / "list.json").write_text(json.dumps(records, indent=2))
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(paths[0].read_bytes()))
    paths += [tmp_path / "list.json", tmp_path / "data.jsonl.gz"]
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "data.parquet")
    paths.append(tmp_path / "data.parquet")
    rows = [[item.row for item in imported(path)] for path in paths]
    assert all(one == rows[0] for one in rows)
    assert len(rows[0]) == 2


def test_truncated_gzip_gives_its_whole_lines_and_says_where_it_breaks(tmp_path):
    rng = "0123456789abcdef"
    records = [
        {"chosen": hh(ASK, YES + rng[i % 16] * i), "rejected": hh(ASK, NO)} for i in range(1, 400)
    ]
    whole = gzip.compress(write(tmp_path, records).read_bytes())
    path = tmp_path / "torn.jsonl.gz"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    items = imported(path)
    assert items[-1].reason == "broken-gzip"
    assert all(isinstance(one, Imported) for one in items[:-1])
    assert items[-1].line == len(items)


def test_forty_megabytes_in_one_row_are_passed_over(tmp_path):
    path = write(tmp_path, [RECORDS["trl"]])
    with path.open("a") as file:
        file.write('{"prompt": "' + "x" * 40_000_000 + '"}\n')
        file.write(json.dumps(RECORDS["trl"] | {"chosen": "Gently."}) + "\n")
    items = imported(path)
    assert [type(one) for one in items] == [Imported, Skipped, Imported]
    assert items[1].reason == "row-too-large"


def test_bad_bytes_and_bad_json_are_named_by_line(tmp_path):
    path = write(tmp_path, [RECORDS["trl"]])
    with path.open("ab") as file:
        file.write(b'{"prompt": "\xff"}\n{"prompt": \n' + b"[" * 100_000 + b"\n")
    assert [(one.line, one.reason) for one in imported(path)[1:]] == [
        (2, "invalid-utf8"),
        (3, "invalid-json"),
        (4, "invalid-json"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"a,b", "not a file of records"),
        ("x.jsonl", b'{"text": "hello"}\n', "of no known preference format.*text"),
        ("x.jsonl", b"", "of no known preference format.*no object"),
        ("x.json", b"{broken", "not valid JSON"),
        ("x.parquet", b"not parquet", "not a readable Parquet file"),
        ("x.jsonl.gz", b"not gzip", "not a readable gzip"),
    ],
)
def test_unusable_file_is_one_clear_error(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        imported(tmp_path / name)


def test_missing_file_and_unknown_format_are_named(tmp_path):
    for name in ("none.jsonl", "none.json", "none.parquet"):
        with pytest.raises(CaiError, match="no such file"):
            imported(tmp_path / name, format="trl")
    with pytest.raises(DataError, match="did you mean 'hh-rlhf'"):
        imported(write(tmp_path, [RECORDS["trl"]]), format="hh-rlfh")
    assert len(NAMES) == 11


def request(custom_id, text):
    body = {"model": "m", "messages": turns(text)}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def response(custom_id, *texts, status=200, error=None):
    choices = [{"message": {"role": "assistant", "content": text}} for text in texts]
    body = {"model": "m-1", "choices": choices}
    return {
        "id": "b",
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": "r", "body": body},
        "error": error,
    }


def test_batch_answers_join_by_id_in_any_order(tmp_path):
    requests = write(tmp_path, [request("a", "One?"), request("b", "Two?"), request("c", "Three?")])
    output = write(
        tmp_path,
        [
            response("b", "2", "two"),
            response("z", "?"),
            response("a", "1", status=500),
            response("b", "again"),
        ],
        "out.jsonl",
    )
    answered, *rest = join_batch(requests, output)
    assert answered == BatchAnswer("b", (Message("user", "Two?"),), ("2", "two"), "m-1")
    assert [(one.line, one.reason) for one in rest] == [
        (2, "unknown-id"),
        (3, "failed"),
        (4, "unknown-id"),
        (3, "no-answer"),
    ]


def test_batch_requests_that_repeat_an_id_are_named(tmp_path):
    requests = write(tmp_path, [request("a", "One?"), request("a", "Two?"), {"custom_id": "b"}])
    output = write(tmp_path, [response("a", "1")], "out.jsonl")
    items = list(join_batch(requests, output))
    assert [one.reason for one in items if isinstance(one, Skipped)] == ["repeated-id", "no-prompt"]
    assert items[-1].answers == ("1",)


def test_report_counts_and_shows_a_bounded_number_of_lines():
    report = ImportReport(max_shown=2)
    for line in range(5):
        report.add(Skipped(line, "empty-answer", "x"))
    report.add(Imported(6, {}, "duplicate"))
    assert report.as_dict()["skipped"] == {"empty-answer": 5}
    assert report.as_dict()["rows"] == 1
    assert len(report.lines) == 2
