"""The database: whole transactions, one schema whoever opens it first, and errors of one line."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import func, insert, select

from cai import db
from cai.db import Database, database_url, open_database
from cai.db_schema import MIGRATIONS
from cai.errors import ConfigError, DatabaseError
from cai.settings import Settings
from cai.tables import METADATA, traffic
from tests.postgres import postgres
from tests.processes import run_script

LINE = {"at": "2026-01-01", "actor": "me", "split": {"a": 10}}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database(Settings(home=tmp_path)) as database:
        yield database


def num_lines(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(traffic)) or 0


def write(database: Database, *statements: str) -> None:
    """All of them in one transaction, which then fails."""
    with database.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        raise RuntimeError


def add_line(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(insert(traffic).values(LINE))


def test_it_is_made_below_home_private_and_opened_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "deep" / "home")
    with open_database(settings) as database:
        add_line(database)
    path = tmp_path / "deep" / "home" / "cai.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_database(settings) as database:
        assert num_lines(database) == 1
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_the_steps_make_exactly_the_tables_that_the_code_knows(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_block_that_raises_leaves_nothing_not_even_a_table(database: Database) -> None:
    with pytest.raises(RuntimeError):
        write(database, "INSERT INTO traffic SELECT 1, 'now', 'me', '{}'", "CREATE TABLE more (a)")
    assert num_lines(database) == 0
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name = 'more'")
        assert found.all() == []


def test_a_reader_sees_one_moment_and_waits_for_no_writer(database: Database) -> None:
    with database.begin() as writer:
        writer.execute(insert(traffic).values(LINE))
        assert num_lines(database) == 0
    with database.read() as reader:
        query = select(func.count()).select_from(traffic)
        assert reader.scalar(query) == 1
        add_line(database)
        assert reader.scalar(query) == 1
    assert num_lines(database) == 2


def test_a_writer_that_waits_too_long_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.05)
    with (
        open_database(Settings(home=tmp_path)) as database,
        database.begin(),
        pytest.raises(DatabaseError, match=r"cai\.db: .*locked; another process has held it"),
    ):
        add_line(database)


def test_many_at_once_make_one_schema_and_a_kill_leaves_the_old_one(tmp_path: Path) -> None:
    """Killed before statement 4, 8, … of the steps: no table is there, and the next makes all."""
    failed, *killed, last = map(int, run_script("tests.opening_at_once", tmp_path))
    assert failed == 0
    assert set(killed) == {0}
    assert last == len(METADATA.tables) + 1


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with open_database(settings) as database, database.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match=r"'9999' is newer than .*upgrade the program"):
        open_database(settings)
    with Database(database_url(settings)) as database, database.read() as connection:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").all()
        assert found == [("9999",)]


def test_the_schema_does_not_go_back(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(NotImplementedError):
            command.downgrade(config, "base")
    add_line(database)
    assert num_lines(database) == 1


def test_a_full_disk_is_one_line_and_changes_nothing(database: Database) -> None:
    """SQLite's own error for a full disk, brought about by the most pages that it may use."""
    add_line(database)
    fill = "INSERT INTO traffic SELECT 2, 'now', 'me', 'x' || hex(zeroblob(1000000))"
    with pytest.raises(DatabaseError, match=r"disk is full; free some space and try again$"):
        write(database, "DELETE FROM traffic", "PRAGMA max_page_count = 1", fill)
    assert num_lines(database) == 1


def test_a_file_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    open_database(Settings(home=tmp_path)).close()
    with (
        Database(f"sqlite:///file:{tmp_path}/cai.db?mode=ro&uri=true") as database,
        pytest.raises(DatabaseError, match="readonly database; make it writable, or name another"),
    ):
        add_line(database)


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match=r"cai\.db: cannot be made: .*CAI_DATABASE_URL"):
        open_database(Settings(home=tmp_path / "file" / "home"))


def test_a_file_that_is_no_database_is_one_line_and_stays(tmp_path: Path) -> None:
    (tmp_path / "cai.db").write_text("hello " * 1000)
    with pytest.raises(DatabaseError, match="not a database; it is no file of ours"):
        open_database(Settings(home=tmp_path))
    assert (tmp_path / "cai.db").read_text().startswith("hello")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:s3cret@h/x", "a database of 'mysql' is not supported; write sqlite:"),
        ("sqlite+aiosqlite:///x", "'sqlite\\+aiosqlite' is not supported"),
        ("s3cret", "the address of the database is none; write"),
        ("postgresql://u:s3cret@h:port/x", "the address of the database is none"),
        ("sqlite://", "in memory is lost"),
        ("sqlite:///:memory:", "in memory is lost"),
    ],
)
def test_an_address_that_will_not_do_is_refused_without_its_password(
    url: str, message: str
) -> None:
    settings = Settings(database_url=url)
    with pytest.raises(ConfigError, match=message) as caught:
        open_database(settings)
    assert "s3cret" not in str(caught.value) + repr(settings)


def test_a_password_is_in_no_error_of_a_server_that_cannot_be_reached() -> None:
    url = "postgresql://user:s3cret@127.0.0.1:1/name?connect_timeout=1"
    with Database(url) as database, pytest.raises(DatabaseError) as caught, database.read():
        pass
    assert caught.value.message.startswith("the database name at 127.0.0.1:1: ")
    assert "s3cret" not in f"{caught.value.message} {caught.value.__cause__}"


def test_an_error_does_not_quote_what_was_to_be_written(database: Database) -> None:
    with pytest.raises(DatabaseError) as caught, database.begin() as connection:
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (?)", ("their secret",))
    assert "their secret" not in f"{caught.value.message} {caught.value.__cause__}"


def test_postgresql_has_the_same_schema_and_queues_writers_up(tmp_path: Path) -> None:
    with postgres(tmp_path) as url:
        settings = Settings(home=tmp_path / "home", database_url=url)
        open_database(settings).close()
        with open_database(settings) as database:
            with database.read() as connection:
                context = MigrationContext.configure(connection)
                assert compare_metadata(context, METADATA) == []
            add_line(database)
            assert num_lines(database) == 1
            with database.begin() as first:
                database.queue_up(first, 5)
                with database.begin() as second:
                    second.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
                    with pytest.raises(Exception, match="lock timeout"):
                        database.queue_up(second, 5)
                    second.rollback()
        assert not (tmp_path / "home").exists()


def test_a_file_in_another_place_is_named_by_its_url(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=f"sqlite:///{tmp_path}/other/my.db")
    open_database(settings).close()
    assert os.listdir(tmp_path) == ["other"]
    sqlite3.connect(tmp_path / "other" / "my.db").close()
