"""Judged runs of `cai data generate` as a person has them: killed, spoilt, out of disk, resumed."""

from __future__ import annotations

import gzip
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cai.cli.main import main
from cai.dataset.resume import read_manifest, take_stock
from cai.dataset.status import read_status
from tests.cli.runs import SCRIPT, arguments, make_folder, started
from tests.judged import check_run, lines, manifest, rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_folder(tmp_path, monkeypatch)


def check_as_resume_finds_it(out: Path, num_inputs: int) -> int:
    """The invariant, on a copy mended as the next session will mend it; how many are owed."""
    copy = out.with_name("copy")
    shutil.copytree(out, copy)
    stock = take_stock(copy, read_manifest(copy)["config"], mode="auto", judged=True)
    check_run(copy, num_inputs, is_whole=False)
    assert stock.counts.pairs == len(rows(copy))
    shutil.rmtree(copy)
    status = read_status(out)
    assert status.counts.accounted == stock.counts.accounted
    assert status.counts.accounted + status.owed == num_inputs
    return status.owed


def test_killed_ten_times_and_resumed_gives_the_unbroken_run(folder: Path) -> None:
    """1,000 inputs, 32 at once, four calls of 50 ms each: 6 s of work, killed 3.5 s into it."""
    (folder / "script.yaml").write_text("delay_s: 0.05\n" + SCRIPT)
    prompts = [json.dumps({"prompt": f"prompt {i % 900}"}) for i in range(995)]
    prompts[100:100] = ["{", '{"prompt": ""}', "[]"]
    prompts[500:500] = ['{"prompt": "silence"}'] * 2
    (folder / "prompts.jsonl").write_text("\n".join(prompts) + "\n")
    options = {"prompts": "prompts.jsonl"}
    assert main(arguments("--concurrency", "1000", out="whole", **options)) == 0
    check_run(folder / "whole", 1000)

    out, args = folder / "run", arguments("--concurrency", "32", **options)
    moments, owed = random.Random(11), [1000]
    for _ in range(10):
        with started(*args) as process:
            time.sleep(moments.uniform(0.0, 0.7))
            process.kill()
            process.wait(10)
        assert not (out / "DONE").exists()
        owed.append(check_as_resume_finds_it(out, 1000))
    assert owed == sorted(owed, reverse=True), "what is accounted for stays so"
    assert 0 < owed[-1] < 900
    assert main(args) == 0
    check_run(out, 1000)

    assert lines(out) == lines(folder / "whole")
    whole, broken = manifest(folder / "whole"), manifest(out)
    for key in ("counts", "judge_stats", "canaries", "warnings"):
        assert broken[key] == whole[key], key
    assert broken["counts"]["rejected"]["tie"] > 50
    assert broken["counts"]["pairs"] > 700
    assert len(broken["sessions"]) == 11


def test_bad_lines_of_a_judged_run_are_rejected_and_the_rest_is_whole(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five bad lines, then one of 40 MB, among twenty good ones; the gzip breaks off at the end."""
    good = [json.dumps({"prompt": f"prompt {i}0"}).encode() for i in range(20)]
    bad = [b'{"answer": "no prompt"}', b'{"prompt": "\xff\xfe"}', b"{", b'{"prompt": ""}', b"[1]"]
    large = b'{"prompt": "' + b"x" * 40_000_000 + b'"}'
    noise = random.Random(1).randbytes(60_000).hex().encode()
    data = b"\n".join([*good[:10], *bad, large, *good[10:], b'{"prompt": "' + noise + b'"}', b""])
    (folder / "p.jsonl.gz").write_bytes(gzip.compress(data, 1)[:-1000])
    assert main(arguments(prompts="p.jsonl.gz")) == 0
    check_run(folder / "run", 27)
    found = {row["line"]: row["reason"] for row in rows(folder / "run", "rejected.jsonl")}
    broken = {line: reason for line, reason in found.items() if reason not in ("no-change",)}
    assert broken == {
        11: "no-prompt",
        12: "invalid-utf8",
        13: "invalid-json",
        14: "empty-prompt",
        15: "not-an-object",
        16: "row-too-large",
        27: "broken-gzip",
    }
    assert "rejected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "rules: [{scores: {A: -0.1}}]\n",
            "the judge scripted:judge.yaml does not answer with A or B: the script has no score",
        ),
        ("rules: [{scores: {A: -5.0, B: -5.0}}]\n", "the letters hold 0.013"),
        ("rules: [{scores: {A: .nan, B: -1.0}}]\n", "judge.yaml:1"),
    ],
)
def test_judge_that_gives_no_verdict_is_named_before_the_first_row(
    folder: Path, capsys: pytest.CaptureFixture[str], script: str, told: str
) -> None:
    (folder / "judge.yaml").write_text(script)
    assert main(arguments(judge="scripted:judge.yaml")) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (folder / "run" / "manifest.json").exists()
    assert main(arguments()) == 0, "the folder can be used with another judge"


def test_judge_on_another_engine_is_opened_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "judge.yaml").write_text(SCRIPT)
    assert main(arguments(judge="scripted:judge.yaml")) == 0
    out = capsys.readouterr().out
    assert f"{len(rows(folder / 'run'))} preference pairs" in out
    assert "next: cai data card run; cai data export run --format trl" in out
    judges = {row["label"]["judge"]["policy"] for row in rows(folder / "run")}
    assert judges == {"scripted:judge.yaml"}
    assert main(["data", "status", "run"]) == 0
    shown = capsys.readouterr().out
    assert "scripted:script.yaml with t@draft, judged by scripted:judge.yaml" in shown
    assert main(arguments()) == 2
    assert "judge was scripted:judge.yaml and is scripted:script.yaml" in capsys.readouterr().err


def test_samples_and_ranking_are_settings_of_the_command(folder: Path) -> None:
    args = arguments(
        "--samples", "2", "--set", "ranking.pairs=all", "--set", "judging.min_mass=0.2"
    )
    assert main(args) == 0
    config = manifest(folder / "run")["config"]
    assert (config["samples"], config["ranking.pairs"], config["judging.min_mass"]) == (
        2,
        "all",
        0.2,
    )
    again = ["data", "generate", "prompts.txt", "--config", "run/config.yaml", "--out", "again"]
    assert main(again) == 0
    assert lines(folder / "again") == lines(folder / "run")


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (("--samples", "10"), "samples is 10 and must be at most 9"),
        (("--revisions", "0"), "one draft and no revision leave nothing to compare"),
        (("--set", "judging.min_mas=0.1"), "judging.min_mas"),
        (("--set", "judging.min_mass=2"), "judging.min_mass is 2 and must be at most 1"),
        (("--set", "ranking.pairs=best"), "ranking.pairs"),
        (("--judge", "nonsense"), "'nonsense' is no engine address"),
    ],
)
def test_bad_judge_settings_exit_2_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...], told: str
) -> None:
    assert main(arguments(*extra)) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_full_disk_stops_a_judged_run_which_goes_on_once_there_is_room(folder: Path) -> None:
    """No file may pass 40 kB: of 200 rows of about 900 bytes each, some 40 fit."""
    (folder / "script.yaml").write_text("delay_s: 0.02\n" + SCRIPT)
    (folder / "prompts.txt").write_text("".join(f"prompt {i}\n" for i in range(200)))
    assert main(arguments(out="whole")) == 0
    command = [sys.executable, "-m", "cai.cli.main", *arguments("--concurrency", "8")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )
    assert done.returncode == 2
    assert "File too large; what was written before is whole: make room" in done.stderr
    owed = check_as_resume_finds_it(folder / "run", 200)
    assert 0 < owed < 200
    assert main(arguments()) == 0
    check_run(folder / "run", 200)
    assert lines(folder / "run") == lines(folder / "whole")


def test_two_processes_on_one_judged_run_lose_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "script.yaml").write_text("delay_s: 0.1\n" + SCRIPT)
    args = arguments("--concurrency", "4")
    with started(*args) as process:
        assert main(args) == 1
        assert f"process {process.pid} is writing to this run" in capsys.readouterr().err
        assert main([*args, "--fresh"]) == 1
        process.communicate(timeout=30)
    assert process.returncode == 0
    check_run(folder / "run", 30)
    assert main(args) == 0
    assert "nothing was owed" in capsys.readouterr().out
