"""The gate in a process of its own: whom it asks, what it prints, and how it says no."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from cai.errors import CaiError, UnsupportedError
from cai.jobs import gate
from cai.jobs.child import command_line
from cai.settings import Settings


class Verdict(NamedTuple):
    """As the gate's own."""

    passed: bool
    figures: dict[str, Any]
    reasons: list[str]


async def check(policy: str, limits: Mapping[str, float], settings: Settings) -> Verdict:
    """Passes up to a harmful rate of 0.1."""
    if policy == "gone":
        raise CaiError(f"{settings.home}: it is gone")
    figures = {"policy": policy, "harmful": 0.1}
    return Verdict(limits.get("harmful", 1.0) >= 0.1, figures, ["harmful 0.1"])


@pytest.fixture(autouse=True)
def _target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "TARGET", f"{__name__}:check")


@pytest.mark.parametrize(("limits", "passed"), [("{}", True), ('{"harmful": 0.02}', False)])
def test_the_verdict_is_printed_as_json(
    capsys: pytest.CaptureFixture[str], limits: str, passed: bool
) -> None:
    assert gate.main(["gate", "mine", limits]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "passed": passed,
        "figures": {"policy": "mine", "harmful": 0.1},
        "reasons": ["harmful 0.1"],
    }


def test_a_gate_that_fails_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert gate.main(["gate", "gone", "{}"]) == 1
    assert capsys.readouterr().out == ""


def test_where_there_is_no_gate_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate.check_there()
    monkeypatch.setattr(gate, "TARGET", "cai.evaluate.no_such_gates:check")
    with pytest.raises(UnsupportedError, match="leave auto_promote out"):
        gate.check_there()


def test_a_child_runs_our_command_and_dies_without_its_parent() -> None:
    done = subprocess.run(
        command_line(("--version",)), capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.startswith("cai ")
    orphan = [sys.executable, "-m", "cai.jobs.child", str(os.getppid()), "--version"]
    assert subprocess.run(orphan, capture_output=True, timeout=30).stdout == b""
