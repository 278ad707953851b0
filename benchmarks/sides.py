"""Two sides of a comparison as processes that take turns.

Each side is a child process that reads one JSON command a line and answers with one JSON line.
While one works, the other is stopped with SIGSTOP, engine processes and all, so that neither
takes the other's cores. Sides alternate; the median of the ratios counts, its spread is shown.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple


class Ratio(NamedTuple):
    """Figures of two sides measured in turns; `median` is of the pairs' ratios."""

    median: float
    low: float
    high: float
    first: float
    second: float
    pairs: int

    def line(self, what: str, unit: str, *, target: float) -> str:
        """One line for a person."""
        mark = "ok" if self.median >= target else "BELOW"
        return (
            f"{what}: {self.median:.3f} (spread {self.low:.3f} to {self.high:.3f}, {self.pairs} "
            f"pairs; {self.first:.1f} against {self.second:.1f} {unit}; target {target}) {mark}"
        )


class Side:
    """A child process that measures on command."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the side
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        self.ask()  # its first line says that it is ready

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command (none: wait for the ready line) and read the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if command:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        self._log.seek(0)
        raise SystemExit(self._log.read().decode(errors="replace")[-4000:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the side and all that it started."""
        for pid in _session(self._process.pid):
            os.kill(pid, number)

    def close(self) -> None:
        """End it with everything it started."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def sides(*started: Side) -> Iterator[tuple[Side, ...]]:
    """Close all sides in the end, whatever happens."""
    try:
        yield started
    finally:
        for side in started:
            side.close()


def alternate(first: Side, second: Side, *, key: str, rounds: int, **command: Any) -> Ratio:
    """Measure in turns, the order swapped each round, after one warm-up of each."""
    figures: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        order = (first, second) if number % 2 else (second, first)
        measured = {side: _alone(side, order, key, command) for side in order}
        if number:
            figures.append((measured[first], measured[second]))
            print(f"  {measured[first]:.1f} against {measured[second]:.1f}", flush=True)
    ratios = sorted(a / b for a, b in figures)
    return Ratio(
        statistics.median(ratios),
        ratios[0],
        ratios[-1],
        statistics.median(a for a, _ in figures),
        statistics.median(b for _, b in figures),
        rounds,
    )


def serve_commands(handle: Any) -> None:
    """A side's main loop: a ready line, then an answer for each command."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(handle(json.loads(line))), flush=True)


def _alone(side: Side, all_sides: Sequence[Side], key: str, command: dict[str, Any]) -> float:
    others = [other for other in all_sides if other is not side]
    for other in others:
        other.signal(signal.SIGSTOP)
    side.signal(signal.SIGCONT)
    try:
        return float(side.ask(**command)[key])
    finally:
        for other in others:
            other.signal(signal.SIGCONT)


def _session(leader: int) -> list[int]:
    """Pids of every process in the leader's session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                found.append(int(entry.name))
    return found
