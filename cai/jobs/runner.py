"""Runs one command of ours as a child process that can be stopped whole, and reads what it says.

The child has its own session, dies with the worker (see `child.py`), and everything below it
carries the job's mark, by which leftovers are found. Blocking: for a thread that lives as long as
the child. Start from `run_child`. Linux.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final, Literal, NamedTuple

from cai.jobs.child import MARK, command_line
from cai.jobs.logs import JobLog
from cai.jobs.spec import Progress

GRACE_S: Final = 20.0
"""Seconds that a command has to put things in order after SIGTERM; then it is killed."""
MAX_OUTPUT_BYTES: Final = 4_000_000
"""Most that is read of what a command prints."""

_LOOK_EVERY_S = 0.25
_TELL_EVERY_S = 1.0
_MAX_LINE_BYTES = 65_536
_PROGRESS = re.compile(
    r"^(?P<what>\S+) (?P<done>[\d,]+)(?:/(?P<total>[\d,]+))?(?:  (?P<note>.*))?$"
)

Stop = Literal["cancelled", "stopping", "lost"]
"""Why a child is stopped: its job was cancelled, its worker ends, or has lost the job."""


class Ended(NamedTuple):
    """How a child ended. `code` is negative for a signal; `stop` says why it was stopped."""

    code: int
    stop: Stop | None
    printed: bytes


def run_child(
    job: str,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    *,
    log: JobLog,
    output: Path,
    should_stop: Callable[[], Stop | None],
    on_progress: Callable[[Progress], None],
    grace_s: float = GRACE_S,
) -> Ended:
    """Run the words after `cai` until they end or `should_stop` says why they are to.

    `output` is where the child prints to. Nothing that the job started is left afterwards.
    """
    kill_marked(job)  # what an earlier attempt left behind
    with output.open("wb") as printed:
        process = subprocess.Popen(
            command_line(argv),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.PIPE,
            env={**env, MARK: job},
            start_new_session=True,
        )
    assert process.stderr is not None, "it is a pipe"
    reader = threading.Thread(target=_read, args=(process.stderr, log, on_progress), daemon=True)
    reader.start()
    stop: Stop | None = None
    try:
        while process.poll() is None and stop is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_EVERY_S)
            stop = should_stop() if process.poll() is None else None
        if stop is not None:
            _terminate(process, 0.0 if stop == "lost" else grace_s)
    finally:
        if process.poll() is None:
            process.kill()
        kill_marked(job)
        process.wait()
        reader.join(timeout=5.0)  # it closes the pipe
    with output.open("rb") as printed:
        return Ended(process.returncode, stop, printed.read(MAX_OUTPUT_BYTES))


def kill_marked(job: str) -> list[int]:
    """SIGKILL every process of this machine that carries the job's mark; returns their ids."""
    killed = []
    wanted = f"{MARK}={job}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # it ended, or is another user's
            pid = int(entry.name)
            if pid != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
    return killed


def parse_progress(line: str) -> Progress | None:
    """Where a command says that it is, in a line like `runs/toy 120/400  3.1 rows/s`."""
    found = _PROGRESS.match(line)
    if found is None:
        return None
    total = found["total"]
    return Progress(
        stage="running",
        done=_whole(found["done"]),
        total=None if total is None else _whole(total),
        note=(found["note"] or "")[:200],
    )


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


def _terminate(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask the whole group to stop, and wait for the child as long as it may take."""
    if grace_s > 0:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)


def _read(stream: IO[bytes], log: JobLog, on_progress: Callable[[Progress], None]) -> None:
    """To the log line by line; progress at most once a second."""
    told_at = 0.0
    latest: Progress | None = None
    with stream:
        for line in iter(lambda: stream.readline(_MAX_LINE_BYTES), b""):
            with contextlib.suppress(OSError):  # a full disk must not block the child
                log.write(line if line.endswith(b"\n") else line + b"\n")
            found = parse_progress(line.decode("utf-8", "replace").rstrip())
            latest = found or latest
            if found is not None and time.monotonic() - told_at >= _TELL_EVERY_S:
                told_at, latest = time.monotonic(), None
                on_progress(found)
    if latest is not None:
        on_progress(latest)
