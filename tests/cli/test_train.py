"""`cai train` as a person runs it: dry run, training, JSON, resume, and errors in one line."""

import json
from pathlib import Path

import pytest

from cai.cli.main import main
from cai.cli.train import _ref
from cai.policy.manifest import verify
from tests.train.runs import transcript, write_lines, write_run

UNREVISED = transcript(9, steps=[{"status": "unusable", "revision_raw": "x", "problem": "short"}])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a finished run in `data`."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "data")
    return tmp_path


def sft(model_folder, *more, out="small"):
    base = ["train", "sft", "--data", "data", "--policy", str(model_folder), "--out", out]
    return main([*base, "--set", "batch_size=4", "--set", "num_threads=1", *more])


def test_a_dry_run_marks_what_is_learned_and_tells_the_plan(here, model_folder, capsys):
    assert sft(model_folder, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "⟦Put 0 eggs in.<|im_end|>⟧" in said
    assert said.count("--- sample") == 3
    assert "22 to train, 2 to validate" in said
    assert "plan: 12 steps of 4 rows" in said
    assert sorted(path.name for path in here.iterdir()) == ["data"]


def test_a_dry_run_tells_what_no_row_was_made_of(here, model_folder, capsys):
    write_lines(here / "data" / "transcripts.jsonl", [*map(transcript, range(4)), UNREVISED])
    assert sft(model_folder, "--dry-run") == 0
    assert "left out of the data: 1 no-revision" in capsys.readouterr().out


def test_a_dry_run_for_machines(here, model_folder, capsys):
    assert sft(model_folder, "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plan"]["num_steps"] == 12
    assert found["config"]["name"] == "small"


def test_a_policy_goes_under_home_and_its_digest_is_printed(here, model_folder, capsys):
    assert sft(model_folder, "--set", "max_steps=2", "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    manifest = verify(here / "var" / "policies" / "small")
    assert found["digest"] == manifest.digest
    assert found["policy"] == "var/policies/small"
    assert found["metrics"]["best_step"] == 2
    assert "small 2/2" in captured.err
    assert (here / "var" / "runs" / "small" / "DONE").exists()
    assert sft(model_folder, "--set", "max_steps=2") == 0  # finished: told again
    assert manifest.digest in capsys.readouterr().out


def test_a_path_stands_where_it_says_beside_its_run(here, model_folder, capsys):
    assert sft(model_folder, "--set", "max_steps=1", out="./models/mine") == 0
    assert "--policy models/mine --out NAME" in capsys.readouterr().out
    verify(here / "models" / "mine")
    assert (here / "models" / "mine.run" / "curves.jsonl").exists()


def test_a_policy_is_named_as_other_commands_find_it(here):
    """By its name under home alone, else by a path, which has a slash."""
    assert _ref(Path("var/policies/mine")) == "mine"
    assert _ref(here / "var" / "policies" / "mine") == "mine"
    assert _ref(Path("x/mine")) == "x/mine"
    assert _ref(Path("mine")) == "./mine"


def test_settings_come_from_a_file_too(here, model_folder, capsys):
    (here / "c.yaml").write_text("type: sft\nepochs: 4\nuse: last-revision\n")
    assert sft(model_folder, "--config", "c.yaml", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["config"]["epochs"], found["config"]["use"]) == (4.0, "last-revision")
    assert found["plan"]["num_train"] + found["plan"]["num_validation"] == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "epoch=2"], "unknown setting 'epoch'; did you mean 'epochs'?"),
        (["--resume", "--fresh"], "give one of them"),
        (["--resume"], "no run to resume"),
        (["--set", "batch_size=0"], "batch_size is 0 and must be at least 1"),
        (["--data", "nowhere"], "nowhere: not a run directory"),
    ],
)
def test_what_will_not_do_is_one_line_and_exit_2(here, model_folder, capsys, arguments, message):
    assert sft(model_folder, *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1


def test_what_is_missing_is_named(here, capsys):
    assert main(["train", "sft", "--data", "data"]) == 2
    assert "'name' is missing; give --out NAME" in capsys.readouterr().err
    assert main(["train", "sft", "--out", "x"]) == 2
    assert "'data' is missing; give --data" in capsys.readouterr().err


def test_only_the_main_process_speaks(here, model_folder, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert sft(model_folder, "--dry-run") == 0
    assert capsys.readouterr().out == ""


def test_help_loads_nothing_heavy():
    from tests.test_import_light import loaded_by

    assert loaded_by("from cai.cli.main import main; main(['train', '--help'])") == set()
    assert loaded_by("import cai.train.config, cai.train.sources, cai.train.split") == set()
