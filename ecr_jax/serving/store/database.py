"""The database of the store: SQLite in WAL mode in a file, or PostgreSQL by its URL, migrated when it is opened."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7401296011
"""Number of the advisory lock under which one of several servers migrates a PostgreSQL database."""
_SECONDS_BUSY = 5
"""How long a transaction of SQLite waits for another one before the request fails as unavailable."""
_CONNECTIONS = 20


class Database:
    """Sessions of a database whose tables are up to date."""

    def __init__(self, url: str):
        """Connects and migrates.

        Args:
          url: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.

        Raises:
          ValueError: it is neither, or it cannot be reached or written.
        """
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # SQLite has one writer at a time, and lets those that wait poll until some give up; here they take turns.
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()
        try:
            migrate(self.engine)
        except DBAPIError as error:
            raise ValueError(f"the database {self.name} cannot be opened: {error.orig}") from error

    @property
    def name(self) -> str:
        """Its URL without a password."""
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that changes nothing."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are committed, and on disk, when the block ends well."""
        engine = self.engine.execution_options(writes=True)
        with self._turn, Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def check(self) -> None:
        """Raises sqlalchemy.exc.OperationalError where the database does not answer."""
        with self.reading() as session:
            session.execute(text("SELECT 1 FROM conversations WHERE 1 = 0"))

    def shrink(self) -> None:
        """Removes deleted text from SQLite's log of changes, where it would stay until the next checkpoint."""
        if self.is_sqlite:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


def migrate(engine: Engine, revision: str = "head") -> None:
    """Brings the tables to a revision; one process at a time."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.execution_options(writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        config.attributes["connection"] = connection
        if revision == "base":
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"{url!r} is no database; give sqlite:///PATH or postgresql://USER@HOST/NAME") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            parsed,
            pool_size=_CONNECTIONS,
            max_overflow=_CONNECTIONS,
            hide_parameters=True,  # errors are logged, and what people said must not be
            connect_args={"timeout": _SECONDS_BUSY, "check_same_thread": False},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if backend in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(
            parsed, pool_size=_CONNECTIONS, max_overflow=_CONNECTIONS, hide_parameters=True, pool_pre_ping=True
        )
    raise ValueError(f"{url!r} is no database that is supported; give sqlite:///PATH or postgresql://USER@HOST/NAME")


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins the transactions
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that first reads and then writes fails at once where another one wrote between; this one waits.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
