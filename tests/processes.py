"""Several processes at one database, forked from a fresh interpreter that holds no thread yet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_script(module: str, *args: object, timeout_s: float = 60.0) -> list[str]:
    """Lines that `python -m module args` prints; fails with what it says on stderr."""
    command = [sys.executable, "-W", "error", "-m", module, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def tell(value: object) -> None:
    """A line of a script's answer."""
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()  # before a fork, which would tell it again


def forked(*works: Callable[[], None]) -> list[int]:
    """Run each in a process of its own, all from the same moment on; their wait statuses."""
    start = time.time() + 0.05
    pids = [_fork(work, start) for work in works]
    return [os.waitpid(pid, 0)[1] for pid in pids]


def killed_at(statement: int) -> Any:
    """For `sqlalchemy.event`: SIGKILL this process before it runs its nth statement, from 0."""
    seen = 0

    def listen(*_: object) -> None:
        nonlocal seen
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    return listen


def _fork(work: Callable[[], None], start: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        time.sleep(max(0.0, start - time.time()))
        work()
        status = 0
    finally:
        os._exit(status)
