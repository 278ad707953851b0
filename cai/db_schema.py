"""Brings a database's schema up to date, by the steps in `cai/migrations/`.

All steps are one transaction: a schema is the old one or the new one, whatever is killed. It only
goes forward. Start from `migrate`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from cai.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cai.db import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"

_QUEUE = 0


def migrate(database: Database) -> None:
    """Bring the schema up to date. Raises DatabaseError for one that is newer than this program."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every step
    script = ScriptDirectory(str(MIGRATIONS))
    head = script.get_current_head()
    with database.read() as connection:
        if _revision(connection) == head:
            return
    with database.begin() as connection:
        database.queue_up(connection, _QUEUE)
        _check_known(database, script, _revision(connection))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _check_known(database: Database, script: ScriptDirectory, revision: str | None) -> None:
    try:
        if revision is not None:
            script.get_revision(revision)
    except CommandError as exc:
        raise DatabaseError(
            f"{database.shown}: its schema '{revision}' is newer than this program, which knows "
            f"'{script.get_current_head()}' as the last; upgrade the program, or name another "
            "database with CAI_DATABASE_URL"
        ) from exc
