"""The process of a job: tied to the life of who started it, then one of our own commands.

`python -m cai.jobs.child PARENT COMMAND…` asks the kernel for SIGKILL when its parent dies, so no
child outlives its worker, however that ends. The parent's starting thread must live as long as the
child. What runs below it carries the mark of the job in its environment. Linux.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

MARK = "_CAI_JOB"
"""Variable that every process of a job has in its environment, with the job's id."""

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def command_line(arguments: Sequence[str]) -> list[str]:
    """How this process starts `cai` with `arguments` as a child of its own."""
    return [sys.executable, "-m", "cai.jobs.child", str(os.getpid()), *arguments]


def tie_to_parent(parent: int) -> None:
    """Die when the parent dies; at once where it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(argv: Sequence[str]) -> int:
    """Tie this process to its parent and run the command; returns its exit code."""
    tie_to_parent(int(argv[0]))
    if argv[1] == "gate":
        from cai.jobs.gate import main as run
    else:
        from cai.registry import load_object

        run = load_object("cai.cli.main:main")  # a layer above: by name
    code: int = run(argv[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
