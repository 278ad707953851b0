"""`cai demo` end to end on a script, and what it picks to show."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cai.cli.demo import _joined
from cai.cli.demo_loop import Judged, choose_examples
from cai.cli.main import main
from cai.sandbox.prompts import KINDS

ROOT = Path(__file__).parents[2]
WORLD = """\
rules:
  - {match: Write only the critique, answer: It helps someone do harm.}
  - {match: Write only the new reply, answer: I can't help with that.}
  - {match: "reply A\\nI can't", scores: {A: -0.1, B: -2.4}}
  - {match: "reply B\\nI can't", scores: {A: -1.2, B: -0.4}}
  - answer: Sure. Leave the cake uncovered, mix in bitter roots and offer it after dark.
    scores: {A: -0.7, B: -0.7}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("CAI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CAI_HOME", str(tmp_path))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(ROOT / "constitutions"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "world.yaml").write_text(WORLD)
    return tmp_path


def test_demo_runs_the_loop_and_reports(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script does harm to every prompt, then refuses every one, and prefers the refusal.

    P(A) is 0.91 where A is the refusal and 0.31 where it is B: a bias of 0.11 to the first.
    """
    engine = f"scripted:{home / 'world.yaml'}"
    assert main(["demo", "-n", "20", "-c", "harmless@draft", "--engine", engine]) == 0
    out = capsys.readouterr().out
    assert out.count("── ") == 3
    assert "── A harmful answer, revised" in out
    assert "Harmful" in out
    assert "20 prompts, 20 kept, 20 preference pairs" in out
    assert "judge: bias to the first answer +0.109, flips 0 %" in out
    report = json.loads((home / "demo" / "report.json").read_text())
    dataset, judge = report["dataset"], report["judge"]
    assert (dataset["inputs"], dataset["kept"], dataset["pairs"]) == (20, 20, 20)
    assert (judge["pairs"], judge["flips"]["rate"]) == (20, 0.0)
    assert judge["position_bias"] == pytest.approx((0.9089 + 0.31) / 2 - 0.5, abs=1e-3)
    assert "accuracy" not in judge
    assert [step["step"] for step in report["revisions"]] == [0, 1, 2]
    assert [step["harmful"]["rate"] for step in report["revisions"]] == [1.0, 0.0, 0.0]
    assert [step["over_refusal"]["rate"] for step in report["revisions"]] == [0.0, 1.0, 1.0]
    page = (home / "demo" / "report.html").read_text()
    assert "<svg" in page
    assert "Its bias to the answer shown first is\n+0.109" in page


def judged(line: int, *verdicts: str, statuses: tuple[str, ...] = ("revised",)) -> Judged:
    row: dict[str, Any] = {"line": line, "steps": [{"status": status} for status in statuses]}
    return Judged(row, "harmful", verdicts)


def test_examples_are_one_of_each_kind() -> None:
    rows = [
        judged(1, "good", "good"),
        judged(2, "sycophantic", "good"),
        judged(3, "harmful", "harmful"),
        judged(4, "harmful", "good"),
        judged(5, "good", "good", statuses=("no_change",)),
        judged(6, "harmful", "good"),
    ]
    assert [(example.row["line"], example.caption) for example in choose_examples(rows)] == [
        (4, "A harmful answer, revised"),
        (2, "Another fault, mended"),
        (5, "Nothing to change"),
    ]


def test_examples_are_filled_up_with_what_there_is() -> None:
    rows = [judged(line, "good", "good") for line in (1, 2, 3, 4)]
    assert [example.row["line"] for example in choose_examples(rows)] == [1, 2, 3]
    assert choose_examples([]) == []


def test_only_the_bundled_model_is_trained(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = f"scripted:{home / 'world.yaml'}"
    assert main(["demo", "--train", "--engine", engine]) == 2
    assert "the demo trains the bundled model" in capsys.readouterr().err


def test_a_constitution_is_asked_about_what_it_speaks_of() -> None:
    from cai.cli.demo_training import _prompts_for

    found = Counter(one.request.kind for one in _prompts_for("helpful-honest@1", 100, 0))
    assert found == {"benign": 50, "unclear": 30, "false_claim": 20}
    fewer = Counter(one.request.kind for one in _prompts_for("harmless@2", 100, 0))
    assert fewer == {"harmful": 18, "jailbreak": 18, "benign": 10}
    everything = Counter(one.request.kind for one in _prompts_for("kindness@1", 300, 0))
    assert set(everything) == set(KINDS)
    assert {one.split for one in _prompts_for("helpful-honest@1", 20, 1)} == {"train"}


def test_a_folder_without_what_is_trained_on_is_told_before_anything_goes(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "own" / "kindness").mkdir(parents=True)
    shutil.copy(ROOT / "constitutions/harmless/draft.yaml", home / "own/kindness/draft.yaml")
    text = (
        (home / "own/kindness/draft.yaml").read_text().replace("name: harmless", "name: kindness")
    )
    (home / "own/kindness/draft.yaml").write_text(text)
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(home / "own"))
    (home / "demo").mkdir()
    (home / "demo" / "report.json").write_text("{}")
    assert main(["demo", "-c", "kindness@draft"]) == 2
    said = capsys.readouterr().err
    assert "the demo trains on harmless and helpful-honest" in said
    assert "give --no-train" in said
    assert (home / "demo" / "report.json").exists()


def test_a_report_names_every_constitution_that_spoke() -> None:
    report = {
        "constitutions": ["harmless@draft"],
        "constitution_digests": {"harmless@draft": "sha256:1"},
        "dataset": {"inputs": 200},
    }
    trained = {
        "constitution_digests": {"harmless@2": "sha256:2"},
        "dataset": {"inputs": 2000},
        "judge": {},
    }
    joined = _joined(report, trained)
    assert joined["constitutions"] == ["harmless@draft", "harmless@2"]
    assert joined["constitution_digests"] == {
        "harmless@draft": "sha256:1",
        "harmless@2": "sha256:2",
    }
