"""The database: one engine, short transactions, a schema brought up to date when it is opened.

SQLite by default, PostgreSQL by URL. Knows nothing of what the tables mean. Start from
`open_database`; `with database.begin() as connection:` is one transaction.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from cai.errors import ConfigError, DatabaseError, MissingDependencyError

try:
    from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
    from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
    from sqlalchemy.exc import TimeoutError as NoConnectionError

    from cai.db_schema import migrate
except ModuleNotFoundError as exc:
    raise MissingDependencyError("the database", exc.name or "sqlalchemy", "database") from exc

FILE: Final = "cai.db"
"""Name of the SQLite file in the home folder."""
BUSY_TIMEOUT_S: Final = 30.0
"""Seconds that a writer waits for another before it gives up."""

_FORMS = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_LOCK_SPACE = 0x636169  # of PostgreSQL's advisory locks: "cai"
_WAYS_OUT = (
    ("disk is full", "free some space and try again"),
    ("No space left", "free some space and try again"),
    ("readonly database", "make it writable, or name another with CAI_DATABASE_URL"),
    ("unable to open", "check that its folder is there and may be written"),
    ("not a database", "it is no file of ours: move it away, or restore a backup"),
    ("malformed", "restore a backup"),
    ("locked", f"another process has held it for {BUSY_TIMEOUT_S:g} s; try again"),
    ("lock timeout", f"another process has held it for {BUSY_TIMEOUT_S:g} s; try again"),
)


class Place(Protocol):
    """Where a database is: the part of `cai.settings.Settings` that says so."""

    @property
    def home(self) -> Path:
        """Folder of the SQLite file where there is no URL."""
        ...

    @property
    def database_url(self) -> str | None:
        """SQLAlchemy address, or None."""
        ...


class Database:
    """An engine and its connections. Safe to use from threads; open one per process.

    `shown` names it in messages, without user and password.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.shown = _shown(self.url)
        self._engine = self._made_engine()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction that may write: all of it is kept, or nothing when the block raises.

        On SQLite writers come one after another. Raises DatabaseError when it cannot be done;
        SQLAlchemy's IntegrityError is the caller's to understand.
        """
        with self._told(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads: it sees one moment, and waits for no writer."""
        with self._told(), self._engine.connect() as connection:
            connection.execution_options(reads_only=True)
            with connection.begin():
                yield connection

    def queue_up(self, connection: Connection, what: int) -> None:
        """Wait until no other transaction that queued up for `what` runs; ends with this one.

        On SQLite every writer has done so already.
        """
        if not self.is_sqlite:
            keys = {"space": _LOCK_SPACE, "what": what}
            connection.execute(text("SELECT pg_advisory_xact_lock(:space, :what)"), keys)

    def close(self) -> None:
        """Close every connection. Repeated calls do nothing."""
        self._engine.dispose()

    def _made_engine(self) -> Engine:
        options: dict[str, Any] = {"timeout": BUSY_TIMEOUT_S}
        if not self.is_sqlite:
            waits = f"-c lock_timeout={int(BUSY_TIMEOUT_S * 1000)}"
            options = {"connect_timeout": 10, "options": waits}
        try:
            # Parameters hold people's texts, which no error may quote.
            engine = create_engine(
                self.url, hide_parameters=True, connect_args=options, pool_pre_ping=True
            )
        except ModuleNotFoundError as exc:
            name = exc.name or "psycopg"
            raise MissingDependencyError("a PostgreSQL database", name, "jobs") from exc
        if self.is_sqlite:
            event.listen(engine, "connect", _prepare)
            event.listen(engine, "begin", _begin)
        return engine

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, NoConnectionError) as exc:
            raise self.failed(getattr(exc, "orig", None) or exc) from exc

    def failed(self, exc: BaseException) -> DatabaseError:
        """An error of the driver's as one line that says what to do; no password is in it."""
        reason = " ".join(str(exc).split())[:300] or type(exc).__name__
        if self.url.password:
            reason = reason.replace(str(self.url.password), "***")
        ways = [way for mark, way in _WAYS_OUT if mark in reason]
        return DatabaseError(f"{self.shown}: {reason}" + (f"; {ways[0]}" if ways else ""))


def open_database(place: Place) -> Database:
    """The database that the settings name, made where it is not there, its schema up to date.

    Two processes may do so at once. Raises ConfigError for a URL that will not do, DatabaseError
    when it cannot be opened or was written by a newer version of this program.
    """
    database = Database(database_url(place))
    try:
        if database.is_sqlite:
            _make_file(database)
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def database_url(place: Place) -> URL:
    """The address of the database that the settings name; it holds the password."""
    if place.database_url is not None:
        return _parsed(place.database_url)
    return URL.create("sqlite", database=str((place.home / FILE).absolute()))


def _parsed(url: str | URL) -> URL:
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(f"the address of the database is none; write {_FORMS}") from None
    driver = _DRIVERS.get(found.drivername)
    if driver is None:
        raise ConfigError(f"a database of '{found.drivername}' is not supported; write {_FORMS}")
    if driver == "sqlite" and (not found.database or ":memory:" in found.database):
        raise ConfigError(
            "a database in memory is lost with its process; name a file: sqlite:///FILE"
        )
    return found.set(drivername=driver)


def _shown(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"the database {url.database or ''} at {url.host or 'localhost'}:{url.port or 5432}"


def _make_file(database: Database) -> None:
    """The file, private to its owner as it holds people's texts, in the mode that lets others read.

    Write-ahead logging is a property of the file and cannot be set inside a transaction.
    """
    path = Path(str(database.url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        _repeated(lambda: _use_wal(path))
    except OSError as exc:
        raise DatabaseError(
            f"{path}: cannot be made: {exc.strerror}; check its folder, or name another database "
            "with CAI_DATABASE_URL"
        ) from exc
    except sqlite3.Error as exc:
        raise database.failed(exc) from exc


def _use_wal(path: Path) -> None:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _repeated(work: Callable[[], None]) -> None:
    """Two processes that change the mode at once do not wait: one is told that it is locked."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return work()
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or time.monotonic() > until:
                raise
            time.sleep(0.05)


def _prepare(connection: Any, _record: Any) -> None:
    # The driver would begin transactions late, and end them before a change of the schema.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    """A writer takes its turn at once: one that read first could not become a writer later."""
    is_reader = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")
