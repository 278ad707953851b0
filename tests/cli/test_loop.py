"""`cai loop` at the terminal: what it prints, and how bad input and absent servers are told."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from cai.cli.main import main
from tests.loop.scripted import URL, Place, Server


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, Server(), monkeypatch)


def test_a_round_is_a_table_of_rates_before_and_after(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.loop() == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("round 1: loop-")
    assert "-r1-dpo is live, from sandbox; 100 pairs, " in out[0]
    assert out[1].split() == ["rate", "before", "after", "limit"]
    assert " ".join(out[2].split()) == (
        "harmful 62.0% (61.0% to 63.0%) of 400 0.3% (0.0% to 1.3%) of 400 2.0%"
    )
    config = next((place.folder / "var" / "loops").glob("*/config.yaml"))
    assert main(["loop", "--config", str(config), "--url", URL]) == 0
    assert "1 rounds are done already" in capsys.readouterr().err


def test_json_has_every_round(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.loop("--json", rounds=2) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["round"] for one in told["rounds"]] == [1, 2]
    first = told["rounds"][0]
    assert (first["outcome"], first["pairs"], first["after"]["harmful"]["n"]) == ("live", 100, 400)
    assert first["jobs"]["dpo"] == "job-5"
    assert told["url"] == URL


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--prompts", "none.txt"), "none.txt"),
        (("--prompts", "notes.md"), "notes.md"),
        (("--rounds", "0"), "rounds"),
        (("--set", "metod=dpo"), "unknown setting 'metod'"),
        (("--set", "method"), "write key=value"),
        (("--url", "ftp://x"), "url"),
        (("--config", "none.yaml"), "none.yaml"),
        (("-c", "harmless@2"), "named twice"),
    ],
)
def test_bad_input_is_one_line_and_asks_no_server(
    place: Place, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], told: str
) -> None:
    (place.folder / "notes.md").write_text("x\n")
    assert place.loop(*args) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert place.server.num_requests == 0


def test_without_a_server_it_is_told_at_once(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(number: int) -> None:
        raise httpx2.ConnectError("refused")

    place.server.before = refuse
    assert place.loop() == 1
    err = capsys.readouterr().err
    assert f"cai: {URL} cannot be reached" in err
    assert err.count("\n") == 1
    assert place.server.num_requests == 1


def test_a_server_of_another_kind_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.server._answer = lambda request: (200, {"id": "live"})  # type: ignore[method-assign]
    assert place.loop() == 1
    assert "is no server of this service" in capsys.readouterr().err


def test_a_policy_that_no_job_could_begin_from_is_told(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.server.live = "Qwen/Qwen3-8B"
    assert place.loop() == 2
    assert "'Qwen/Qwen3-8B', which no training job can begin from" in capsys.readouterr().err


def test_a_server_without_a_worker_is_told_and_the_job_waits_on(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.server.has_worker = False
    assert place.loop("--set", "worker_timeout_s=0.05") == 1
    assert "no worker is at work; start one with 'cai worker'" in capsys.readouterr().err
    place.server.has_worker = True
    assert place.loop() == 0
    assert place.server.kinds().count("dataset") == 1
