"""The child of a job: its progress is read, it is stopped whole, and it dies with its worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cai.jobs import runner
from cai.jobs.logs import JobLog, last_line, log_path, previous, read_log
from cai.jobs.runner import Ended, Stop, kill_marked, parse_progress, run_child
from cai.jobs.spec import Progress
from tests.jobs.helpers import processes_of, wait_until

JOB = f"toy-{os.getpid()}"

# A child that ignores SIGTERM, with a child of its own in another session.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("begun", file=sys.stderr, flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Run]]:
    monkeypatch.setattr(runner, "command_line", lambda code: [sys.executable, "-c", code[0]])
    Run.folder = tmp_path
    yield Run
    kill_marked(JOB)


class Run:
    """One child of Python code."""

    folder: Path

    def __init__(self, code: str, **env: str) -> None:
        self.stop: Stop | None = None
        self.progress: list[Progress] = []
        self.path = log_path(self.folder, JOB)
        self._code = code
        self._env = {**os.environ, **env}

    def __call__(self, *, grace_s: float = 5.0) -> Ended:
        with JobLog(self.path, env=self._env) as log:
            return run_child(
                JOB,
                (self._code,),
                self._env,
                log=log,
                output=self.folder / "out",
                should_stop=lambda: self.stop,
                on_progress=self.progress.append,
                grace_s=grace_s,
            )

    def stopping(self, why: Stop, *, grace_s: float) -> tuple[Ended, float]:
        """How it ended, and the seconds that stopping it took, once it has begun."""
        ended: list[Ended] = []
        thread = threading.Thread(target=lambda: ended.append(self(grace_s=grace_s)))
        thread.start()
        wait_until(lambda: self.path.exists() and b"begun" in self.path.read_bytes())
        start, self.stop = time.monotonic(), why
        thread.join()
        return ended[0], time.monotonic() - start


def test_what_it_prints_and_says_is_kept_apart(run: type[Run]) -> None:
    child = run(
        "import sys; print('{}'); print('runs/toy 3/1,200  9 rows/s', file=sys.stderr); sys.exit(3)"
    )
    assert child() == Ended(3, None, b"{}\n")
    assert list(read_log(child.path)) == ["runs/toy 3/1,200  9 rows/s"]
    assert child.progress == [Progress(stage="running", done=3, total=1200, note="9 rows/s")]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("mine 1,000", (1000, None, "")),
        ("mine 7/10  loss 0.5", (7, 10, "loss 0.5")),
        ("worker is 5/6 done", None),
        ("warning: 3 rows", None),
        ("", None),
    ],
)
def test_only_lines_of_progress_count_as_such(
    line: str, found: tuple[int, int | None, str] | None
) -> None:
    progress = parse_progress(line)
    assert (progress and (progress.done, progress.total, progress.note)) == found


def test_a_stubborn_child_is_killed_with_all_that_it_started(run: type[Run]) -> None:
    ended, seconds = run(STUBBORN).stopping("cancelled", grace_s=0.5)
    assert (ended.code, ended.stop) == (-signal.SIGKILL, "cancelled")
    assert 0.4 < seconds < 3
    assert processes_of(JOB) == []


def test_a_child_that_stops_when_asked_is_not_killed(run: type[Run]) -> None:
    polite = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\n"
        "print('begun', file=sys.stderr, flush=True)\n"
        "time.sleep(60)"
    )
    ended, seconds = run(polite).stopping("stopping", grace_s=20)
    assert (ended.code, ended.stop) == (130, "stopping")
    assert seconds < 3


def test_a_lost_job_is_killed_at_once(run: type[Run]) -> None:
    ended, seconds = run(STUBBORN).stopping("lost", grace_s=20)
    assert (ended.code, ended.stop) == (-signal.SIGKILL, "lost")
    assert seconds < 2


def test_what_an_earlier_attempt_left_is_killed_first(run: type[Run]) -> None:
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={**os.environ, "_CAI_JOB": JOB},
        start_new_session=True,
    )
    wait_until(lambda: processes_of(JOB) == [left.pid])
    assert run("pass")().code == 0
    assert left.wait(timeout=5) == -signal.SIGKILL


def test_keys_do_not_reach_the_log(run: type[Run]) -> None:
    child = run(
        "import os, sys; print('the key', os.environ['CAI_API_KEY'], file=sys.stderr)",
        CAI_API_KEY="cai-sentinel-key",
    )
    child()
    assert last_line(child.path) == "the key [redacted]"


def test_the_log_keeps_the_newest(tmp_path: Path) -> None:
    path = log_path(tmp_path, JOB)
    with JobLog(path, env={}, max_bytes=1000) as log:
        for number in range(1000):
            log.write(b"line %03d\n" % number)
    assert path.stat().st_size <= 1000
    assert previous(path).stat().st_size <= 1000
    lines = list(read_log(path))
    assert lines[-1] == last_line(path) == "line 999"
    assert lines == [f"line {number:03d}" for number in range(1000 - len(lines), 1000)]


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """Its own parent here starts `cai worker --help` under our tie, in a loop that never ends."""
    code = (
        "import os, subprocess, sys, time\n"
        "from cai.jobs.child import tie_to_parent\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    tie_to_parent(parent)\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not Path(f"/proc/{child}").exists() or _is_dead(child), limit_s=2.0)


def _is_dead(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] in "ZX"
