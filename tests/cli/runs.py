"""Runs of `cai data generate` on a script: the files they need, and processes to be stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONSTITUTION = """\
name: t
version: draft
title: Test
composition: sample
principles:
  - {id: one, critique: Find one fault., revision: Rewrite it once., compare: "Which is best?"}
  - {id: two, critique: Find two faults., revision: Rewrite it twice., compare: "Which is kind?"}
  - {id: few, critique: Look for faults., revision: Rewrite it now., weight: 0.05}
"""

# Prompts that end in 7 get a tie, those that end in 3 the draft; else the revision is preferred,
# with a bias to the one shown first. One critique in twenty or so finds nothing.
SCRIPT = """\
rules:
  - {match: ^Find, answer: It is too long.}
  - {match: ^Look, answer: No change needed.}
  - {match: ^Rewrite, answer: A short reply.}
  - {match: silence, answer: ""}
  - {match: '7\\n#\\w+ reply A', scores: {A: -0.69, B: -0.69}}
  - {match: '3\\n#\\w+ reply A\\nA long', scores: {A: -0.2, B: -1.9}}
  - {match: '3\\n#\\w+ reply A', scores: {A: -1.1, B: -0.5}}
  - {match: 'reply A\\nA short', scores: {A: -0.1, B: -2.4}}
  - {answer: A long reply., scores: {A: -1.2, B: -0.4}}
"""


def make_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A constitution, a script and thirty prompts, and the working directory there."""
    (folder / "constitutions" / "t").mkdir(parents=True)
    (folder / "constitutions" / "t" / "draft.yaml").write_text(CONSTITUTION)
    (folder / "script.yaml").write_text(SCRIPT)
    (folder / "prompts.txt").write_text("".join(f"prompt {i}\n" for i in range(30)))
    for name in list(os.environ):
        if name.startswith("CAI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    return folder


def arguments(
    *extra: str, out: str = "run", prompts: str = "prompts.txt", judge: str | None = None
) -> list[str]:
    """The command line of a run on the script; `extra` overrides its engine and constitution."""
    engine = () if "--engine" in extra else ("--engine", "scripted:script.yaml")
    base = ["data", "generate", prompts, "--out", out]
    base += [] if judge is None else ["--judge", judge]
    return [*base, *engine, *(() if "-c" in extra else ("-c", "t@draft")), *extra]


@contextmanager
def started(*args: str) -> Iterator[subprocess.Popen[str]]:
    """The command in its own process, seen to work on the run; killed in the end."""
    command = [sys.executable, "-m", "cai.cli.main", *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_session(Path(args[args.index("--out") + 1]), process)
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_session(out: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1500):
        manifest = out / "manifest.json"
        if manifest.exists():
            sessions = json.loads(manifest.read_text())["sessions"]
            if sessions[-1]["pid"] == process.pid:
                return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the run did not begin within 30 s")
