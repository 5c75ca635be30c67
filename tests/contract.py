"""An engine on trial, and short ways of speaking to it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from staffa import Job, State, _lifecycle
from staffa._bridge import at_once
from staffa._filter import JobFilter
from staffa.engine import Ack, Database, Engine, Exchanged, ProducerInfo
from staffa.engines._sql.session import Session
from staffa.engines.sqlite import SqliteDatabase

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
LEASE = "staffa:test"


class InThread:
    """Blocking words, called from a thread each, so that one test speaks to every engine alike."""

    def __init__(self, word: Callable[..., Any]) -> None:
        self._word = word

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return lambda *args, **named: asyncio.to_thread(self._word, name, *args, **named)


def plainly(engine: Engine) -> Any:
    """Speak to the blocking words of an engine."""
    return InThread(lambda name, *args, **named: at_once(getattr(engine, name)(*args, **named)))


@dataclass
class Trial:
    """An engine, the database behind it, and a second way into that database."""

    engine: Any
    database: Database
    url: str

    @property
    def is_postgres(self) -> bool:
        return self.url.startswith("postgres")

    # The second way in

    async def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run SQL as somebody else would; `?` stands for a value."""
        return await asyncio.to_thread(self._sql, statement, values)

    def _sql(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self.is_postgres:
            with psycopg.connect(self.url, autocommit=True) as connection:
                cursor = connection.execute(statement.replace("?", "%s").encode(), values)
                return cursor.fetchall() if cursor.description else []
        database = self.database
        assert isinstance(database, SqliteDatabase)
        database.make_tables()
        if database.path == ":memory:":
            return database.writer.do(lambda session: _on_its_own(session, statement, values)).result()
        with closing(sqlite3.connect(database.path, isolation_level=None, timeout=10)) as connection:
            return connection.execute(statement, values).fetchall()

    @asynccontextmanager
    async def holding(self, statement: str, *values: Any) -> AsyncIterator[None]:
        """Keep a transaction of somebody else's open, on PostgreSQL."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            await connection.execute(statement.replace("?", "%s").encode(), values)
            yield
            await connection.rollback()

    async def change(self, job: Job, **columns: Any) -> None:
        """Overwrite columns of a row by hand."""
        await self.change_all(f"id = {job.id}", **columns)

    async def change_all(self, which: str, **columns: Any) -> None:
        """Overwrite columns of rows by hand."""
        changes = ", ".join(f"{column} = ?" for column in columns)
        await self.sql(f"update oban_jobs set {changes} where {which}", *columns.values())

    # Jobs

    async def insert(self, *jobs: Job, now: datetime = NOW) -> list[Job]:
        return list(await self.engine.insert(jobs, now=now))

    async def insert_many(self, count: int, **options: Any) -> list[Job]:
        return await self.insert(*(job(**options) for _ in range(count)))

    async def get(self, job: Job) -> Job:
        [found] = await self.engine.jobs(JobFilter(ids=[job.id or 0]))
        assert isinstance(found, Job)
        return found

    async def states(self) -> list[str]:
        """List the states of all jobs, by id."""
        return [
            str(row[0]) for row in await self.sql("select cast(state as text) from oban_jobs order by id")
        ]

    # Producers

    async def producer(self, queue: str = "default", node: str = "n1") -> ProducerInfo:
        info = ProducerInfo(id=str(uuid4()), node=node, queue=queue, limit=10)
        await self.engine.register([info])
        return info

    async def take(self, producer: ProducerInfo, demand: int = 10, *, now: datetime = NOW) -> list[Job]:
        taken: list[Job] = (await self.engine.exchange(producer, [], demand, now=now)).taken
        return taken

    async def hand_in(
        self, producer: ProducerInfo, *acks: tuple[Job, Job], demand: int = 0, now: datetime = NOW
    ) -> Exchanged:
        exchanged = await self.engine.exchange(producer, [Ack(*ack) for ack in acks], demand, now=now)
        assert isinstance(exchanged, Exchanged)
        return exchanged

    async def complete(self, producer: ProducerInfo, *held: Job, now: datetime = NOW) -> Exchanged:
        return await self.hand_in(producer, *((job, _lifecycle.completed(job, now)) for job in held), now=now)

    async def taken(self, job: Job, producer: ProducerInfo | None = None) -> tuple[ProducerInfo, Job]:
        """Store a job and take it."""
        producer = producer or await self.producer(job.queue)
        await self.insert(job)
        [held] = await self.take(producer, 1)
        return producer, held

    async def orphan(self, job: Job, times: int = 1) -> Job:
        """Let a job's producer die under it, and rescue it, as often as asked."""
        [stored] = await self.insert(job)
        for turn in range(times):
            moment = NOW + turn * HOUR
            await self.engine.stage(10, now=moment)
            producer = await self.producer()
            assert len(await self.take(producer, now=moment)) == 1
            await self.engine.retire([producer.id])
            [stored] = await self.engine.rescue(10, now=moment)
        return stored


def job(worker: str = "w", **options: Any) -> Job:
    return Job(worker=worker, **options)


def ids(jobs: Iterable[Job]) -> list[int]:
    return [each.id or 0 for each in jobs]


def these(wanted: Iterable[int | None]) -> JobFilter:
    return JobFilter(ids=wanted)


def failed(held: Job, error: str = "boom", delay: timedelta = SECOND) -> Job:
    return _lifecycle.failed(held, NOW, error, delay)


def error_of(found: Job) -> Mapping[str, Any]:
    return found.errors[-1]


def finals() -> dict[State, timedelta]:
    """Ages of one hour for each state that is pruned."""
    return dict.fromkeys((State.COMPLETED, State.CANCELLED, State.DISCARDED), HOUR)


async def _on_its_own(session: Session, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    connection: sqlite3.Connection = session._connection  # type: ignore[attr-defined]
    return connection.execute(statement, values).fetchall()
