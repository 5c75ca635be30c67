"""The thread that owns SQLite's connection outlives everything that happens around it."""

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

from contract import HOUR, NOW, Trial, ids, job
from staffa import Lifeline, Staffa, State
from staffa._bridge import at_once
from staffa._filter import JobFilter
from staffa._job import AnyJob
from staffa.engine import Staged
from staffa.engines._sqlite_session import SqliteSession
from staffa.engines.sqlite import SqliteDatabase
from staffa.errors import DatabaseBusy, DatabaseUnavailable, UnstorableData


@pytest.fixture
def database(on_sqlite: Trial) -> SqliteDatabase:
    assert isinstance(on_sqlite.database, SqliteDatabase)
    return on_sqlite.database


@pytest.fixture
def impatient(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> SqliteDatabase:
    """Have tables, and a writer that waits for the lock for a moment only."""
    monkeypatch.setattr("staffa.engines._sqlite_writer.LONGEST_LOCK_SECONDS", 0.1)
    database.make_tables()
    database.dispose()
    return database


@contextmanager
def another_writes(database: SqliteDatabase) -> Iterator[None]:
    """Hold the write lock from another connection."""
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("begin immediate")
        yield


async def test_the_writer_goes_on_when_watching_ends_while_it_looks(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
):
    await database.engine.insert([job()])
    versions = itertools.count(1)

    def look(_: sqlite3.Connection) -> int:
        ending = threading.Thread(target=database.writer.look_away)
        ending.start()
        ending.join()
        return next(versions)

    monkeypatch.setattr("staffa.engines._sqlite_writer._data_version", look)
    database.writer.watch(lambda _: None)
    await database.engine.insert([job()])
    assert await asyncio.wait_for(database.engine.insert([job()]), 10)
    assert next(versions) == 2


async def test_a_word_that_fails_undoes_itself_alone(database: SqliteDatabase):
    good, bad, fine = await asyncio.gather(
        database.engine.insert([job(), job()]),
        database.engine.insert([job(), job(queue=None)]),
        database.engine.insert([job()]),
        return_exceptions=True,
    )
    assert isinstance(bad, UnstorableData)
    assert sorted(ids(good) + ids(fine)) == sorted(ids(await database.engine.jobs(JobFilter())))


async def test_a_word_that_fails_halfway_leaves_nothing_and_the_next_one_stays(database: SqliteDatabase):
    def change(each: AnyJob) -> dict[str, object]:
        if each.id == second.id:
            raise ValueError("no")
        return {"priority": 9}

    async def halfway(session: SqliteSession) -> None:
        await session.run("forget_pauses", queue="q", node="")
        await session.run("write_pause", queue="q", node="", paused=True)
        raise ValueError("no")

    first, second = await database.engine.insert([job(), job()])
    with pytest.raises(ValueError, match="no"):
        await asyncio.wrap_future(database.writer.do(halfway))
    with pytest.raises(ValueError, match="no"):
        await database.engine.update(JobFilter(ids=[first.id, second.id]), change)
    third = await database.engine.insert([job()])
    assert await database.engine.pauses() == []
    found = await database.engine.jobs(JobFilter())
    assert [(each.id, each.priority) for each in found] == [
        (each, 0) for each in ids([*third, second, first])
    ]


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_whatever_a_callers_function_raises_inside_is_for_that_caller_alone(
    database: SqliteDatabase, raised: type[BaseException]
):
    def change(_: AnyJob) -> dict[str, object]:
        raise raised("said by a function of somebody's")

    [stored] = await database.engine.insert([job()])
    with pytest.raises(raised):
        at_once(database.plain.update(JobFilter(ids=[stored.id]), change))
    assert await asyncio.wait_for(database.engine.insert([job()]), 10)


async def test_a_caller_that_gave_up_waiting_stops_nobody(database: SqliteDatabase):
    given_up = [asyncio.ensure_future(database.engine.insert([job()])) for _ in range(20)]
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    assert len(await asyncio.wait_for(database.engine.insert([job()]), 10)) == 1


async def test_it_can_be_stopped_and_used_again(database: SqliteDatabase):
    before = await database.engine.insert([job()])
    database.dispose()
    after = await database.engine.insert([job()])
    assert ids(await database.engine.jobs(JobFilter())) == [after[0].id, before[0].id]


def test_a_database_in_memory_can_be_used_again_and_is_empty():
    staffa = Staffa("sqlite://", run_queues=False)
    staffa.insert(job())
    staffa.close()
    assert staffa.jobs() == []
    staffa.close()


async def test_words_that_wait_when_it_is_stopped_are_still_answered(database: SqliteDatabase):
    await database.engine.insert([job()])
    waiting = [database.writer.do(lambda session: session.run("clock")) for _ in range(50)]
    database.dispose()
    assert all(future.result(10) for future in waiting)


async def test_a_lock_of_somebody_else_fails_words_in_time_and_none_afterwards(impatient: SqliteDatabase):
    with another_writes(impatient):
        with pytest.raises(DatabaseBusy, match="write lock"):
            await impatient.engine.insert([job()])
        assert await impatient.engine.jobs(JobFilter()) == []
    assert len(await impatient.engine.insert([job()])) == 1


async def test_whoever_finds_nothing_due_waits_for_no_writer(database: SqliteDatabase):
    await database.engine.insert([job(state=State.SCHEDULED, scheduled_at=NOW + HOUR)], now=NOW)
    with another_writes(database):
        queues, next_in = await database.engine.stage(10, now=NOW)
        assert queues == {}
        assert HOUR <= next_in <= HOUR + timedelta(milliseconds=1)
    assert await database.engine.stage(10, now=NOW + HOUR) == Staged({"default": 1}, None)


async def test_whoever_judges_who_is_dead_sees_that_nobody_can_write(impatient: SqliteDatabase):
    with another_writes(impatient), pytest.raises(DatabaseBusy):
        await Lifeline().tick(impatient.engine)


async def test_a_look_that_fails_fails_alone(database: SqliteDatabase):
    async def bad(session: SqliteSession) -> None:
        await session.run("list_pauses")
        raise ValueError("no")

    await database.engine.insert([job()])
    found, failed, again = await asyncio.gather(
        database.engine.jobs(JobFilter()),
        asyncio.wrap_future(database.reader.do(bad)),
        database.engine.jobs(JobFilter()),
        return_exceptions=True,
    )
    assert isinstance(failed, ValueError)
    assert len(found) == len(again) == 1


async def test_a_connection_that_cannot_look_is_replaced(database: SqliteDatabase):
    async def closing_it(session: SqliteSession) -> None:
        session._connection.close()
        await session.run("list_pauses")

    await database.engine.insert([job()])
    with pytest.raises(DatabaseUnavailable):
        await asyncio.wrap_future(database.reader.do(closing_it))
    assert len(await database.engine.jobs(JobFilter())) == 1
