"""PostgreSQL: many nodes, many writers, rows locked by others passed over."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import select
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import msgspec
import psycopg
import psycopg_pool
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestampLoader
from psycopg.types.json import set_json_loads

from staffa._bridge import at_once
from staffa._job import AnyJob, Job, State
from staffa.engine import Engine
from staffa.engines._sql.engine import Row, Session, SqlEngine, objects
from staffa.engines._sql.statements import migrations, quoted_name, statement
from staffa.errors import (
    DatabaseError,
    DatabaseUnavailable,
    SchemaMissing,
    UnstorableData,
    UnsupportedConnection,
)
from staffa.notifier import Notifier, Payload
from staffa.notifiers.postgres import PostgresNotifier

logger = logging.getLogger("staffa")

T = TypeVar("T")
decode = msgspec.json.Decoder().decode
Body = Callable[[Session], Coroutine[Any, Any, T]]

PLACEHOLDER = re.compile(r"(?<![:\w]):([a-z_]+)")
MIGRATION_LOCK = 7_823_301  # any number will do, if it is always the same
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
POOL_WAIT_SECONDS = 5.0
RECONNECT_SECONDS = 1.0
CONNECTION_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "staffa",
}


class PostgresDatabase:
    """One schema of one PostgreSQL database."""

    dialect = "postgresql"

    def __init__(self, url: str, *, schema: str = "public", pool_size: int = 10) -> None:
        self._url, self._schema = conninfo_of(url), schema
        self._channel = f"{schema}.oban_insert"
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._blocking_pool: psycopg_pool.ConnectionPool | None = None
        self._pid: int | None = None
        self._pool: psycopg_pool.AsyncConnectionPool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine = SqlEngine(Awaited(self), channel=self._channel)
        self._plain = SqlEngine(Blocking(self), channel=self._channel)

    @property
    def schema(self) -> str:
        return self._schema

    @property
    def channel(self) -> str:
        return self._channel

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def plain(self) -> Engine:
        return self._plain

    @contextmanager
    def alone(self) -> Iterator[Engine]:
        """Use one connection that nobody else waits for."""
        with _translating(), psycopg.connect(self._url, **CONNECTION_OPTIONS) as connection:
            yield SqlEngine(BlockingOn(connection, self._schema), channel=self._channel)

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
            return SqlEngine(AwaitedOn(connection, self._schema), channel=self._channel)
        return SqlEngine(BlockingOn(connection, self._schema), channel=self._channel)

    def notifier(self) -> Notifier:
        return PostgresNotifier(self._url, self._schema, CONNECTION_OPTIONS)

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._check_tables)
        self._loop = asyncio.get_running_loop()
        self._pool = psycopg_pool.AsyncConnectionPool(
            self._url,
            min_size=1,
            max_size=self._pool_size,
            kwargs=CONNECTION_OPTIONS,
            configure=_configure_async,
            check=_check_async,
            timeout=POOL_WAIT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
            name="staffa",
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
            with _translating(), psycopg.connect(self._url, **CONNECTION_OPTIONS) as connection:
                done = {row[0] for row in connection.execute(_sql("schema_versions", self._schema))}
        except DatabaseUnavailable as error:
            logger.warning("the database does not answer yet: %s", error)
        else:
            if missing := sorted(migrations("postgres").keys() - done):
                raise SchemaMissing(
                    f"the tables lack version {missing[0]}: run `staffa migrate` on this database first"
                )

    def leading(self, *, leads: bool) -> None:
        """Do nothing: a server needs no leader among its clients."""

    def migrate(self) -> list[int]:
        """Apply missing versions in one transaction, one process at a time."""
        with (
            _translating(),
            psycopg.connect(self._url, **{**CONNECTION_OPTIONS, "autocommit": False}) as connection,
        ):
            connection.execute("select pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
            quoted = quoted_name(self._schema)
            if not connection.execute(
                "select from pg_namespace where nspname = %s", [self._schema]
            ).fetchall():
                connection.execute(f"create schema {quoted}".encode())  # which few roles may do
            connection.execute(f"set local search_path to {quoted}".encode())
            connection.execute(
                "create table if not exists staffa_schema (version integer primary key,"
                " applied_at timestamp not null default timezone('UTC', now()))"
            )
            done = {row[0] for row in connection.execute(_sql("schema_versions", self._schema))}
            missing = {version: sql for version, sql in migrations("postgres").items() if version not in done}
            for version, sql in missing.items():
                connection.execute(sql.encode())
                connection.execute(_sql("record_version", self._schema), {"version": version})
            return list(missing)

    @asynccontextmanager
    async def awaited_session(self) -> AsyncIterator[Session | None]:
        """Give a session of the pool on the loop that runs the queues; None elsewhere."""
        if self._pool is None or self._loop is not asyncio.get_running_loop():
            yield None
            return
        async with self._pool.connection() as connection:
            yield AsyncSession(connection, self._schema)

    @contextmanager
    def blocking_session(self) -> Iterator[Session]:
        with self._opened().connection() as connection:
            yield PlainSession(connection, self._schema)

    def _opened(self) -> psycopg_pool.ConnectionPool:
        """Return the pool of this process; one made before a fork belongs to the parent."""
        with self._lock:
            if self._blocking_pool is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._blocking_pool = psycopg_pool.ConnectionPool(
                    self._url,
                    min_size=0,
                    max_size=self._pool_size,
                    kwargs=CONNECTION_OPTIONS,
                    configure=_configure,
                    check=_check,
                    timeout=POOL_WAIT_SECONDS,
                    reconnect_timeout=RECONNECT_SECONDS,
                    open=True,
                    name="staffa-plain",
                )
            return self._blocking_pool


# Connections: how a word gets its session


class Awaited:
    """Words are awaited: on the pool where queues run, by a thread on any other loop."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def write(self, body: Body[T]) -> T:
        with _translating():
            async with self._database.awaited_session() as session:
                if session is not None:
                    return await body(session)
        return await asyncio.get_running_loop().run_in_executor(None, self._in_thread, body)

    read = write

    def _in_thread(self, body: Body[T]) -> T:
        with _translating(), self._database.blocking_session() as session:
            return at_once(body(session))


class Blocking:
    """Words block, each on a connection of the pool for plain callers."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def write(self, body: Body[T]) -> T:
        with _translating(), self._database.blocking_session() as session:
            return at_once(body(session))

    read = write


class BlockingOn:
    """Words block, on one connection that somebody else owns."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._session = PlainSession(connection, schema, foreign=True)

    async def write(self, body: Body[T]) -> T:
        with _translating():
            return await body(self._session)

    read = write


class AwaitedOn:
    """Words are awaited, on one connection that somebody else owns."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], schema: str) -> None:
        self._session = AsyncSession(connection, schema, foreign=True)

    async def write(self, body: Body[T]) -> T:
        await asyncio.sleep(0)  # a blocking caller cannot go on from here, and nothing has been sent yet
        with _translating():
            return await body(self._session)

    read = write


class AsyncSession:
    """Statements on an awaited connection, with cursor and row format of our own; a foreign one keeps its types."""

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], schema: str, *, foreign: bool = False
    ) -> None:
        self._connection, self._schema, self._foreign = connection, schema, foreign

    async def run(self, name: str, **params: Any) -> list[Row]:
        with _translating():
            async with psycopg.AsyncCursor(self._connection, row_factory=tuple_row) as cursor:
                if self._foreign:
                    _adapt(cursor.adapters)
                await cursor.execute(_sql(name, self._schema), params)
                return await cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        async with self._connection.transaction():
            yield

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        await self.run("notify", **_notification(self._schema, channel, payloads))

    def job(self, row: Row) -> AnyJob:
        return _job(row)


class PlainSession:
    """Statements on a blocking connection, with cursor and row format of our own."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str, *, foreign: bool = False) -> None:
        self._connection, self._schema, self._foreign = connection, schema, foreign

    async def run(self, name: str, **params: Any) -> list[Row]:
        with _translating(), psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            if self._foreign:
                _adapt(cursor.adapters)
            cursor.execute(_sql(name, self._schema), params)
            return cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        with self._connection.transaction():
            yield

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        await self.run("notify", **_notification(self._schema, channel, payloads))

    def job(self, row: Row) -> AnyJob:
        return _job(row)


# Statements and values


@cache
def _sql(name: str, schema: str) -> bytes:
    """Read a statement, `:name` written as psycopg reads it."""
    return PLACEHOLDER.sub(r"%(\1)s", statement("postgres", name, schema)).encode()


def _notification(schema: str, channel: str, payloads: Sequence[Payload]) -> dict[str, str]:
    """Write payloads as plain JSON, which every Oban reads, on the channel that Oban would use."""
    texts = [msgspec.json.encode(payload).decode() for payload in payloads]
    return {"channel": f"{schema}.oban_{channel}", "payloads": msgspec.json.encode(texts).decode()}


class UtcLoader(TimestampLoader):
    """Reads Oban's timestamps as what they are: instants in UTC. The infinite ones become the outermost."""

    def load(self, data: Any) -> datetime:
        text = str(data, "ascii")
        try:
            return datetime.fromisoformat(text + "+00:00")
        except ValueError:
            return self._load_slowly(data, text)

    def _load_slowly(self, data: Any, text: str) -> datetime:
        """Read what the session writes in another date style, and what no datetime can hold."""
        try:
            return super().load(data).replace(tzinfo=UTC)
        except psycopg.DataError:
            return EARLIEST if text.startswith("-") or text.endswith("BC") else LATEST


def _adapt(adapters: AdaptersMap) -> None:
    adapters.register_loader("timestamp", UtcLoader)
    set_json_loads(decode, context=_Context(adapters))


class _Context:
    """What psycopg wants to see where types are registered."""

    def __init__(self, adapters: AdaptersMap) -> None:
        self.adapters, self.connection = adapters, None


def _configure(connection: psycopg.Connection[Any]) -> None:
    _adapt(connection.adapters)


async def _configure_async(connection: psycopg.AsyncConnection[Any]) -> None:
    _adapt(connection.adapters)


def _check(connection: psycopg.Connection[Any]) -> None:
    if _has_news(connection):
        psycopg_pool.ConnectionPool.check_connection(connection)


async def _check_async(connection: psycopg.AsyncConnection[Any]) -> None:
    if _has_news(connection):
        await psycopg_pool.AsyncConnectionPool.check_connection(connection)


def _has_news(connection: psycopg.BaseConnection[Any]) -> bool:
    """Tell, without asking the server, whether something came in on an idle connection: most often its end."""
    if connection.closed or not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _job(row: Row) -> AnyJob:
    return Job(
        id=row[0],
        state=State(row[1]),
        queue=row[2],
        worker=row[3],
        args=row[4],
        meta=objects(row[5]),
        tags=row[6] or [],
        errors=row[7] or [],
        attempt=row[8],
        max_attempts=row[9],
        priority=row[10],
        inserted_at=row[11],
        scheduled_at=row[12],
        attempted_at=row[13],
        completed_at=row[14],
        discarded_at=row[15],
        cancelled_at=row[16],
        attempted_by=row[17] or [],
        take=row[18],
        unique_key=row[19],
    )


def conninfo_of(url: str) -> str:
    """Turn a URL as SQLAlchemy writes it (`postgresql+psycopg://…`) into one that libpq reads."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


# Errors


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed) as error:
        raise translated(error) from error


def translated(error: Exception) -> DatabaseError:
    """Name PostgreSQL's errors in our words."""
    text = str(error).strip() or type(error).__name__
    if isinstance(
        error,
        psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn | psycopg.errors.InvalidSchemaName,
    ):
        return SchemaMissing(f"{text.splitlines()[0]}: run `staffa migrate` on this database first")
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return UnstorableData(text)
    if isinstance(error, psycopg.OperationalError | psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed):
        return DatabaseUnavailable(text)
    return DatabaseError(text)
