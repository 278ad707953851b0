"""A PostgreSQL server of the tests' own, where its programs are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NOBODY = 65534


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of an empty database on a socket in `folder`; the server ends with the block."""
    programs = [shutil.which(name) for name in ("initdb", "pg_ctl")]
    if None in programs:
        pytest.skip("PostgreSQL is not installed (initdb, pg_ctl)")
    initdb, control = programs
    data = folder / "data"
    # The server refuses to run as root.
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        who = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        os.chown(folder, _NOBODY, _NOBODY)
        for above in (folder, *folder.parents[:2]):
            above.chmod(above.stat().st_mode | 0o011)
    _run([initdb, "-D", data, "-A", "trust", "-U", "cai", "-N", "-E", "UTF8"], **who)
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    _run([control, "-D", data, "-l", folder / "log", "-o", options, "-w", "start"], **who)
    try:
        yield f"postgresql://cai@/postgres?host={folder}"
    finally:
        _run([control, "-D", data, "-m", "immediate", "-w", "stop"], **who)


def _run(command: list[Any], **who: Any) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.DEVNULL,  # a pipe would stay open in the server
        stderr=subprocess.DEVNULL,
        timeout=60,
        cwd="/",
        **who,
    )
    assert done.returncode == 0, command
