"""`cai data export | card | import | feedback | merge`: what goes out, and what comes in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cai.cli.main import main
from cai.db import open_database
from cai.policy.feedback import Feedback, FeedbackStore
from cai.settings import load_settings
from tests.cli.runs import arguments, make_folder
from tests.judged import rows

HH = "\n\nHuman: {}\n\nAssistant: {}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_folder(tmp_path, monkeypatch)


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Thirty prompts; those that end in 7 are ties, those that end in 3 choose the draft."""
    assert main(arguments()) == 0
    capsys.readouterr()
    return folder / "run"


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_export_for_trl_has_its_three_columns(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "export", "run", "--format", "trl", "--out", "trl.jsonl"]) == 0
    out = capsys.readouterr().out
    num_pairs = len(rows(run))
    assert f"trl.jsonl: {num_pairs} records" in out
    assert "load_dataset('json', data_files='trl.jsonl')" in out
    exported = lines(run.parent / "trl.jsonl")
    assert len(exported) == num_pairs > 20
    assert {tuple(sorted(record)) for record in exported} == {("chosen", "prompt", "rejected")}


@pytest.mark.parametrize("format", ["trl", "trl-sft", "trl-unpaired", "rows"])
def test_file_forms_are_read_by_datasets(run: Path, format: str) -> None:
    from datasets import load_dataset

    for name in ("out.jsonl", "out.jsonl.gz", "out.parquet"):
        assert main(["data", "export", "run", "--format", format, "--out", name]) == 0
        kind = "parquet" if name.endswith("parquet") else "json"
        read = load_dataset(kind, data_files=name, cache_dir="cache", split="train")
        assert len(read) >= len(rows(run)) / 30


@pytest.mark.parametrize("format", ["ultrafeedback", "hf-cai"])
def test_folder_forms_have_splits_and_a_card(
    run: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    from datasets import load_dataset

    args = ["data", "export", "run", "--format", format, "--out", "hub", "--set", "test_share=0.3"]
    assert main([*args, "--json"]) == 0
    splits = told(capsys)["splits"]
    assert {"train_prefs", "test_prefs", "train_sft", "test_sft"} <= set(splits)
    assert splits["train_prefs"] + splits["test_prefs"] == len(rows(run))
    read = load_dataset("hub", cache_dir="cache")
    assert {name: len(read[name]) for name in read} == splits
    card = (run.parent / "hub" / "README.md").read_text()
    assert "Find one fault." in card
    assert (run.parent / "hub" / "margins.svg").exists()
    if format == "hf-cai":
        assert "Find one fault." in read["train_prefs"][0]["critic_prompt"] or (
            "Find two faults." in read["train_prefs"][0]["critic_prompt"]
        )
    assert main(args) == 1
    assert "hub: is there already" in capsys.readouterr().err


def test_options_of_an_export_are_set_by_name(run: Path) -> None:
    args = ["data", "export", "run", "--format", "trl", "--out", "trl.jsonl"]
    options = ("margin=true", "extra=[id, source]", "min_p_chosen=0.7")
    assert main([*args, *(part for one in options for part in ("--set", one))]) == 0
    record = lines(run.parent / "trl.jsonl")[0]
    assert set(record) == {"prompt", "chosen", "rejected", "margin", "id", "source"}


def test_annotated_pairs_are_one_json_file(run: Path) -> None:
    assert main(["data", "export", "run", "--format", "annotated-pairs", "--out", "a.json"]) == 0
    document = json.loads((run.parent / "a.json").read_text())
    assert len(document["comparisons"]) == len(rows(run))


def test_run_without_a_judge_exports_its_answers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(judge="none")) == 0
    assert main(["data", "export", "run", "--format", "trl-sft", "--out", "sft.jsonl"]) == 0
    messages = lines(folder / "sft.jsonl")[0]["messages"]
    assert [turn["role"] for turn in messages] == ["user", "assistant"]
    assert main(["data", "export", "run", "--format", "trl", "--out", "trl.jsonl"]) == 2
    assert "the run has no pairs" in capsys.readouterr().err


def test_prompts_become_a_batch_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["data", "export", "prompts.txt", "--format", "openai-batch", "--out", "batch.jsonl"]
    assert main([*args, "--set", "model=m", "--set", "n=2", "--limit", "4"]) == 0
    first, *rest = lines(run.parent / "batch.jsonl")
    assert (first["body"]["model"], first["body"]["n"], len(rest)) == ("m", 2, 3)
    assert main(["data", "export", "run", *args[3:], "--set", "model=m"]) == 0
    assert len(lines(run.parent / "batch.jsonl")) == 30
    assert main(args) == 2
    assert "model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--format", "tlr", "--out", "x.jsonl"), "no export format 'tlr'; did you mean 'trl'?"),
        (("--format", "hf-cai", "--out", "x.jsonl"), "is a folder with splits"),
        (
            ("--format", "trl", "--out", "x.jsonl", "--set", "margn=true"),
            "unknown setting 'margn'; did you mean 'margin'?",
        ),
        (("--format", "trl", "--out", "x.jsonl", "--set", "test_share=1"), "test_share is 1"),
        (("--format", "trl", "--out", "x.jsonl", "--limit", "2"), "--limit is for openai-batch"),
        (("--format", "trl", "--out", "x.jsonl", "-c", "u"), "no constitution 'u'"),
    ],
)
def test_bad_export_exits_2_with_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], told: str
) -> None:
    assert main(["data", "export", "run", *args]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_export_of_what_is_not_there_exits_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = ["data", "export", "nowhere", "--format", "trl", "--out", "x.jsonl"]
    assert main(export) == 2
    assert "nowhere: no such run or file" in capsys.readouterr().err
    write(folder / "bad.jsonl", {"format": 1})
    assert main(["data", "export", "bad.jsonl", *export[3:]]) == 2
    assert "bad.jsonl:1: not a preference row of ours: 'id' is missing" in capsys.readouterr().err


def test_card_is_written_beside_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "card", "run", "--title", "My pairs", "--license", "mit"]) == 0
    assert "run/README.md" in capsys.readouterr().out
    text = (run / "README.md").read_text()
    for part in ("# My pairs", 'license: "mit"', "| judge | tie |", "Which is best?", "t@draft"):
        assert part in text
    assert "`scripted:script.yaml`" in text
    assert (run / "margins.svg").read_text().startswith("<svg")
    assert main(["data", "card", "run", "--out", "cards", "--json"]) == 0
    assert told(capsys) == {"run": "run", "card": "cards/README.md", "constitution": "t@draft"}
    assert main(arguments()) == 0, "a card in its folder does not disturb a run"


def test_constitution_that_was_changed_is_left_out_of_the_card_or_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = run.parent / "constitutions" / "t" / "draft.yaml"
    draft.write_text(draft.read_text().replace("Find one fault.", "Find a fault."))
    assert main(["data", "card", "run"]) == 0
    assert "t@draft was changed since, so its text is left out" in capsys.readouterr().err
    assert "Find a fault." not in (run / "README.md").read_text()
    assert main(["data", "card", "run", "-c", "t@draft"]) == 1
    assert "give the one it was made by" in capsys.readouterr().err


def test_import_says_by_line_what_was_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One pair, one whose prompts differ, one with an empty answer, the first once more."""
    good = {"chosen": HH.format("Hi", "Hello!"), "rejected": HH.format("Hi", "Go.")}
    write(
        folder / "hh.jsonl",
        good,
        {"chosen": HH.format("Hi", "Yes"), "rejected": HH.format("Ho", "No")},
        {"chosen": HH.format("Hi", ""), "rejected": HH.format("Hi", "No")},
        good,
    )
    assert main(["data", "import", "hh.jsonl", "--out", "hh", "--weight", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "hh: 2 pairs" in out
    assert "2 left out (empty-answer 1, prompts-differ 1)" in out
    assert "mended or marked: duplicate 1" in out
    assert "next: cai data card hh" in out
    assert json.loads((folder / "hh" / "DONE").read_text())["duplicates"] == 1
    first, second = rows(folder / "hh")
    assert (first["source"], first["weight"]) == ("human", 0.5)
    assert first["id"] != second["id"]
    rejected = rows(folder / "hh", "rejected.jsonl")
    assert [(row["line"], row["reason"]) for row in rejected] == [
        (2, "prompts-differ"),
        (3, "empty-answer"),
    ]
    assert {row["stage"] for row in rejected} == {"read"}
    assert main(["data", "status", "hh"]) == 0
    out = capsys.readouterr().out
    assert "hh: done, 4 of 4 inputs" in out
    assert "made by   import of hh.jsonl (hh-rlhf)" in out
    assert main(["data", "card", "hh"]) == 0
    assert "pairs labelled by human" in (folder / "hh" / "README.md").read_text()


def test_import_again_does_nothing_and_other_settings_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "p.jsonl", {"prompt": "Hi", "chosen": "Hello!", "rejected": "Go."})
    args = ["data", "import", "p.jsonl", "--out", "p"]
    assert main(args) == 0
    assert main([*args, "--json"]) == 0
    assert '"pairs": 1' in capsys.readouterr().out
    assert main([*args, "--source", "ai"]) == 2
    assert "source was None and is ai" in capsys.readouterr().err
    assert main([*args, "--source", "ai", "--fresh"]) == 0
    assert rows(folder / "p")[0]["source"] == "ai"
    (folder / "p" / "DONE").unlink()
    with (folder / "p" / "rows.jsonl").open("a") as file:
        file.write('{"torn": ')
    assert main([*args, "--source", "ai"]) == 0
    assert len(rows(folder / "p")) == 1, "an import that was killed is begun again"


@pytest.mark.parametrize("extra", [(), ("--fresh",)])
def test_import_does_not_touch_a_run_that_was_generated(
    run: Path, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...]
) -> None:
    before = (run / "rows.jsonl").read_bytes()
    write(run.parent / "p.jsonl", {"prompt": "Hi", "chosen": "Hello!", "rejected": "Go."})
    assert main(["data", "import", "p.jsonl", "--out", "run", *extra]) == 1
    assert "run: holds what 'cai data generate' made" in capsys.readouterr().err
    assert (run / "rows.jsonl").read_bytes() == before
    assert main(["data", "import", "p.jsonl", "--out", "p"]) == 0
    assert main(arguments(*extra, out="p")) == 1
    assert "p: holds what 'cai data import' made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "extra", "told"),
    [
        ("x.jsonl", b'{"a": 1}\n', (), "of no known preference format"),
        ("x.jsonl", b'{"a": 1}\n', ("--format", "trll"), "did you mean 'trl'?"),
        ("x.jsonl", b'{"a": 1}\n', ("--format", "trl"), "no pair was usable (no-prompt 1)"),
        ("x.jsonl", b"", ("--source", "hal"), "no source 'hal'"),
        ("x.csv", b"a,b\n", (), "not a file of records"),
        ("x.jsonl.gz", b"\x1f\x8b\x08\x00", (), "not a readable gzip file"),
        ("x.parquet", b"PAR", (), "not a readable Parquet file"),
    ],
)
def test_unusable_import_exits_2(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    data: bytes,
    extra: tuple[str, ...],
    told: str,
) -> None:
    (folder / name).write_bytes(data)
    assert main(["data", "import", name, "--out", "x", *extra]) == 2
    assert told in capsys.readouterr().err
    assert main(["data", "import", "missing.jsonl", "--out", "y"]) == 2
    assert "missing.jsonl" in capsys.readouterr().err


def test_import_of_a_torn_gzip_keeps_what_is_whole_and_names_the_line(folder: Path) -> None:
    record = json.dumps({"prompt": "Hi {}", "chosen": "Hello!", "rejected": "Go."})
    whole = "".join(record.replace("{}", str(i)) + "\n" for i in range(2000)).encode()
    (folder / "torn.jsonl.gz").write_bytes(gzip.compress(whole)[:-200])
    assert main(["data", "import", "torn.jsonl.gz", "--out", "torn"]) == 0
    kept, (rejected,) = rows(folder / "torn"), rows(folder / "torn", "rejected.jsonl")
    assert 0 < len(kept) < 2000
    assert rejected["reason"] == "broken-gzip"
    assert rejected["line"] == len(kept) + 1


RANKINGS = [
    {"prompt": f"prompt {i}", "outputs": ["A long reply.", "A short reply."], "ranking": ranking,
     "labeler": labeler}
    for i, labeler, ranking in [
        (0, "ann", "B > A"), (0, "ben", "B > A"), (0, "cid", "A > B"),
        (1, "ann", "A > B"), (1, "ben", "A > B"),
        (2, "ann", "A > B"), (2, "ben", "B > A"),
        (40, "ann", "B > A"),
    ]
]  # fmt: skip


def test_people_override_the_judge_and_score_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The judge prefers the short reply to all three. People agree on 0, not on 1, split on 2."""
    write(run.parent / "rankings.jsonl", *RANKINGS)
    assert main(["data", "import", "rankings.jsonl", "--out", "people"]) == 0
    capsys.readouterr()
    num_judged = len(rows(run))
    args = ["data", "merge", "run", "people", "--out", "both", "--weights", "human=1.0,ai=0.5"]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert f"both: {num_judged + 1} pairs (ai {num_judged - 2}, human 3)" in out
    assert "1 left out (no-consensus 1)" in out
    assert "3 labelers on 3 pairs: 40.0% agree, Fleiss' κ" in out
    assert "ann / ben: Cohen's κ" in out
    assert "judge scripted:script.yaml: right on 50.0% of the 2 pairs" in out
    merged = rows(run.parent / "both")
    by_prompt = {row["prompt"][0]["content"]: row for row in merged}
    assert by_prompt["prompt 0"]["p_chosen"] == pytest.approx(2 / 3)
    assert by_prompt["prompt 0"]["overrides"]["agrees"] is True
    assert by_prompt["prompt 1"]["chosen"][0]["content"] == "A long reply."
    assert by_prompt["prompt 1"]["overrides"]["agrees"] is False
    assert (by_prompt["prompt 2"]["source"], by_prompt["prompt 2"]["weight"]) == ("ai", 0.5)
    assert (by_prompt["prompt 40"]["source"], by_prompt["prompt 40"]["weight"]) == ("human", 1.0)
    assert len({row["id"] for row in merged}) == len(merged)
    manifest = json.loads((run.parent / "both" / "manifest.json").read_text())
    stats = manifest["judge_stats"]["scripted:script.yaml"]
    assert (stats["known"], stats["pairs"]) == (2, num_judged)
    assert main([*args, "--json"]) == 0
    assert told(capsys)["sources"] == {"ai": num_judged - 2, "human": 3}
    assert main(["data", "card", "both"]) == 0
    card = (run.parent / "both" / "README.md").read_text()
    assert "3 people labelled 3 pairs together." in card
    assert "| all: share that agrees | 0.400 |" in card
    assert "| accuracy |" in card


def test_people_alone_come_to_a_consensus(folder: Path) -> None:
    write(folder / "rankings.jsonl", *RANKINGS)
    assert main(["data", "import", "rankings.jsonl", "--out", "people"]) == 0
    assert main(["data", "merge", "people", "--out", "one", "--min-labelers", "2"]) == 0
    assert len(rows(folder / "people")) == 8
    assert [row["votes"]["chosen"] for row in rows(folder / "one")] == [
        ["ann", "ben"],
        ["ann", "ben"],
    ]


def test_pairs_that_two_runs_share_are_there_once(run: Path) -> None:
    assert main(["data", "merge", "run", "run/rows.jsonl", "--out", "both"]) == 0
    assert [row["id"] for row in rows(run.parent / "both")] == [row["id"] for row in rows(run)]


@pytest.mark.parametrize(
    ("extra", "code", "told"),
    [
        (("run", "--out", "run"), 1, "run: is one of the runs to be merged"),
        (("nowhere", "--out", "m"), 2, "nowhere: no such run or file"),
        (("run", "--out", "m", "--weights", "humans=1"), 2, "did you mean 'human'?"),
        (("run", "--out", "m", "--weights", "ai=-1"), 2, "write a number, 0 or more"),
        (("run", "--out", "m", "--weights", "ai=nan"), 2, "write a number, 0 or more"),
        (("run", "--out", "m", "--min-share", "0.4"), 2, "min-share"),
    ],
)
def test_bad_merge_is_told_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...], code: int, told: str
) -> None:
    assert main(["data", "merge", *extra]) == code
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_what_people_said_becomes_a_run_of_human_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAI_HOME", str(folder / "home"))
    with open_database(load_settings()) as database:
        store = FeedbackStore(database)
        asked = [{"role": "user", "content": "Is the fence green?"}]
        store.add(Feedback(messages=asked, response="Yes.", better="I cannot see it."))
        store.add(Feedback(messages=asked, response="Maybe.", better="Maybe."))
    assert main(["data", "feedback", "--out", "people"]) == 0
    out = capsys.readouterr().out
    assert "people: 1 pairs" in out
    assert "1 left out (same-answers 1)" in out
    (row,) = lines(folder / "people" / "rows.jsonl")
    assert (row["source"], row["chosen"][0]["content"]) == ("human", "I cannot see it.")
    assert main(["data", "status", "people"]) == 0
    assert "what people said of 2 answers" in capsys.readouterr().out
