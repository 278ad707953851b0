"""No engine process outlives its owner, and no living owner loses one."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cai.engine import ownership
from cai.engine.ownership import Guardian, is_alive, marked_processes, own_mark, owned_children

SLEEP = [sys.executable, "-c", "import time; time.sleep(120)"]
ROOT = Path(__file__).parents[2]

# An owner that starts one child by fork and one by spawn, tells their pids, and goes on as told.
OWNER = """
    import os, subprocess, sys, time
    from cai.engine.ownership import Guardian, owned_children
    guardian = Guardian()
    with owned_children():
        forked = os.fork()
        if not forked:
            time.sleep(120)
            os._exit(0)
        spawned = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    print(forked, spawned.pid, guardian._process.pid, flush=True)
    {then}
"""


def start_owner(then: str) -> tuple[subprocess.Popen, list[int]]:
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER).format(then=then)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    return owner, [int(pid) for pid in owner.stdout.readline().split()]


def runs(pid: int) -> bool:
    return ownership._start_time(pid) != ""


def gone_within(pids: list[int], limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(runs, pids))


def finish(owner: subprocess.Popen, pids: list[int]) -> None:
    for pid in [owner.pid, *pids]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    owner.wait()
    assert owner.stdout is not None
    owner.stdout.close()


@pytest.fixture
def child():
    """A marked child of this process."""
    with owned_children():
        process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def test_a_killed_owner_takes_forked_and_spawned_children_with_it():
    """The forked one inherits the guardian's pipe: the pipe's end alone would not tell."""
    owner, pids = start_owner("time.sleep(120)")
    try:
        assert all(map(runs, pids))
        owner.kill()
        owner.wait()
        assert gone_within(pids, 10.0)
    finally:
        finish(owner, pids)


def test_an_owner_that_ends_without_closing_leaves_nothing_behind():
    owner, pids = start_owner("sys.exit(0)")
    try:
        assert gone_within(pids, 10.0)
    finally:
        finish(owner, pids)


def test_an_orderly_close_kills_nothing():
    owner, (forked, spawned, guardian) = start_owner("guardian.close(); time.sleep(1); os._exit(0)")
    try:
        assert gone_within([guardian], 5.0)
        owner.wait(10)
        time.sleep(0.5)
        assert runs(forked)
        assert runs(spawned)
    finally:
        finish(owner, [forked, spawned])


def test_closing_and_ending_at_once_kills_nothing():
    owner, (forked, spawned, guardian) = start_owner("guardian.close(); os._exit(0)")
    try:
        assert gone_within([guardian], 5.0)
        assert runs(forked)
        assert runs(spawned)
    finally:
        finish(owner, [forked, spawned])


def test_a_sweep_kills_the_orphans_of_dead_owners_only(child):
    """Their guardian was killed too, so nobody else would."""
    owner, (forked, spawned, guardian) = start_owner("time.sleep(120)")
    sibling, sibling_pids = start_owner("time.sleep(120)")
    try:
        os.kill(guardian, signal.SIGKILL)
        owner.kill()
        owner.wait()
        assert runs(forked)
        swept = ownership.sweep()
        assert {forked, spawned} <= set(swept)
        assert not {child.pid, *sibling_pids} & set(swept)
        assert gone_within([forked, spawned], 5.0)
        assert child.poll() is None
        assert all(map(runs, sibling_pids))
    finally:
        finish(owner, [forked, spawned, guardian])
        finish(sibling, sibling_pids)


def test_a_child_is_this_process_own_by_its_mark(child):
    assert child.pid in ownership.engine_pids()
    assert marked_processes()[child.pid] == own_mark()
    unmarked = subprocess.Popen(SLEEP)
    try:
        assert unmarked.pid not in marked_processes()
    finally:
        unmarked.kill()
        unmarked.wait()


def test_the_mark_is_gone_after_the_start_and_survives_a_nested_one():
    with owned_children():
        with owned_children():
            pass
        assert os.environ[ownership.MARK] == own_mark()
    assert ownership.MARK not in os.environ
    with pytest.raises(ValueError, match="x"), owned_children():
        raise ValueError("x")
    assert ownership.MARK not in os.environ


def test_a_reused_pid_is_another_owner():
    """The same pid with another start time: the owner is dead, whoever has its number now."""
    pid, started, namespace = own_mark().split(":")
    assert is_alive(own_mark())
    assert not is_alive(f"{pid}:{int(started) - 1}:{namespace}")
    assert not is_alive(f"{2**22 + 1}:{started}:{namespace}")


def test_an_owner_in_another_container_is_left_alone():
    """Its pid means nothing here, so a sweep cannot tell that it is dead."""
    pid, started, namespace = own_mark().split(":")
    assert is_alive(f"{pid}:{int(started) - 1}:{int(namespace) + 1}")


@pytest.mark.parametrize("mark", ["", ":", "x", "1", "1:", "1:2", "-1:2:3", "a:b:c", "1::3"])
def test_a_mark_that_is_none_has_no_living_owner(mark):
    assert not is_alive(mark)


def test_a_zombie_is_not_alive():
    process = subprocess.Popen([sys.executable, "-c", ""])
    mark = f"{process.pid}:{ownership._start_time(process.pid)}:{ownership._namespace()}"
    deadline = time.monotonic() + 10
    while is_alive(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(mark)
    process.wait()


def test_a_guardian_that_was_killed_does_not_keep_the_engine_from_closing():
    guardian = Guardian()
    guardian._process.kill()
    guardian._process.wait()
    guardian.close()
    guardian.close()
