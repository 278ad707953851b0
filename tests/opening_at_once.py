"""A script: several processes open one new database at once, and some are killed on the way.

Prints how many processes failed, then for each statement at which one was killed the tables that
it left, and at last the tables that the next one made.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from sqlalchemy import Engine, event

from cai.db import open_database
from cai.settings import Settings
from tests.processes import forked, killed_at, tell


def main(root: Path) -> None:
    """Run in a folder of its own."""
    statuses = forked(*[lambda: _open(root / "shared")] * 6)
    tell(sum(status != 0 for status in statuses))
    for statement in range(4, 28, 4):
        forked(lambda at=statement: _open_and_die(root / "killed", at))  # type: ignore[misc]
        tell(_tables(root / "killed"))
    _open(root / "killed")
    tell(_tables(root / "killed"))


def _open(home: Path) -> None:
    open_database(Settings(home=home)).close()


def _open_and_die(home: Path, statement: int) -> None:
    event.listen(Engine, "before_cursor_execute", killed_at(statement))
    _open(home)


def _tables(home: Path) -> int:
    connection = sqlite3.connect(home / "cai.db")
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table'"
    (number,) = connection.execute(query).fetchone()
    connection.close()
    return int(number)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
