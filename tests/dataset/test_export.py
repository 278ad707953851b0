"""Every export is read back by the tools it is for, and by our own importers."""

import json
import math
import os
from pathlib import Path

import pytest

from cai.dataset.export import ExportOptions, export_batch, export_rows, read_answers, read_rows
from cai.dataset.export.exporting import split_of
from cai.dataset.importers import Imported, import_rows, join_batch
from cai.dataset.prompts import iter_prompts
from cai.dataset.records import encode_row
from cai.errors import ConfigError, ConflictError, DataError, InputError
from cai.types import Sampling
from tests.dataset.rows import label, row
from tests.feedback.helpers import constitution

ROWS = [row(number, which=which) for number in range(60) for which in range(2)]
RULES = constitution(
    {"id": "kind", "critique": "Is it kind?", "revision": "Make it kind.", "compare": "Kinder?"}
)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """`datasets.load_dataset` with a cache of its own."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def load(*args, **options):
        return datasets.load_dataset(*args, cache_dir=str(tmp_path / "cache"), **options)

    return load


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def reimported(path):
    items = list(import_rows(path))
    assert all(isinstance(item, Imported) for item in items), items
    return [item.row for item in items]


def pairs(rows):
    return {(one["input_id"], one["id"]) for one in rows}


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_trl_file_has_three_columns_and_reads_back(ending, tmp_path, load):
    out = tmp_path / f"trl.{ending}"
    report = export_rows(ROWS, "trl", out)
    assert report.splits == {"all": 120}
    kind = "parquet" if ending == "parquet" else "json"
    loaded = load(kind, data_files=str(out), split="train")
    assert loaded.column_names == ["prompt", "chosen", "rejected"]
    assert len(loaded) == 120
    assert loaded[0]["chosen"] == ROWS[0]["chosen"]
    assert pairs(reimported(out)) == pairs(ROWS)


def test_margin_is_the_log_odds_and_only_on_request(tmp_path):
    """ln(0.85 / 0.15) = 1.7346."""
    out = tmp_path / "trl.jsonl"
    export_rows(ROWS[:1], "trl", out, options=ExportOptions(margin=True, extra=("p_chosen", "id")))
    (record,) = lines(out)
    assert record["margin"] == pytest.approx(math.log(0.85 / 0.15))
    assert record["p_chosen"] == 0.85
    assert record["id"] == ROWS[0]["id"]


def test_sft_holds_each_answer_once(tmp_path, load):
    again = row(0, which=0) | {"rejected": [{"role": "assistant", "content": "another"}]}
    out = tmp_path / "sft.jsonl"
    report = export_rows([*ROWS, again], "trl-sft", out)
    assert report.splits == {"all": 120}
    loaded = load("json", data_files=str(out), split="train")
    assert loaded.column_names == ["messages"]
    assert loaded[0]["messages"] == ROWS[0]["prompt"] + ROWS[0]["chosen"]


def test_unpaired_has_both_answers_and_pairs_up_again(tmp_path, load):
    out = tmp_path / "kto.jsonl"
    export_rows(ROWS, "trl-unpaired", out)
    loaded = load("json", data_files=str(out), split="train")
    assert loaded.column_names == ["prompt", "completion", "label"]
    assert sum(loaded["label"]) == 120
    assert len(loaded) == 240
    assert pairs(reimported(out)) == pairs(ROWS)


@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
def test_ultrafeedback_folder_has_its_six_splits(file_type, tmp_path, load):
    out = tmp_path / "uf"
    options = ExportOptions(test_share=0.3, file_type=file_type)
    report = export_rows(ROWS, "ultrafeedback", out, options=options)
    loaded = load(str(out))
    names = {f"{split}_{kind}" for split in ("train", "test") for kind in ("sft", "prefs", "gen")}
    assert set(loaded) == names == set(report.splits)
    assert len(loaded["train_prefs"]) + len(loaded["test_prefs"]) == 120
    assert len(loaded["train_gen"]) + len(loaded["test_gen"]) == 60
    first = loaded["train_prefs"][0]
    assert set(first) == {
        *("prompt", "prompt_id", "chosen", "rejected", "messages"),
        *("score_chosen", "score_rejected"),
    }
    assert first["score_chosen"] == pytest.approx(8.5)
    train = {one["prompt_id"] for one in loaded["train_prefs"]}
    assert not train & {one["prompt_id"] for one in loaded["test_prefs"]}
    back = [
        one
        for split in ("train", "test")
        for one in reimported(out / report.files[f"{split}_prefs"])
    ]
    assert pairs(back) == pairs(ROWS)


def test_hf_cai_folder_shows_the_revision_behind_each_pair(tmp_path, load):
    out = tmp_path / "cai"
    samples = row(99, transcript=None)
    report = export_rows([*ROWS, samples], "hf-cai", out, constitution=RULES)
    assert report.left_out == {"no-transcript": 1}
    loaded = load(str(out))
    assert set(loaded) == {"train_sft", "train_prefs", "test_sft", "test_prefs"}
    one = loaded["train_prefs"][0]
    assert one["critic_prompt"].startswith("Is it kind?")
    assert one["revision_prompt"].startswith("Make it kind.")
    assert (one["init_response"], one["revision_response"]) == ("draft 0.0", "better 0.0")
    assert one["messages"] == one["chosen"]
    back = reimported(out / report.files["train_prefs"])
    assert back[0]["transcript"]["steps"][0]["critique"] == "Not kind."
    assert pairs(back) <= pairs(ROWS)


def test_hf_cai_takes_the_last_step_that_revised():
    from cai.dataset.export.shapes import hf_cai

    steps = [
        {"principle": "kind", "critique": "c1", "status": "revised", "revision": "r1"},
        {"principle": "kind", "critique": "c2", "status": "revised", "revision": "r2"},
        {"principle": "kind", "critique": "No change needed.", "status": "no_change"},
    ]
    one = row(0, transcript={"draft": "d", "steps": steps})
    one["chosen"] = [{"role": "assistant", "content": "r2"}]
    (_, record), _ = hf_cai(one, ExportOptions(), None)
    assert (record["init_response"], record["revision_response"]) == ("r1", "r2")
    assert record["critic_prompt"] == "kind"


def test_annotated_pairs_hold_principles_and_labelers(tmp_path, load):
    votes = [
        {"principle": "kind", "weight": 1.0, **label(0.9, 0.9)},
        {"principle": "short", "weight": 1.0, **label(0.2, 0.2)},
    ]
    voted = row(0, label=label(principles=("kind", "short"), votes=votes))
    labelled = row(1, source="human", label=None) | {
        "votes": {"chosen": ["ann", "ben"], "rejected": ["cid"]}
    }
    out = tmp_path / "pairs.json"
    report = export_rows([voted, labelled, row(2, turns=3)], "annotated-pairs", out, name="mine")
    assert report.splits == {"all": 3}
    document = json.loads(out.read_text())
    assert document["metadata"]["version"] == "2.0"
    assert document["metadata"]["dataset_name"] == "mine"
    names = {one["name"]: key for key, one in document["annotators"].items()}
    assert set(names) == {"preference", "kind", "short", "ann", "ben", "cid"}
    first, second, third = document["comparisons"]
    views = {
        name: first["annotations"][names[name]]["pref"] for name in ("preference", "kind", "short")
    }
    assert views["kind"] == views["preference"] != views["short"]
    assert first[f"response_{views['preference']}"] == {"text": "better 0.0", "model": "base"}
    assert second["annotations"][names["cid"]] != second["annotations"][names["ann"]]
    assert third["prompt"].startswith("\n\nHuman: turn 0\n\nAssistant: yes")
    loaded = load("json", data_files=str(out), field="comparisons", split="train")
    assert len(loaded) == 3
    back = reimported(out)
    assert back[0]["id"] == voted["id"]
    assert {one["labeler"] for one in back if one["source"] == "human" and "labeler" in one} >= {
        names["ann"]
    }


def test_side_of_the_better_answer_is_spread(tmp_path):
    out = tmp_path / "pairs.json"
    export_rows(ROWS, "annotated-pairs", out)
    document = json.loads(out.read_text())
    default = document["metadata"]["default_annotator"]
    sides = [one["annotations"][default]["pref"] for one in document["comparisons"]]
    assert 35 < sides.count("a") < 85


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_own_rows_come_back_whole(ending, tmp_path, load):
    rows = [*ROWS[:3], row(9, label=None, transcript=None, source="human", weight=2)]
    out = tmp_path / f"rows.{ending}"
    export_rows(rows, "rows", out)
    assert reimported(out) == rows
    if ending == "parquet":
        assert len(load("parquet", data_files=str(out), split="train")) == 4


def test_a_prompt_is_in_one_split_everywhere():
    prompts = [[{"role": "user", "content": f"question {n}"}] for n in range(2000)]
    test = [one for one in prompts if split_of(one, 0.1) == "test"]
    assert 150 < len(test) < 250
    assert all(split_of(one, 0.2) == "test" for one in test)


def test_trl_folder_splits_by_prompt_and_loads(tmp_path, load):
    out = tmp_path / "trl"
    export_rows(ROWS, "trl", out, options=ExportOptions(test_share=0.3))
    loaded = load(str(out))
    questions = {name: {one["prompt"][0]["content"] for one in loaded[name]} for name in loaded}
    assert not questions["train"] & questions["test"]
    assert len(questions["train"] | questions["test"]) == 60


def test_low_labels_can_be_left_out_and_are_counted(tmp_path):
    rows = [row(0, p_chosen=0.6), row(1, p_chosen=0.9)]
    report = export_rows(rows, "trl", tmp_path / "x.jsonl", options=ExportOptions(min_p_chosen=0.8))
    assert report.splits == {"all": 1}
    assert report.left_out == {"low-p-chosen": 1}


@pytest.mark.parametrize(
    ("format", "out", "options", "said"),
    [
        ("trll", "x.jsonl", {}, "did you mean 'trl'"),
        ("ultrafeedback", "x.jsonl", {}, "is a folder with splits"),
        ("annotated-pairs", "x.jsonl", {}, "one .json file"),
        ("trl-sft", "x.jsonl", {"margin": True}, "has no margin"),
        ("hf-cai", "x", {"extra": ("id",)}, "takes no extra columns"),
    ],
)
def test_wrong_request_is_refused_before_anything_is_written(format, out, options, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        export_rows(ROWS, format, tmp_path / out, options=ExportOptions(**options))
    assert os.listdir(tmp_path) == []


def test_failed_export_leaves_what_was_there(tmp_path):
    out = tmp_path / "x.jsonl"
    export_rows(ROWS[:2], "trl", out)
    before = out.read_bytes()

    def broken():
        yield ROWS[0]
        raise DataError("torn")

    with pytest.raises(DataError, match="torn"):
        export_rows(broken(), "trl", out)
    with pytest.raises(DataError, match="torn"):
        export_rows(broken(), "ultrafeedback", tmp_path / "folder")
    with pytest.raises(DataError, match="every row was left out"):
        export_rows([], "trl", out)
    assert out.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not there")
def test_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    from cai.dataset.export import files

    monkeypatch.setattr(files, "JsonlWriter", lambda *_args, **_options: _Full())
    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        export_rows(ROWS, "trl", tmp_path / "x.jsonl")
    assert os.listdir(tmp_path) == []


class _Full:
    """A writer on a full disk."""

    def write(self, _record):
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    def close(self):
        self.write({})


def test_folder_that_is_there_is_not_overwritten(tmp_path):
    out = tmp_path / "uf"
    export_rows(ROWS, "ultrafeedback", out)
    with pytest.raises(ConflictError, match="is there already"):
        export_rows(ROWS, "ultrafeedback", out)


def write_run(folder: Path, rows, transcripts=()):
    folder.mkdir()
    if rows is not None:
        (folder / "rows.jsonl").write_bytes(b"".join(encode_row(one) for one in rows))
    (folder / "transcripts.jsonl").write_bytes(b"".join(encode_row(one) for one in transcripts))
    return folder


def test_run_gives_its_rows_or_says_that_it_has_none(tmp_path):
    run = write_run(tmp_path / "run", ROWS[:2])
    assert list(read_rows(run)) == ROWS[:2]
    assert list(read_rows(run / "rows.jsonl")) == ROWS[:2]
    with pytest.raises(InputError, match=r"has no pairs \(rows.jsonl is missing\)"):
        read_rows(write_run(tmp_path / "unjudged", None))
    with pytest.raises(InputError, match="no such run or file"):
        read_rows(tmp_path / "nowhere")


def test_run_without_a_judge_gives_its_final_answers_for_sft(tmp_path):
    said = {"input_id": "sha256:1", "prompt": ROWS[0]["prompt"], "answer": "fine"}
    run = write_run(tmp_path / "run", None, [said, said | {"answer": ""}])
    out = tmp_path / "sft.jsonl"
    export_rows(read_answers(run), "trl-sft", out)
    assert lines(out) == [
        {"messages": [*ROWS[0]["prompt"], {"role": "assistant", "content": "fine"}]}
    ]


def test_batch_requests_carry_the_input_id_and_join_back(tmp_path):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "One?"}\n{"prompt": ""}\n{"prompt": "Two?"}\n')
    out = tmp_path / "batch.jsonl"
    sampling = Sampling(max_tokens=64, temperature=0.7, n=2, seed=3)
    report = export_batch(iter_prompts(prompts), out, model="m", sampling=sampling)
    assert report.splits == {"all": 2}
    assert report.left_out == {"empty-prompt": 1}
    first, second = lines(out)
    assert (first["method"], first["url"]) == ("POST", "/v1/chat/completions")
    assert first["body"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "One?"}],
        "temperature": 0.7,
        "top_p": 1.0,
        "n": 2,
        "max_tokens": 64,
        "seed": 3,
    }
    choices = [{"message": {"content": "2"}}]
    answer = {
        "custom_id": second["custom_id"],
        "response": {"status_code": 200, "body": {"choices": choices}},
        "error": None,
    }
    output = tmp_path / "out.jsonl"
    output.write_text(json.dumps(answer) + "\n")
    answered, missing = join_batch(out, output)
    assert answered.answers == ("2",)
    assert missing.reason == "no-answer"
