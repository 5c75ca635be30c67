"""The CRM's way to its database: short transactions on SQLite or PostgreSQL, chosen by the URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url

from education_crm.schema import metadata

BUSY_SECONDS = 30
BACKSTOP_PAGES = 100_000


class Database:
    """Gives transactions; opens nothing before the first one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._looking = self.engine

        if self.engine.dialect.name == "postgresql":
            self._looking = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction for looking: everything read in it is of one moment."""
        with self._looking.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction for changing: all of it happens, or nothing.

        On SQLite it holds the one write lock from its first moment, so nothing it has read can be
        outdated when it writes. Keep it short: every other writer waits.
        """
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def create_tables(self) -> None:
        """Make the tables that are not there yet."""
        with self.write() as connection:
            metadata.create_all(connection)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    parsed = make_url(url)

    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            parsed.set(drivername="sqlite+pysqlite"), connect_args={"timeout": BUSY_SECONDS}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    # The sqlite3 module begins transactions late and only before writes; we begin them ourselves.
    dbapi_connection.isolation_level = None
    dbapi_connection.execute("pragma journal_mode = wal")
    dbapi_connection.execute("pragma foreign_keys = on")
    # Copying the log back into the file is left to the process that leads Staffa's queues: before
    # SQLite 3.51.3 two connections that do it at once can damage the file.
    dbapi_connection.execute(f"pragma wal_autocheckpoint = {BACKSTOP_PAGES}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("begin immediate" if writes else "begin")
