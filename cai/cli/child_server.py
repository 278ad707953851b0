"""A `cai serve` of our own, as a child process: started, waited for, and gone in the end.

Start from `child_server(...)`, a context manager that gives the server's address.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from cai.errors import EngineDeadError, EngineTimeoutError

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.2
_STOP_S = 20.0


@contextlib.contextmanager
def child_server(
    engine: str, *, log: Path, options: Sequence[str] = (), start_timeout_s: float = 180.0
) -> Iterator[str]:
    """The address of a server on a free port of this machine, once it answers.

    What it says on stderr goes to `log`. However the block ends, the server is stopped.
    Raises EngineDeadError or EngineTimeoutError, with the last line of the log.
    """
    command = [sys.executable, "-m", "cai.cli.main", "serve", "--engine", engine]
    command += ["--port", "0", "--json", *(f"--engine-arg={option}" for option in options)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, preexec_fn=_die_with_parent
        )
        try:
            deadline = time.monotonic() + start_timeout_s
            address = _read_address(process, log)
            _wait_until_ready(process, address, deadline, log)
            yield address
        finally:
            _stop(process)


def _die_with_parent() -> None:
    """Runs in the child: a parent that is killed takes the server with it, where Linux helps."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _read_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The first thing that the server prints is one JSON object with its address."""
    assert process.stdout is not None, "stdout is a pipe"
    text = b""
    while line := process.stdout.readline():
        text += line
        with contextlib.suppress(ValueError):
            return str(json.loads(text)["url"])
    raise _dead(process, log)


def _wait_until_ready(
    process: subprocess.Popen[bytes], address: str, deadline: float, log: Path
) -> None:
    while not _is_ready(address):
        if process.poll() is not None:
            raise _dead(process, log)
        if time.monotonic() > deadline:
            raise EngineTimeoutError(
                f"the server was not ready within its start limit; {_last_line(log)} ({log})"
            )
        time.sleep(_POLL_S)


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=10) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _dead(process: subprocess.Popen[bytes], log: Path) -> EngineDeadError:
    code = process.wait()
    return EngineDeadError(f"the server ended with code {code}: {_last_line(log)} ({log})")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
