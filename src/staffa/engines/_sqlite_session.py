"""One connection to SQLite, spoken to in our words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

import msgspec

from staffa._clock import instant, utc_now
from staffa._cursor import position_of
from staffa._filter import JobFilter
from staffa._job import AnyJob, Job, State
from staffa.engines._sql.rows import TAKE_BITS, Row, conditions, fence, filtered, read_job
from staffa.engines._sql.session import Session
from staffa.engines._sql.statements import Statement, quoted_name, split, statement
from staffa.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable, SchemaMissing, UnstorableData
from staffa.notifier import INSERT, Payload

T = TypeVar("T")

decode = msgspec.json.Decoder().decode
decode_jobs = msgspec.json.Decoder(list[Job[Any]]).decode

Execute = Callable[..., Iterable[Row]]

LONGEST_LOCK_SECONDS = 5.0
STEPS_BETWEEN_LOOKS = 10_000
BUSY = (
    f"another connection has held SQLite's write lock for more than {LONGEST_LOCK_SECONDS:.0f} s; "
    "to enqueue inside an open transaction of your own, use using(connection=...)"
)


class SqliteSession:
    """Statements on one connection.

    `told` is what to tell this process of inserts, `left_notices` whether it has notices to read, when they
    are committed.
    """

    patience: str | None = None  # its locks are those of the connection

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.told: list[Payload] = []
        self.left_notices = False

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Leave notices, which all read in one order; of inserts other processes see that the file changed."""
        if channel == INSERT:
            self.told += payloads
        else:
            texts = [msgspec.json.encode(payload).decode() for payload in payloads]
            await self.run("write_notices", channel=channel, payloads=texts)
            self.left_notices = True

    async def run(self, name: Statement, **params: Any) -> list[Row]:
        values = {key: encoded(value) for key, value in params.items()}
        values["now"] = instant(params.get("now") or utc_now())
        try:
            return self.rows(name, values)
        except sqlite3.Error as error:
            raise translated(error) from error

    def rows(self, name: Statement, values: dict[str, Any]) -> list[Row]:
        """Run the statements of a file one by one; give the rows of all."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        rows: list[Row] = []
        for sql in statements(name):
            rows += cursor.execute(sql, values).fetchall()
        return rows

    def together(self) -> nullcontext[None]:
        """See that the whole word is one transaction; a caller's holds the lock before we read what we change."""
        if not self._connection.in_transaction:
            with translating():
                self._connection.execute("begin immediate")
        return nullcontext()

    def job(self, row: Row) -> AnyJob:
        return job_of(row)

    async def exchanged(self, rows: Sequence[Row]) -> tuple[int, list[AnyJob]]:
        return await exchanged(self, rows)

    async def reindex(self, name: str, within: timedelta) -> None:
        """Rebuild an index, or give up when the time is over."""
        deadline = time.monotonic() + within.total_seconds()
        self._connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
        try:
            with translating():
                self._connection.execute(f"reindex main.{quoted_name(name)}")
        finally:
            self._connection.set_progress_handler(None, 0)

    async def on_tables(self, work: Callable[[Execute], T]) -> T:
        """Do what no statement of a file does; the write lock keeps everyone else out meanwhile."""
        with translating():
            return work(self._connection.execute)


# Statements


@cache
def statements(name: Statement) -> tuple[str, ...]:
    """Read the statements of a file; SQLite runs them one by one."""
    return split(statement("sqlite", name))


# Values


def encoded(value: Any) -> Any:
    match value:
        case list():
            return msgspec.json.encode(value).decode()
        case datetime():
            return instant(value.astimezone(UTC))
        case _:
            return value


def job_of(row: Row) -> AnyJob:
    return read_job(row, json=_from_json, moment=_instant)


async def exchanged(session: Session, rows: Sequence[Row]) -> tuple[int, list[AnyJob]]:
    """Read how many acks were applied, and the jobs taken: all at once, or row by row where one is odd."""
    [(acked, fences, text)] = rows
    if text is None:
        return acked, []
    taken = decode(fences)
    ids = [each >> TAKE_BITS for each in taken]
    jobs = _all_at_once(text)
    if [job.id for job in jobs] != ids:
        wanted = JobFilter(ids=ids)
        found = await session.run(filtered("list_jobs", wanted), **conditions(wanted), limit=len(ids))
        still_taken = [
            job for job in map(job_of, found) if fence(job) in taken and job.state is State.EXECUTING
        ]
        jobs = sorted(still_taken, key=position_of)
    return acked, jobs


def _all_at_once(text: bytes) -> list[AnyJob]:
    """Read jobs from one text; none where one of them is odd."""
    try:
        return decode_jobs(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _from_json(value: Any) -> Any:
    """Read JSON; keep what is none, or too deep to read, so that one odd row stops nobody."""
    try:
        return decode(value)
    except (msgspec.DecodeError, TypeError, RecursionError):
        return value


def _instant(text: str | None) -> datetime | None:
    """Read an instant, also as other programs may write it; None where it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# Errors


@contextmanager
def translating() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error) from error


def translated(error: sqlite3.Error) -> DatabaseError:
    """Name SQLite's errors in our words."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return DatabaseBusy(BUSY)
    if "no such table" in text or "no such column" in text:
        return SchemaMissing(f"{text}: run `staffa migrate` on this database first")
    if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError | sqlite3.InterfaceError):
        return UnstorableData(text)
    if isinstance(error, sqlite3.OperationalError) or "closed database" in text:
        return DatabaseUnavailable(text)
    return DatabaseError(text)
