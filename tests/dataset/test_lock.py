"""One writer per run directory, whatever happens to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cai.dataset.lock import RunLock, holder
from cai.errors import ConflictError


def test_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    lock = RunLock.take(tmp_path)
    with pytest.raises(ConflictError, match=f"process {os.getpid()} is writing"):
        RunLock.take(tmp_path)
    assert holder(tmp_path) == os.getpid()
    lock.release()
    assert holder(tmp_path) is None
    RunLock.take(tmp_path).release()


def test_nobody_holds_a_folder_without_a_lock(tmp_path: Path) -> None:
    assert holder(tmp_path) is None


def test_killed_writer_leaves_no_lock_even_with_a_forked_child_alive(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from cai.dataset.lock import RunLock
lock = RunLock.take(Path({str(tmp_path)!r}))
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as proc:
        assert proc.stdout is not None
        child = int(proc.stdout.readline())
        try:
            assert holder(tmp_path) == proc.pid
            proc.kill()
            proc.wait(10)
            assert Path(f"/proc/{child}").exists()
            assert holder(tmp_path) is None
        finally:
            os.kill(child, 9)
