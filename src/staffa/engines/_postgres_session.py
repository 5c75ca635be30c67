"""One connection to PostgreSQL, spoken to in our words."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
import psycopg
import psycopg_pool
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestampLoader
from psycopg.types.json import set_json_loads

from staffa._job import AnyJob, Job, State
from staffa.engines._sql.rows import EARLIEST, Row, exchanged, notification, objects
from staffa.engines._sql.statements import Statement, in_schema, statement
from staffa.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable, SchemaMissing, UnstorableData
from staffa.notifier import Payload

decode = msgspec.json.Decoder().decode

PLACEHOLDER = re.compile(r"(?<![:\w]):([a-z_]+)")
LONGEST_LOCK = "5s"
BUSY = (
    f"another transaction has held the key of this unique job for more than {LONGEST_LOCK}; "
    "to enqueue inside an open transaction of your own, use using(connection=...)"
)
READ_ONLY = psycopg.errors.ReadOnlySqlTransaction
UNAVAILABLE = (psycopg.OperationalError, READ_ONLY, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed)
LATEST = datetime.max.replace(tzinfo=UTC)


class AsyncSession:
    """Statements on an awaited connection, with cursor and row format of our own; a foreign one keeps its types."""

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], schema: str, *, foreign: bool = False
    ) -> None:
        self._connection, self._schema, self._foreign = connection, schema, foreign

    async def run(self, name: Statement, **params: Any) -> list[Row]:
        with translating():
            async with psycopg.AsyncCursor(self._connection, row_factory=tuple_row) as cursor:
                if self._foreign:
                    adapt(cursor.adapters)
                async with self._answered():
                    await cursor.execute(sql(name, self._schema), params)
                return await cursor.fetchall() if cursor.description else []

    def _answered(self) -> AbstractAsyncContextManager[Any]:
        """Wait for the answer even where the connection's owner lets statements gather in a pipeline."""
        gathers = self._foreign and self._connection.pgconn.pipeline_status
        return self._connection.pipeline() if gathers else nullcontext()

    @property
    def patience(self) -> str | None:
        return None if self._foreign else LONGEST_LOCK

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        if self._foreign and self._connection.info.transaction_status == TransactionStatus.IDLE:
            await self._connection.execute(
                "select"
            )  # begins the caller's, so that ours is inside and commits nothing
        async with self._connection.transaction():
            yield

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        await self.run("notify", **notification(self._schema, channel, payloads))

    def job(self, row: Row) -> AnyJob:
        return _job(row)

    async def exchanged(self, rows: Sequence[Row]) -> tuple[int, list[AnyJob]]:
        return exchanged(rows, _job)


class PlainSession:
    """Statements on a blocking connection, with cursor and row format of our own."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str, *, foreign: bool = False) -> None:
        self._connection, self._schema, self._foreign = connection, schema, foreign

    async def run(self, name: Statement, **params: Any) -> list[Row]:
        with translating(), psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            if self._foreign:
                adapt(cursor.adapters)
            with self._answered():
                cursor.execute(sql(name, self._schema), params)
            return cursor.fetchall() if cursor.description else []

    def _answered(self) -> AbstractContextManager[Any]:
        """Wait for the answer even where the connection's owner lets statements gather in a pipeline."""
        gathers = self._foreign and self._connection.pgconn.pipeline_status
        return self._connection.pipeline() if gathers else nullcontext()

    @property
    def patience(self) -> str | None:
        return None if self._foreign else LONGEST_LOCK

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        if self._foreign and self._connection.info.transaction_status == TransactionStatus.IDLE:
            self._connection.execute(
                "select"
            )  # begins the caller's, so that ours is inside and commits nothing
        with self._connection.transaction():
            yield

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        await self.run("notify", **notification(self._schema, channel, payloads))

    def job(self, row: Row) -> AnyJob:
        return _job(row)

    async def exchanged(self, rows: Sequence[Row]) -> tuple[int, list[AnyJob]]:
        return exchanged(rows, _job)


# Statements


@cache
def sql(name: Statement, schema: str) -> bytes:
    """Read a statement, `:name` written as psycopg reads it; the schema's own name holds no parameters."""
    text = PLACEHOLDER.sub(r"%(\1)s", statement("postgres", name))
    return in_schema(text, schema.replace("%", "%%")).encode()


# Values


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


def adapt(adapters: AdaptersMap) -> None:
    adapters.register_loader("timestamp", UtcLoader)
    set_json_loads(_from_json, context=_Context(adapters))


class _Context:
    """What psycopg wants to see where types are registered."""

    def __init__(self, adapters: AdaptersMap) -> None:
        self.adapters, self.connection = adapters, None


def _from_json(text: str | bytes) -> Any:
    """Read JSON; keep what is too deep to read, so that one odd row stops nobody."""
    try:
        return decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text.decode() if isinstance(text, bytes) else text


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


# Errors


@contextmanager
def translating() -> Iterator[None]:
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
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return DatabaseBusy(BUSY)
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return UnstorableData(text)
    if isinstance(error, UNAVAILABLE):
        return DatabaseUnavailable(text)
    return DatabaseError(text)
