"""One connection to PostgreSQL, spoken to in our words."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec
import psycopg
import psycopg_pool
from psycopg.abc import AdaptContext
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.datetime import TimestampBinaryLoader, TimestampLoader
from psycopg.types.json import set_json_loads

from staffa._cursor import position_of
from staffa._job import AnyJob, Job, State
from staffa.engines._sql.rows import EARLIEST, Row, notification, objects
from staffa.engines._sql.statements import PARAMETER, Statement, in_schema, statement
from staffa.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable, SchemaMissing, UnstorableData
from staffa.notifier import Payload

decode = msgspec.json.Decoder().decode

LONGEST_LOCK = "5s"
BUSY = (
    f"another transaction has held the key of this unique job for more than {LONGEST_LOCK}; "
    "to enqueue inside an open transaction of your own, use using(connection=...)"
)
READ_ONLY = psycopg.errors.ReadOnlySqlTransaction
UNAVAILABLE = (psycopg.OperationalError, READ_ONLY, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed)
LATEST = datetime.max.replace(tzinfo=UTC)
EPOCH, MICROSECONDS = datetime(2000, 1, 1, tzinfo=UTC), struct.Struct("!q")  # of timestamps in binary
IN_BINARY = (
    "exchange_jobs",
    "insert_jobs",
)  # which give many rows, none with a type that only this database has


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
                    await cursor.execute(sql(name, self._schema), _given(params), binary=name in IN_BINARY)
                return await cursor.fetchall() if _gives_rows(cursor) else []

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
        return _exchanged(rows)


class PlainSession:
    """Statements on a blocking connection, with cursor and row format of our own."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str, *, foreign: bool = False) -> None:
        self._connection, self._schema, self._foreign = connection, schema, foreign

    async def run(self, name: Statement, **params: Any) -> list[Row]:
        with translating(), psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            if self._foreign:
                adapt(cursor.adapters)
            with self._answered():
                cursor.execute(sql(name, self._schema), _given(params), binary=name in IN_BINARY)
            return cursor.fetchall() if _gives_rows(cursor) else []

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
        return _exchanged(rows)


# Statements


def _gives_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """Tell whether a statement gives rows; asked for a description, the cursor would describe each column."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


@cache
def sql(name: Statement, schema: str) -> bytes:
    """Read a statement, `:name` written as psycopg reads it; the schema's own name holds no parameters."""
    text = PARAMETER.sub(r"%(\1)s", statement("postgres", name))
    return in_schema(text, schema.replace("%", "%%")).encode()


# Values


def _given(params: dict[str, Any]) -> dict[str, Any]:
    """Write lists of integers as PostgreSQL reads them: the driver asks each of their members what it is."""
    return {
        name: f"{{{','.join(map(str, value))}}}" if type(value) is list and _is_integer(value) else value
        for name, value in params.items()
    }


def _is_integer(values: list[Any]) -> bool:
    return bool(values) and type(values[0]) is int


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


class UtcBinaryLoader(TimestampBinaryLoader):
    """Reads the same in binary, where one batch most often has few different ones."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._data, self._moment = b"", EARLIEST

    def load(self, data: Any) -> datetime:
        if data != self._data:
            self._data, self._moment = bytes(data), _moment(*MICROSECONDS.unpack(data))
        return self._moment


def _moment(microseconds: int) -> datetime:
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return EARLIEST if microseconds < 0 else LATEST


def adapt(adapters: AdaptersMap) -> None:
    adapters.register_loader("timestamp", UtcLoader)
    adapters.register_loader("timestamp", UtcBinaryLoader)
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


def _exchanged(rows: Sequence[Row]) -> tuple[int, list[AnyJob]]:
    """Read the row that counts acks and says what all jobs share, and the jobs, of which each is read fast."""
    [(acked, queue, attempted_at, attempted_by, *_)] = [row for row in rows if row[0] is not None]
    taken: list[AnyJob] = [
        Job(
            id=job_id,
            state=State.EXECUTING,
            queue=queue,
            worker=worker,
            args=args,
            meta={} if meta is None else objects(meta),
            tags=tags or [],
            errors=errors or [],
            attempt=attempt,
            max_attempts=max_attempts,
            priority=priority,
            inserted_at=inserted_at,
            scheduled_at=scheduled_at,
            attempted_at=attempted_at,
            completed_at=completed_at,
            cancelled_at=cancelled_at,
            attempted_by=[*attempted_by],
            take=take,
            unique_key=unique_key,
        )
        for (
            count,
            *_,
            job_id,
            worker,
            args,
            meta,
            tags,
            errors,
            attempt,
            max_attempts,
            priority,
            inserted_at,
            scheduled_at,
            completed_at,
            cancelled_at,
            take,
            unique_key,
        ) in rows
        if count is None
    ]
    taken.sort(key=position_of)
    return acked, taken


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
