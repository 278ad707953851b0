"""The server's own worker: begun again when it dies, gone when the server goes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from cai.settings import Settings
from server import worker_child
from server.auth import Keyring
from server.worker_child import WorkerChild
from tests.server.helpers import until

# Tells what it was given, and waits.
STUB = """
import os, sys, time
told = ("CAI_HOME", "CAI_CONSTITUTIONS", "CAI_URL", "CAI_API_KEY")
with open(sys.argv[1], "a") as file:
    file.write(" ".join(os.environ.get(name, "-") for name in told) + chr(10))
time.sleep(60)
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "notes"
    command = [sys.executable, "-c", STUB, str(path)]
    monkeypatch.setattr(worker_child, "command_line", lambda _words: command)
    monkeypatch.setattr(worker_child, "_FIRST_PAUSE_S", 0.05)
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_worker_that_dies_is_begun_again_and_ends_with_the_server(
    notes: Path, tmp_path: Path
) -> None:
    child = WorkerChild(Settings(home=tmp_path), url="http://127.0.0.1:8", key="cai-key")
    await child.start()
    try:
        await until(lambda: len(lines(notes)) == 1)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(lines(notes)) == 2)
        assert child.num_starts == 2
        second = child.pid
        assert second not in (None, first)
    finally:
        await child.stop()
    assert child.pid is None
    assert second is not None
    assert is_gone(second)
    here = Path("constitutions").absolute()
    assert lines(notes) == [f"{tmp_path} {here} http://127.0.0.1:8 cai-key"] * 2


async def test_pauses_grow_while_it_dies_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_child, "command_line", lambda _words: [sys.executable, "-V"])
    monkeypatch.setattr(worker_child, "_FIRST_PAUSE_S", 0.1)
    child = WorkerChild(Settings(home=tmp_path))
    await child.start()
    await asyncio.sleep(0.9)  # with pauses of 0.1, 0.2, 0.4: three starts, four at most
    await child.stop()
    assert 2 <= child.num_starts <= 4


def test_its_key_opens_what_it_needs_and_is_in_no_file() -> None:
    ring = Keyring([])
    key = ring.admit("worker", ("infer", "admin"))
    found = ring.find(key)
    assert found is not None
    assert (found.name, found.scopes) == ("worker", ("infer", "admin"))
    assert ring.find(key + "x") is None
