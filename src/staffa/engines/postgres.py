"""PostgreSQL: many nodes, many writers, rows locked by others passed over."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
import psycopg_pool
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus

from staffa._bridge import at_once
from staffa._finding import Finding
from staffa.config import without_password
from staffa.engine import Engine, Reindexed
from staffa.engines._postgres_examination import examine
from staffa.engines._postgres_reindexing import rebuild
from staffa.engines._postgres_session import READ_ONLY, AsyncSession, PlainSession, adapt, sql, translating
from staffa.engines._postgres_tables import PostgresTables
from staffa.engines._sql.connection import Connection, InsideTransaction
from staffa.engines._sql.engine import SqlEngine
from staffa.engines._sql.migrations import migrations
from staffa.engines._sql.session import Session
from staffa.errors import (
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    SchemaMissing,
    UnsupportedConnection,
)
from staffa.notifier import Notifier
from staffa.notifiers.postgres import PostgresNotifier
from staffa.telemetry import Telemetry

logger = logging.getLogger("staffa")

T = TypeVar("T")
Body = Callable[[Session], Coroutine[Any, Any, T]]

LONGEST_SCHEMA = 63 - len(".oban_insert")  # bytes of a channel's name, which holds the schema's
CONNECTION_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "staffa",
}
POOL_OPTIONS: dict[str, Any] = {"kwargs": CONNECTION_OPTIONS, "timeout": 5.0, "reconnect_timeout": 1.0}


class PostgresDatabase:
    """One schema of one PostgreSQL database."""

    dialect = "postgresql"

    def __init__(
        self,
        url: str,
        *,
        schema: str = "public",
        pool_size: int = 10,
        telemetry: Telemetry | None = None,
    ) -> None:
        if "\0" in schema or not 0 < len(schema.encode(errors="replace")) <= LONGEST_SCHEMA:
            raise ConfigError(f"schema: a name of 1 to {LONGEST_SCHEMA} bytes, not {schema!r}")
        self._url, self.schema, self.reach = conninfo_of(url), schema, url
        self.channel = f"{schema}.oban_insert"
        self.tables = PostgresTables(self._url, schema, CONNECTION_OPTIONS)
        self._pool_size = pool_size
        self.telemetry = telemetry or Telemetry()
        self._lock = threading.Lock()
        self._blocking_pool: psycopg_pool.ConnectionPool | None = None
        self._pid: int | None = None
        self._pool: psycopg_pool.AsyncConnectionPool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.engine = SqlEngine(Awaited(self), channel=self.channel, telemetry=self.telemetry)
        self.plain = SqlEngine(Blocking(self), channel=self.channel, telemetry=self.telemetry)

    @contextmanager
    def alone(self) -> Iterator[Engine]:
        """Use one connection that nobody else waits for."""
        with translating(), psycopg.connect(self._url, **CONNECTION_OPTIONS) as connection:
            yield SqlEngine(BlockingOn(connection, self.schema), channel=self.channel)

    def joined(self, connection: Any) -> Engine:
        if not isinstance(connection, psycopg.Connection | psycopg.AsyncConnection):
            raise UnsupportedConnection(
                f"this instance keeps its jobs in PostgreSQL; it cannot join a {type(connection).__module__}."
                f"{type(connection).__qualname__}: give a psycopg connection"
            )
        if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
            raise UnsupportedConnection(
                "this connection is in autocommit and in no transaction, so the job would be stored at once: "
                "open a transaction first, as in `with connection.transaction():`"
            )
        if isinstance(connection, psycopg.AsyncConnection):
            return SqlEngine(
                AwaitedOn(connection, self.schema), channel=self.channel, telemetry=self.telemetry
            )
        return SqlEngine(BlockingOn(connection, self.schema), channel=self.channel, telemetry=self.telemetry)

    def notifier(self) -> Notifier:
        return PostgresNotifier(self._url, self.schema, CONNECTION_OPTIONS, self.telemetry)

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._check_tables)
        self._loop = asyncio.get_running_loop()
        self._pool = psycopg_pool.AsyncConnectionPool(
            self._url,
            min_size=1,
            max_size=self._pool_size,
            configure=_configure_async,
            open=False,
            name="staffa",
            **POOL_OPTIONS,
        )
        await self._pool.open()

    async def close(self) -> None:
        pool, self._pool, self._loop = self._pool, None, None
        if pool is not None:
            await pool.close()

    def dispose(self) -> None:
        with self._lock:
            pool, self._blocking_pool = self._blocking_pool, None
        if pool is not None:
            pool.close()

    def _check_tables(self) -> None:
        """Refuse missing or old tables at once; a server that does not answer yet is waited for later."""
        try:
            with translating(), psycopg.connect(self._url, **CONNECTION_OPTIONS) as connection:
                done = {row[0] for row in connection.execute(sql("schema_versions", self.schema), {})}
        except DatabaseUnavailable as error:
            logger.warning("the database does not answer yet: %s", error)
        else:
            if missing := sorted(migrations("postgres").keys() - done):
                raise SchemaMissing(
                    f"the tables lack version {missing[0]}: run `staffa migrate` on this database first"
                )

    def examine(self) -> Iterator[Finding]:
        return examine(self._url, self.schema, CONNECTION_OPTIONS)

    def leading(self, *, leads: bool) -> None:
        """Do nothing: a server needs no leader among its clients."""

    def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        with translating(), psycopg.connect(self._url, **CONNECTION_OPTIONS) as connection:
            return rebuild(connection, self.schema, indexes, within)

    @asynccontextmanager
    async def awaited_session(self) -> AsyncIterator[Session | None]:
        """Give a session of the pool on the loop that runs the queues; None elsewhere."""
        pool = self._pool
        if pool is None or self._loop is not asyncio.get_running_loop():
            yield None
            return
        while True:
            try:
                async with pool.connection() as connection:
                    if await _lives_async(connection):
                        try:
                            yield AsyncSession(connection, self.schema)
                        except DatabaseError as error:
                            if _needs_another_connection(error):
                                await connection.close()
                            raise
                        return
            except psycopg_pool.PoolTimeout as error:
                why = await asyncio.get_running_loop().run_in_executor(None, self._why_no_connection)
                raise DatabaseUnavailable(why) from error

    @contextmanager
    def blocking_session(self) -> Iterator[Session]:
        pool = self._opened()
        while True:
            try:
                with pool.connection() as connection:
                    if _lives(connection):
                        try:
                            yield PlainSession(connection, self.schema)
                        except DatabaseError as error:
                            if _needs_another_connection(error):
                                connection.close()
                            raise
                        return
            except psycopg_pool.PoolTimeout as error:
                raise DatabaseUnavailable(self._why_no_connection()) from error

    def run_blocking(self, body: Body[T]) -> T:
        """Run a word from its first to its last statement, on a connection of the pool for plain callers."""
        with translating(), self.blocking_session() as session:
            return at_once(body(session))

    def _why_no_connection(self) -> str:
        """Ask the server itself, as the pool tells no reason."""
        place = without_password(self._url)
        try:
            psycopg.connect(self._url, **{**CONNECTION_OPTIONS, "connect_timeout": 2}).close()
        except psycopg.OperationalError as error:
            return f"{place} cannot be reached: {str(error).strip()}"
        return (
            f"no connection to {place} was to be had for {POOL_OPTIONS['timeout']:.0f} s: all"
            f" {self._pool_size} were busy, or the server was away until just now"
        )

    def _opened(self) -> psycopg_pool.ConnectionPool:
        """Return the pool of this process; one made before a fork belongs to the parent."""
        with self._lock:
            if self._blocking_pool is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._blocking_pool = psycopg_pool.ConnectionPool(
                    self._url,
                    min_size=0,
                    max_size=self._pool_size,
                    configure=_configure,
                    open=True,
                    name="staffa-plain",
                    **POOL_OPTIONS,
                )
            return self._blocking_pool


# Connections: how a word gets its session


class Awaited(Connection):
    """Words are awaited: on the pool where queues run, by a thread on any other loop."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def write(self, body: Body[T]) -> T:
        with translating():
            async with self._database.awaited_session() as session:
                if session is not None:
                    return await body(session)
        return await asyncio.get_running_loop().run_in_executor(None, self._database.run_blocking, body)

    read = write

    async def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._database.reindex, indexes, within)


class Blocking(Connection):
    """Words block, each on a connection of the pool for plain callers."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def write(self, body: Body[T]) -> T:
        return self._database.run_blocking(body)

    read = write

    async def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        return self._database.reindex(indexes, within)


class BlockingOn(InsideTransaction):
    """Words block, on one connection that somebody else owns."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._session = PlainSession(connection, schema, foreign=True)

    async def write(self, body: Body[T]) -> T:
        with translating():
            return await body(self._session)

    read = write


class AwaitedOn(InsideTransaction):
    """Words are awaited, on one connection that somebody else owns."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], schema: str) -> None:
        self._session = AsyncSession(connection, schema, foreign=True)

    async def write(self, body: Body[T]) -> T:
        await asyncio.sleep(0)  # a blocking caller cannot go on from here, and nothing has been sent yet
        with translating():
            return await body(self._session)

    read = write


# Connections of a pool


def _configure(connection: psycopg.Connection[Any]) -> None:
    adapt(connection.adapters)
    connection.isolation_level = IsolationLevel.READ_COMMITTED  # whatever the server's default is


async def _configure_async(connection: psycopg.AsyncConnection[Any]) -> None:
    adapt(connection.adapters)
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)  # whatever the server's default is


# The pool's own `check` waits a second, then two, for each dead connection it meets: after a restart of the
# server with ten of them, nobody would get a living one in time. A dead one given back is replaced by the pool.


def _lives(connection: psycopg.Connection[Any]) -> bool:
    if not _has_news(connection):
        return True
    try:
        connection.execute("")
    except psycopg.Error:
        connection.close()
    return not connection.closed


async def _lives_async(connection: psycopg.AsyncConnection[Any]) -> bool:
    if not _has_news(connection):
        return True
    try:
        await connection.execute("")
    except psycopg.Error:
        await connection.close()
    return not connection.closed


def _needs_another_connection(error: DatabaseError) -> bool:
    """Tell whether only a new connection helps.

    After a failover it finds the server that writes. When tables were made anew, it forgets the statements that
    were prepared for the old ones, and which the server refuses from then on.
    """
    cause = error.__cause__
    outlived = isinstance(cause, psycopg.errors.FeatureNotSupported) and "cached plan" in str(cause)
    return outlived or isinstance(cause, READ_ONLY)


def _has_news(connection: psycopg.BaseConnection[Any]) -> bool:
    """Tell, without asking the server, whether something came in on an idle connection: most often its end."""
    if connection.closed or not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


# What callers give


def conninfo_of(url: str) -> str:
    """Turn a URL as SQLAlchemy writes it (`postgresql+psycopg://…`) into one that libpq reads."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"
