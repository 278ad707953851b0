"""`cai data generate` and `cai data status` as a person runs them: stopped, killed, resumed.

These runs have no judge; `test_data_judged` has those with one.
"""

from __future__ import annotations

import json
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cai.cli.main import main
from tests.cli import runs
from tests.cli.runs import SCRIPT, make_folder, started


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_folder(tmp_path, monkeypatch)


def arguments(*extra: str, **options: Any) -> list[str]:
    return runs.arguments(*extra, judge="none", **options)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_generate_writes_a_run_and_says_what_came_of_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "prompts.txt").write_text("Hi\nHo\nsilence\nHi\n")
    assert main(arguments()) == 0
    out = capsys.readouterr().out
    assert "run: 4 inputs, 3 kept, 1 rejected (empty-draft 1)" in out
    assert "1 inputs repeat an earlier prompt" in out
    assert re.search(r"[\d.]+ s, [\d,.]+ rows/s, [\d,]+ tokens/s", out)
    assert "next: cai data status run" in out
    assert sorted(path.name for path in (folder / "run").iterdir()) == [
        "DONE",
        "config.yaml",
        "lock",
        "manifest.json",
        "rejected.jsonl",
        "transcripts.jsonl",
    ]


def test_json_is_for_machines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("--json", "--limit", "5")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["inputs"], shown["kept"], shown["rejected"]) == (5, 5, {})
    assert shown["rows_per_s"] > 0


def test_progress_goes_to_stderr_as_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments()) == 0
    assert re.search(r"run 30/30  [\d,.]+ rows/s  [\d,]+ tokens/s", capsys.readouterr().err)


def test_same_command_again_owes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments()) == 0
    assert main(arguments()) == 0
    assert "nothing was owed" in capsys.readouterr().out


def test_settings_come_from_flag_then_set_then_environment_then_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "run.yaml").write_text(
        "engine: scripted:missing.yaml\nrevisions: 3\nseed: 3\nmax_tokens: 30\n"
    )
    monkeypatch.setenv("CAI_ENGINE", "scripted:script.yaml")
    args = ["data", "generate", "prompts.txt", "--out", "run", "-c", "t@draft", "--judge", "none"]
    assert main([*args, "--config", "run.yaml", "--set", "seed=2", "--set", "revisions=2",
                 "--revisions", "1"]) == 0  # fmt: skip
    config = json.loads((folder / "run" / "manifest.json").read_text())["config"]
    assert (config["engine"], config["revisions"], config["seed"], config["max_tokens"]) == (
        "scripted:script.yaml", 1, 2, 30,
    )  # fmt: skip


def test_saved_settings_give_the_same_run_again(folder: Path) -> None:
    assert main(arguments("--revisions", "2", "--seed", "4")) == 0
    again = ["data", "generate", "prompts.txt", "--config", "run/config.yaml", "--out", "again"]
    assert main(again) == 0
    lines = [
        set((folder / name / "transcripts.jsonl").read_bytes().splitlines())
        for name in ("run", "again")
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (("--revisions", "17"), "revisions is 17 and must be at most 16"),
        (("--revisions", "-1"), "revisions is -1 and must be at least 0"),
        (("--max-tokens", "0"), "max_tokens is 0 and must be at least 1"),
        (("--temperature", "nan"), "temperature is nan"),
        (("--limit", "0"), "limit is 0 and must be at least 1"),
        (("--set", "revisons=2"), "unknown setting 'revisons'; did you mean 'revisions'?"),
        (("--set", "revisions"), "--set revisions: write key=value"),
        (("--set", "seed=[1"), "--set seed:1:"),
        (("--resume",), "run: no run to resume"),
        (("--resume", "--fresh"), "give one of them"),
        (("--engine", "nonsense"), "'nonsense' is no engine address"),
        (("--engine-arg", "enforce_eager=true"), "need an embedded engine"),
        (("-c", "t@7"), "t@7"),
        (("-c", "u"), "no constitution 'u'"),
        (("--set", "principles=[three]"), "three"),
        (("--config", "missing.yaml"), "missing.yaml: cannot be read"),
    ],
)
def test_bad_settings_exit_2_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...], told: str
) -> None:
    assert main(arguments(*extra)) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_unknown_key_of_a_config_file_is_named_with_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "run.yaml").write_text("revisions: 1\nrevison: 2\n")
    assert main(arguments("--config", "run.yaml")) == 2
    assert "run.yaml:2:1: unknown key 'revison'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("empty.jsonl", b"", "there is no prompt in the file"),
        ("cut.jsonl.gz", b"\x1f\x8b\x08\x00", "not a readable gzip file"),
        ("blank.jsonl", b'{"prompt": "  "}\n', "no input was kept (empty-prompt 1)"),
        ("prompts.csv", b"Hi\n", "they end in .jsonl"),
    ],
)
def test_unusable_prompt_file_exits_2(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, told: str
) -> None:
    (folder / name).write_bytes(data)
    assert main(arguments(prompts=name)) == 2
    assert told in capsys.readouterr().err


def test_other_setting_of_a_run_exits_2_and_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments()) == 0
    assert main(arguments("--revisions", "2")) == 2
    assert "revisions was 1 and is 2" in capsys.readouterr().err
    assert main(arguments("--revisions", "2", "--fresh")) == 0


def test_status_of_a_run_that_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments()) == 0
    capsys.readouterr()
    assert main(["data", "status", "run"]) == 0
    out = capsys.readouterr().out
    assert "run: done, 30 of 30 inputs" in out
    assert "made by   scripted:script.yaml with t@draft" in out
    assert main(["data", "status", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "done"
    assert main(["data", "status", "nowhere"]) == 2


def test_live_run_refuses_a_second_writer_and_stops_on_request(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "script.yaml").write_text("delay_s: 0.1\n" + SCRIPT)
    args = arguments("--concurrency", "2")
    with started(*args) as process:
        assert main(args) == 1
        assert f"process {process.pid} is writing to this run" in capsys.readouterr().err
        time.sleep(0.8)
        assert main(["data", "status", "run", "--json"]) == 0
        live = json.loads(capsys.readouterr().out)
        assert (live["state"], live["pid"]) == ("running", process.pid)
        assert live["kept"] + live["owed"] == 30
        assert live["kept"] > 0
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert re.search(r"run: \d+ kept, 0 rejected, \d+ owed", err)
    assert "run the same command again to go on" in err
    assert main(["data", "status", "run"]) == 0
    assert "go on with: cai data generate prompts.txt --config run/config.yaml" in (
        capsys.readouterr().out
    )
    assert main([*args, "--resume", "--concurrency", "30"]) == 0
    assert len({row["input_id"] for row in rows(folder / "run", "transcripts.jsonl")}) == 30


def test_sigterm_stops_as_ctrl_c_does(folder: Path) -> None:
    (folder / "script.yaml").write_text("delay_s: 0.1\n" + SCRIPT)
    with started(*arguments("--concurrency", "2")) as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "owed" in err


def test_killed_three_times_and_resumed_gives_the_unbroken_run(folder: Path) -> None:
    """400 inputs, 3 of them unusable and 2 silent; 3 × 60 ms a row, 32 at once: about 2 s."""
    (folder / "script.yaml").write_text("delay_s: 0.06\n" + SCRIPT)
    prompts = [json.dumps({"prompt": f"prompt {i % 360}"}) for i in range(395)]
    prompts[100:100] = ["{", '{"prompt": ""}', "[]"]
    prompts[200:200] = ['{"prompt": "silence"}'] * 2
    (folder / "prompts.jsonl").write_text("\n".join(prompts) + "\n")
    assert main(arguments("--concurrency", "1000", out="whole", prompts="prompts.jsonl")) == 0

    args = arguments("--concurrency", "32", prompts="prompts.jsonl")
    moments = random.Random(11)
    for _ in range(3):
        with started(*args) as process:
            time.sleep(moments.uniform(0.0, 0.7))
            process.kill()
            process.wait(10)
        assert not (folder / "run" / "DONE").exists()
    assert main(args) == 0

    for name in ("transcripts.jsonl", "rejected.jsonl"):
        broken, whole = (
            (folder / run / name).read_bytes().splitlines() for run in ("run", "whole")
        )
        assert len(broken) == len(set(broken))
        assert set(broken) == set(whole)
    kept, rejected = (
        {row["input_id"] for row in rows(folder / "run", name)}
        for name in ("transcripts.jsonl", "rejected.jsonl")
    )
    assert (len(kept), len(rejected), len(kept & rejected)) == (395, 5, 0)
    assert len(json.loads((folder / "run" / "manifest.json").read_text())["sessions"]) == 4
