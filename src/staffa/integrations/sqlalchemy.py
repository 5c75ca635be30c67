"""Storing jobs and acting on them in a transaction of SQLAlchemy: `connection=session_or_connection`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, TypeVar

import msgspec
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    UnboundExecutionError,
)
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import scoped_session

from staffa._clock import instant, utc_now
from staffa._job import AnyJob
from staffa.engine import Database, Engine
from staffa.engines._containment import teach
from staffa.engines._sql.connection import InsideTransaction
from staffa.engines._sql.engine import SqlEngine
from staffa.engines._sql.rows import Row, notification, read_job, read_moment, written
from staffa.engines._sql.session import Session
from staffa.engines._sql.statements import Statement, split, statement
from staffa.engines._sqlite_session import encoded, job_of
from staffa.engines._sqlite_session import exchanged as sqlite_exchanged
from staffa.engines.sqlite import IN_MEMORY, SqliteDatabase, commits_by_itself
from staffa.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseUnavailable,
    SchemaMissing,
    UnstorableData,
    UnsupportedConnection,
)
from staffa.notifier import INSERT, Payload

try:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
except ImportError:  # SQLAlchemy needs greenlet for these; without it nobody has one to give
    AWAITED: tuple[type[Any], ...] = ()
    SCOPED: tuple[type[Any], ...] = (scoped_session,)
else:
    AWAITED = (AsyncConnection, AsyncSession)
    SCOPED = (scoped_session, async_scoped_session)

T = TypeVar("T")
Body = Callable[[Session], Coroutine[Any, Any, T]]
Plain: TypeAlias = Connection | OrmSession
Awaited: TypeAlias = "AsyncConnection | AsyncSession"

FOLDERS = {"sqlite": "sqlite", "postgresql": "postgres"}
TAGS, ERRORS, ATTEMPTED_BY = 6, 7, 17  # lists, among the columns of a job
AUTOCOMMIT = (
    "this connection is in autocommit, so the job would be stored at once: "
    "take one without isolation_level='AUTOCOMMIT'"
)


def join(connection: Any, database: Database) -> Engine:
    """Return words that work in the caller's transaction. Raises `UnsupportedConnection`."""
    if not database.dialect:
        return database.joined(connection)
    if isinstance(database, SqliteDatabase) and database.path == ":memory:":
        raise UnsupportedConnection(IN_MEMORY)
    if isinstance(connection, SCOPED):
        connection = connection()

    if isinstance(connection, Connection | OrmSession):
        return SqlEngine(
            BlockingOn(connection, database), channel=database.channel, telemetry=database.telemetry
        )
    if isinstance(connection, AWAITED):
        return SqlEngine(
            AwaitedOn(connection, database), channel=database.channel, telemetry=database.telemetry
        )
    raise UnsupportedConnection(
        f"{type(connection).__qualname__} of SQLAlchemy is in no transaction that could be joined: "
        "give a Connection, Session, AsyncConnection or AsyncSession"
    )


class BlockingOn(InsideTransaction):
    """Words block, on a connection or session that the caller owns."""

    def __init__(self, given: Plain, database: Database) -> None:
        self._given, self._database = given, database

    async def write(self, body: Body[T]) -> T:
        return await body(PlainSession(_joinable(self._given, self._database), self._database))

    read = write


class AwaitedOn(InsideTransaction):
    """Words are awaited, on a connection or session that the caller owns."""

    def __init__(self, given: Awaited, database: Database) -> None:
        self._given, self._database = given, database

    async def write(self, body: Body[T]) -> T:
        await asyncio.sleep(0)  # a blocking caller cannot go on from here, and nothing has been sent yet
        return await body(AwaitedSession(self._given, self._database))

    read = write


class Joined(ABC):
    """What all sessions in a caller's transaction do alike."""

    patience: str | None = None  # how long to wait is the caller's business
    _database: Database

    @abstractmethod
    async def run(self, name: Statement, **params: Any) -> list[Row]: ...

    @abstractmethod
    async def hold(self) -> None: ...

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """See that SQLite's lock is held before we read what we change; the transaction is the caller's."""
        if self._database.dialect == "sqlite":
            await self.hold()
        yield

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Tell everyone who listens, when the caller commits; of inserts SQLite's file itself tells."""
        if self._database.schema is not None:
            await self.run("notify", **notification(self._database.schema, channel, payloads))
        elif channel != INSERT:
            await self.run("write_notices", channel=channel, payloads=list(map(written, payloads)))

    def job(self, row: Row) -> AnyJob:
        return job_of(row) if self._database.dialect == "sqlite" else _postgres_job(row)

    async def exchanged(self, rows: Sequence[Row]) -> tuple[int, list[AnyJob]]:
        if self._database.dialect == "sqlite":
            return await sqlite_exchanged(self, rows)
        raise UnsupportedConnection("queues do not take jobs inside a transaction of SQLAlchemy's")


class PlainSession(Joined):
    """Statements on a blocking connection."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection, self._database = connection, database

    async def run(self, name: Statement, **params: Any) -> list[Row]:
        return _rows(self._connection, self._database, name, params)

    async def hold(self) -> None:
        _hold(self._connection)


class AwaitedSession(Joined):
    """Statements on an awaited connection or session, whose blocking inside SQLAlchemy runs for us."""

    def __init__(self, given: Awaited, database: Database) -> None:
        self._given, self._database = given, database

    async def run(self, name: Statement, **params: Any) -> list[Row]:
        def run_inside(inner: Plain) -> list[Row]:
            return _rows(_joinable(inner, self._database), self._database, name, params)

        return await self._given.run_sync(run_inside)

    async def hold(self) -> None:
        await self._given.run_sync(lambda inner: _hold(_joinable(inner, self._database)))


def _joinable(given: Plain, database: Database) -> Connection:
    """Find the connection of the caller's transaction, begun if it was not. Raises `UnsupportedConnection`."""
    try:
        connection = given.connection() if isinstance(given, OrmSession) else given
    except UnboundExecutionError as error:
        raise UnsupportedConnection(
            "this session is bound to several databases, or to none: "
            "give the connection to use, as in session.connection(bind_arguments=...)"
        ) from error
    if connection.dialect.name != database.dialect:
        raise UnsupportedConnection(
            f"this instance keeps its jobs in {database.dialect}; "
            f"it cannot join a connection to {connection.dialect.name}"
        )
    with _translating():
        if not connection.in_transaction():
            connection.begin()
        if _commits_by_itself(connection):
            raise UnsupportedConnection(AUTOCOMMIT)
        _make_tables(connection, database)
    return connection


def _commits_by_itself(connection: Connection) -> bool:
    """Ask the driver, who alone knows: in autocommit it stores at once what no transaction holds back."""
    adapted: Any = connection.connection.dbapi_connection
    if connection.dialect.name != "sqlite":
        return adapted.autocommit is True
    return commits_by_itself(connection.connection.driver_connection)


def _make_tables(connection: Connection, database: Database) -> None:
    """Make SQLite's tables on first use; in the caller's transaction where that holds the file already."""
    driver: Any = connection.connection.driver_connection
    if not isinstance(database, SqliteDatabase):
        return
    teach(connection.connection, connection.exec_driver_sql)
    if driver.in_transaction:
        database.make_tables_inside(connection.exec_driver_sql)
    else:
        database.make_tables()


def _hold(connection: Connection) -> None:
    """Take SQLite's write lock, unless the transaction began; drivers would begin with the first write only."""
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        with _translating():
            connection.exec_driver_sql("begin immediate")


def _rows(connection: Connection, database: Database, name: Statement, params: dict[str, Any]) -> list[Row]:
    if database.dialect == "sqlite":
        params = {key: encoded(value) for key, value in params.items()}
        params["now"] = instant(params.get("now") or utc_now())
    rows: list[Row] = []
    with _translating():
        for sql in split(statement(FOLDERS[database.dialect], name, database.schema)):
            found = connection.execute(text(sql), params)
            rows += [tuple(row) for row in found] if found.returns_rows else []
    return rows


def _postgres_job(row: Row) -> AnyJob:
    """Read a job as any driver of PostgreSQL gives it: some read JSON by themselves, some leave it as text."""
    errors = [_read_json(each) for each in row[ERRORS] or ()]
    tags, by = list(row[TAGS] or ()), list(row[ATTEMPTED_BY] or ())
    clean = [*row]
    clean[ERRORS], clean[TAGS], clean[ATTEMPTED_BY] = errors, tags, by
    return read_job(tuple(clean), json=_read_json, moment=read_moment)


def _read_json(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str | bytes) else value


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _translated(error) from error


def _translated(error: DBAPIError) -> DatabaseError:
    """Name the errors of all drivers in our words."""
    told = str(error.orig).strip()
    if "no such table" in told or "no such column" in told or _sqlstate(error) in ("42P01", "42703", "3F000"):
        return SchemaMissing(f"{told.splitlines()[0]}: run `staffa migrate` on this database first")
    if isinstance(error, DataError | IntegrityError):
        return UnstorableData(told)
    if "database is locked" in told:
        return DatabaseBusy("another connection holds SQLite's write lock, for longer than this one waits")
    if isinstance(error, OperationalError | InterfaceError):
        return DatabaseUnavailable(told)
    return DatabaseError(told)


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
