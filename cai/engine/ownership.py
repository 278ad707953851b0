"""Ties engine processes to the process that owns them, so that none outlives its owner.

vLLM's engine core and workers survive a SIGKILL of the process that started them and keep their
memory. Every process started inside `owned_children` carries the owner's mark in its environment.
A small guardian process waits for the owner to die and then kills what carries that mark; a start
of a new engine sweeps marks whose owner is gone. Linux only: it reads /proc.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

MARK = "_CAI_ENGINE_OWNER"
_PROC = Path("/proc")


def own_mark() -> str:
    """This process as an owner: its pid and start time, which together are never reused."""
    return f"{os.getpid()}:{_start_time(os.getpid())}"


@contextlib.contextmanager
def owned_children() -> Iterator[None]:
    """Processes started inside carry the mark of this process, however they are started.

    A forked child keeps the open descriptor of a file that is named by the mark; a spawned one
    finds it in its environment. Not for use from two threads at once.
    """
    mark = own_mark()
    descriptor = os.memfd_create(f"{MARK}={mark}")
    os.environ[MARK] = mark
    try:
        yield
    finally:
        os.environ.pop(MARK, None)
        os.close(descriptor)


def marked_processes() -> dict[int, str]:
    """Pids of engine processes on this machine, each with its owner's mark."""
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    marks = ((pid, _mark_of(pid)) for pid in pids if pid != os.getpid())
    return {pid: mark for pid, mark in marks if mark is not None}


def engine_pids() -> list[int]:
    """Engine processes that this process owns, without multiprocessing's own helper."""
    mine = own_mark()
    return sorted(
        pid
        for pid, mark in marked_processes().items()
        if mark == mine and b"resource_tracker" not in _command_line(pid)
    )


def sweep() -> list[int]:
    """Kill engine processes whose owner is gone; returns their pids."""
    return _kill(pid for pid, mark in marked_processes().items() if not is_alive(mark))


def is_alive(mark: str) -> bool:
    """Whether the owner with this mark still runs."""
    pid, _, started = mark.partition(":")
    return bool(started) and pid.isdigit() and _start_time(int(pid)) == started


class Guardian:
    """The process that outlives this one just long enough to kill its engine."""

    def __init__(self) -> None:
        read_end, self._write_end = os.pipe()
        os.set_inheritable(self._write_end, False)
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, own_mark()],
            stdin=read_end,
            start_new_session=True,  # a signal to the owner's group does not reach it
        )
        os.close(read_end)

    def close(self) -> None:
        """Let it go without a kill: the engine was shut down in order."""
        if self._write_end >= 0:
            os.write(self._write_end, b".")
            os.close(self._write_end)
            self._write_end = -1
            self._process.wait()


def guard(mark: str) -> None:
    """Body of the guardian: wait for the pipe's end, then kill what carries `mark`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.read(0, 1):
        return  # the owner closed its engine in order
    _kill(pid for pid, owner in marked_processes().items() if owner == mark)


def _kill(pids: Iterable[int]) -> list[int]:
    killed = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    if killed:
        logger.warning("killed engine processes left behind: %s", killed)
    return killed


def _mark_of(pid: int) -> str | None:
    folder = _PROC / str(pid)
    try:
        for item in (folder / "environ").read_bytes().split(b"\0"):
            name, _, value = item.partition(b"=")
            if name == MARK.encode():
                return value.decode("ascii", "replace")
        for descriptor in (folder / "fd").iterdir():
            target = os.readlink(descriptor)
            if target.startswith(f"/memfd:{MARK}="):
                return target.partition("=")[2].removesuffix(" (deleted)")
    except OSError:
        pass  # it ended, or belongs to another user
    return None


def _command_line(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat, in clock ticks since boot; empty for a dead process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


if __name__ == "__main__":
    guard(sys.argv[1])
