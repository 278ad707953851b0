"""A script: processes promote policies at once, and one is killed at each statement of doing so.

Prints the most live policies that were ever seen, how many processes failed, and the transitions to
live and from live; then for each kill the states before and after it.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, event

from cai.errors import ConflictError
from cai.policy.registry import PolicyRegistry
from tests.policy.registering import opened, register
from tests.processes import forked, killed_at, tell

NAMES = ("first", "second", "third", "fourth")
SECONDS = 1.5
NUM_STATEMENTS = 10


def main(home: Path) -> None:
    """Run with a home of its own."""
    using(home, lambda registry: [register(registry, home, name) for name in NAMES])
    works = [lambda own=own: using(home, promoting(*own)) for own in (NAMES[:2], NAMES[2:])]  # type: ignore[misc]
    statuses = forked(*works, lambda: watch(home))
    tell(sum(status != 0 for status in statuses))
    tell(count(home, "to_state = 'live' AND from_state = 'verified'"))
    tell(count(home, "from_state = 'live' AND to_state = 'retired'"))
    for statement in range(NUM_STATEMENTS):
        before = states(home)
        forked(lambda at=statement: using(home, dying(at)))  # type: ignore[misc]
        tell(f"{' '.join(before)} -> {' '.join(states(home))}")


def using(home: Path, work: Callable[[PolicyRegistry], object]) -> None:
    with opened(home) as database:
        work(PolicyRegistry(database, home))


def promoting(*names: str) -> Callable[[PolicyRegistry], None]:
    """Promote these in turn; that another process did so in between is no failure."""

    def work(registry: PolicyRegistry) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for name in names:
                registry.verified(name, {}, "test")
                registry.make_live(name, "in turn", {}, "test")

    return work


def dying(statement: int) -> Callable[[PolicyRegistry], None]:
    """Promote one that is not live, and be killed before a statement of that."""

    def work(registry: PolicyRegistry) -> None:
        (name,) = [one.id for one in registry.list().records if one.state != "live"][:1]
        registry.verified(name, {}, "test")
        event.listen(Engine, "before_cursor_execute", killed_at(statement))
        registry.make_live(name, "in vain", {}, "test")

    return work


def watch(home: Path) -> None:
    """Fail when more than one policy is live at any moment."""
    connection = sqlite3.connect(home / "cai.db")
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        query = "SELECT count(*) FROM policies WHERE state = 'live'"
        assert connection.execute(query).fetchone()[0] <= 1
        time.sleep(0.002)


def states(home: Path) -> list[str]:
    connection = sqlite3.connect(home / "cai.db")
    found = connection.execute("SELECT state FROM policies ORDER BY id").fetchall()
    connection.close()
    return sorted(state for (state,) in found)


def count(home: Path, where: str) -> int:
    connection = sqlite3.connect(home / "cai.db")
    (found,) = connection.execute(f"SELECT count(*) FROM policy_events WHERE {where}").fetchone()
    connection.close()
    return int(found)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except ConflictError as exc:
        sys.exit(str(exc))
