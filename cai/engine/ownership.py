"""Ties engine processes to the process that owns them, so that none outlives its owner.

vLLM's engine core and workers survive a SIGKILL of the process that started them and keep their
memory. Every process started inside `owned_children` carries the owner's mark. A small guardian
process waits for the owner to die and then kills what carries that mark; a start of a new engine
sweeps marks whose owner is gone. Linux only: it reads /proc.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

MARK = "_CAI_ENGINE_OWNER"

_PROC = Path("/proc")
_LOOK_EVERY_S = 0.5
_lock = threading.Lock()
_descriptor = -1  # of the file whose name is the mark, while children are being started
_num_starting = 0


def own_mark() -> str:
    """This process as an owner: pid, start time and pid namespace, together never reused."""
    return f"{os.getpid()}:{_start_time(os.getpid())}:{_namespace()}"


@contextlib.contextmanager
def owned_children() -> Iterator[None]:
    """Processes started inside carry the mark of this process, however they are started.

    A forked child keeps the open descriptor of a file that is named by the mark; a spawned one
    finds it in its environment.
    """
    _begin_marking()
    try:
        yield
    finally:
        _end_marking()


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
    return kill(pid for pid, mark in marked_processes().items() if not is_alive(mark))


def is_alive(mark: str) -> bool:
    """Whether the owner with this mark still runs; one of another pid namespace counts as alive.

    A container's processes are seen from its host under other pids than they have for their owner.
    """
    pid, _, rest = mark.partition(":")
    started, _, namespace = rest.partition(":")
    if not (pid.isdigit() and started and namespace):
        return False
    return namespace != _namespace() or _start_time(int(pid)) == started


def kill(pids: Iterable[int]) -> list[int]:
    """SIGKILL each of `pids`; returns those that were there."""
    killed = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    if killed:
        logger.warning("killed engine processes left behind: %s", killed)
    return killed


class Guardian:
    """The process that outlives this one just long enough to kill its engine."""

    def __init__(self) -> None:
        read_end, self._write_end = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, own_mark()],
            stdin=read_end,
            stdout=subprocess.DEVNULL,  # a reader of the owner's output does not wait for it
            cwd="/",
            start_new_session=True,  # a signal to the owner's group does not reach it
        )
        os.close(read_end)

    def close(self) -> None:
        """Let it go without a kill: the engine was shut down in order."""
        if self._write_end < 0:
            return
        with contextlib.suppress(BrokenPipeError):  # somebody killed it
            os.write(self._write_end, b".")
        os.close(self._write_end)
        self._write_end = -1
        self._process.wait()


def guard(mark: str) -> None:
    """Body of the guardian: wait until the owner is dead, then kill what carries `mark`.

    The pipe's end alone would not tell: a forked engine process holds the other end open too.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while is_alive(mark):
        if _is_dismissed(_LOOK_EVERY_S):
            return
    if _is_dismissed(0.0):
        return  # the owner closed its engine in order and ended at once
    for _ in range(20):  # what was being started when the first were killed
        if not kill(pid for pid, owner in marked_processes().items() if owner == mark):
            return
        time.sleep(0.1)


def _is_dismissed(timeout_s: float) -> bool:
    readable, _, _ = select.select([0], [], [], timeout_s)
    if not readable:
        return False
    if os.read(0, 1):
        return True
    time.sleep(min(timeout_s, 0.02))  # the owner is going: its pipe is closed
    return False


def _begin_marking() -> None:
    global _descriptor, _num_starting
    with _lock:
        if _num_starting == 0:
            mark = own_mark()
            _descriptor = os.memfd_create(f"{MARK}={mark}")
            os.environ[MARK] = mark
        _num_starting += 1


def _end_marking() -> None:
    global _descriptor, _num_starting
    with _lock:
        _num_starting -= 1
        if _num_starting == 0:
            os.environ.pop(MARK, None)
            os.close(_descriptor)
            _descriptor = -1


def _mark_of(pid: int) -> str | None:
    folder = _PROC / str(pid)
    with contextlib.suppress(OSError):  # it ended, or belongs to another user
        for item in (folder / "environ").read_bytes().split(b"\0"):
            name, _, value = item.partition(b"=")
            if name == MARK.encode():
                return value.decode("ascii", "replace")
        for descriptor in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed since it was listed
                target = os.readlink(descriptor)
                if target.startswith(f"/memfd:{MARK}="):
                    return target.partition("=")[2].removesuffix(" (deleted)")
    return None


def _command_line(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat, in clock ticks since boot; empty for a dead process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _namespace() -> str:
    """The pid namespace's number; pids mean nothing outside their own."""
    try:
        return os.readlink(_PROC / "self" / "ns" / "pid").strip("pid:[]")
    except OSError:
        return "unknown"


if __name__ == "__main__":
    guard(sys.argv[1])
