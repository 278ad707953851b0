"""One writer per run directory: an advisory lock that the kernel drops when its holder dies.

Start from `RunLock.take(folder)`; `holder(folder)` asks who writes without taking the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from pathlib import Path

from cai.dataset.records import LOCK
from cai.errors import ConflictError, DataError

_TRIES = 4  # `holder` takes a shared lock for an instant: one refusal proves nothing
_PAUSE_S = 0.05

_held: weakref.WeakSet[RunLock]


class RunLock:
    """Holds the right to write to a run directory until `release`, or until the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held.add(self)

    @classmethod
    def take(cls, folder: Path) -> RunLock:
        """Raises ConflictError, naming the process, when another one writes there."""
        path = folder / LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise DataError(f"{path}: cannot be written: {exc.strerror}") from exc
        try:
            _acquire(descriptor, path)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let others write. Repeated calls do nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def holder(folder: Path) -> int | None:
    """The id of the process that writes to the run now; None when no process does."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(descriptor)
    finally:
        os.close(descriptor)
    return None


def _acquire(descriptor: int, path: Path) -> None:
    for attempt in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if attempt < _TRIES - 1:
                time.sleep(_PAUSE_S)
        except OSError as exc:
            raise DataError(f"{path}: this file system has no locks: {exc.strerror}") from exc
    raise ConflictError(
        f"{path.parent}: process {_read_pid(descriptor)} is writing to this run; wait for it, "
        "stop it, or give another --out"
    )


def _read_pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _drop_in_child() -> None:
    for lock in list(_held):
        lock.release()


# A child made by fork alone shares the lock; it must not keep it beyond its parent's death.
_held = weakref.WeakSet()
os.register_at_fork(after_in_child=_drop_in_child)
