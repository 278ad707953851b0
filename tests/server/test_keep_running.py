"""`deploy/keep-running.sh`: it starts a command again, and ends whenever it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import ROOT

SCRIPT = ROOT / "deploy" / "keep-running.sh"


def running(folder: Path, command: str) -> subprocess.Popen[bytes]:
    """The script on `command`, which writes a line to `starts` first."""
    return subprocess.Popen(
        [str(SCRIPT), "/bin/sh", "-c", f"echo x >> starts; {command}"],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def num_starts(folder: Path) -> int:
    file = folder / "starts"
    return len(file.read_text().split()) if file.exists() else 0


def wait_for_start(folder: Path, number: int = 1) -> None:
    until = time.monotonic() + 20
    while num_starts(folder) < number:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_before_the_next_start_it_starts_nothing_more(
    tmp_path: Path, how: signal.Signals
) -> None:
    process = running(tmp_path, "exit 1")
    wait_for_start(tmp_path)
    time.sleep(0.3)  # it waits a second now
    process.send_signal(how)
    began = time.monotonic()
    assert process.wait(5) == 0
    assert time.monotonic() - began < 0.6
    time.sleep(1.0)
    assert num_starts(tmp_path) == 1


def test_told_to_end_it_passes_that_on_and_ends_as_the_command_does(tmp_path: Path) -> None:
    process = running(tmp_path, "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    wait_for_start(tmp_path)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 7


def test_a_command_that_dies_is_started_again_and_one_that_ends_well_is_not(
    tmp_path: Path,
) -> None:
    process = running(tmp_path, "[ -e again ] && exit 0; touch again; kill -9 $$")
    assert process.wait(10) == 0
    assert num_starts(tmp_path) == 2


def test_the_script_can_be_run() -> None:
    assert os.access(SCRIPT, os.X_OK)
