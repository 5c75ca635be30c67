"""An exchange with SQLite is one step, whole or not at all, of which nobody but the writer knows."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from contract import NOW, Trial, failed, ids, job
from staffa import Job, State, _lifecycle
from staffa._bridge import at_once
from staffa._filter import JobFilter
from staffa.engine import Ack, Exchanged, ProducerInfo
from staffa.engines._sql.rows import fence
from staffa.engines._sql.session import Session
from staffa.engines._sqlite_session import Execute
from staffa.engines._sqlite_writer import HeadStart, Writer
from staffa.engines.sqlite import ACKS_WORTH_A_STEP, SqliteDatabase
from staffa.errors import DatabaseError, UnstorableData

DEADLINE_SECONDS = 10
MANY = ACKS_WORTH_A_STEP
NOBODY_TAKES = """
    create trigger nobody_takes before update on oban_jobs when new.state = 'executing'
    begin select raise(abort, 'not today'); end
"""


@pytest.fixture(params=["file", "memory"])
def database(request: pytest.FixtureRequest) -> Iterator[SqliteDatabase]:
    url = "sqlite://" if request.param == "memory" else str(request.getfixturevalue("sqlite_url"))
    database = SqliteDatabase(url)
    yield database
    database.dispose()


@pytest.fixture
def always_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("staffa.engines.sqlite.ACKS_WORTH_A_STEP", 0)


@pytest.fixture
def trial(database: SqliteDatabase, always_in_one_step: None) -> Trial:
    return Trial(database.engine, database, "sqlite")


@pytest.fixture
def in_file(on_sqlite: Trial) -> SqliteDatabase:
    assert isinstance(on_sqlite.database, SqliteDatabase)
    return on_sqlite.database


def completed(*held: Job) -> list[Ack]:
    return [Ack(each, _lifecycle.completed(each, NOW)) for each in held]


async def exchanged(
    trial: Trial, producer: ProducerInfo, *held: Job, demand: int = 10
) -> Exchanged | DatabaseError:
    try:
        answer = await trial.engine.exchange(producer, completed(*held), demand, now=NOW)
    except DatabaseError as error:
        return error
    assert isinstance(answer, Exchanged)
    return answer


# Whole or not at all


async def test_an_exchange_that_fails_takes_back_what_it_handed_in_and_the_next_one_works(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.insert(job())
    await trial.sql(NOBODY_TAKES)

    refused = await exchanged(trial, producer, held)
    assert isinstance(refused, UnstorableData)
    assert await trial.states() == ["executing", "available"]

    await trial.sql("drop trigger nobody_takes")
    answer = await exchanged(trial, producer, held)
    assert isinstance(answer, Exchanged)
    assert len(answer.taken) == 1
    assert await trial.states() == ["completed", "executing"]


async def test_an_exchange_that_fails_takes_back_what_it_settled_before(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.insert(job())
    await trial.sql(NOBODY_TAKES)
    with pytest.raises(UnstorableData):
        await trial.hand_in(producer, (held, failed(held)), demand=1)
    assert await trial.states() == ["executing", "available"]


async def test_an_exchange_that_fails_among_others_is_undone_alone(trial: Trial, database: SqliteDatabase):
    producer, held = await trial.taken(job())
    other, done = await trial.taken(job())
    await trial.insert(job())
    await trial.sql(NOBODY_TAKES)

    go_on = busy(database.writer)
    words = [
        asyncio.ensure_future(trial.insert(job())),
        asyncio.ensure_future(exchanged(trial, producer, held)),
        asyncio.ensure_future(exchanged(trial, other, done, demand=0)),
    ]
    await asyncio.sleep(0)
    go_on.set()
    _, refused, fine = await asyncio.gather(*words)

    assert isinstance(refused, UnstorableData)
    assert isinstance(fine, Exchanged)
    assert await trial.states() == ["executing", "completed", "available", "available"]


async def test_an_odd_row_that_is_ours_no_longer_when_it_is_read_alone_is_not_run(
    trial: Trial, database: SqliteDatabase
):
    _, ours = await trial.taken(job())
    _, cancelled = await trial.taken(job())
    _, again = await trial.taken(job())
    await trial.change(cancelled, state="cancelled")
    await trial.change(again, take=2)
    fences = f"[{fence(ours)}, {fence(cancelled)}, {fence(again)}]"

    _, taken = await asyncio.wrap_future(
        database.writer.do(lambda session: session.exchanged([(0, fences, b"[odd")]))
    )
    assert ids(taken) == ids([ours])


# Where the step is known


async def test_tables_change_freely_while_the_writer_knows_the_step(trial: Trial, database: SqliteDatabase):
    def change(execute: Execute) -> None:
        execute("drop table oban_jobs")
        execute("alter table staffa_queues rename to staffa_pauses")
        raise LookupError("changed my mind")

    producer, held = await trial.taken(job())
    with pytest.raises(LookupError):
        await asyncio.wrap_future(database.writer.do(lambda session: session.on_tables(change)))
    await exchanged(trial, producer, held)
    assert await trial.states() == ["completed"]


async def test_an_exchange_works_after_each_way_back_and_forth(trial: Trial, database: SqliteDatabase):
    for version in (0, 1, 2, 3):
        await asyncio.to_thread(database.make_tables)
        await asyncio.to_thread(database.tables.back, version)
        await asyncio.to_thread(database.make_tables)
        producer, held = await trial.taken(job())
        await exchanged(trial, producer, held)
        assert (await trial.get(held)).state is State.COMPLETED


@pytest.mark.usefixtures("always_in_one_step")
async def test_an_exchange_works_on_a_connection_that_was_opened_anew(in_file: SqliteDatabase):
    trial = Trial(in_file.engine, in_file, "sqlite")
    producer, held = await trial.taken(job())
    in_file.dispose()
    await exchanged(trial, producer, held)
    assert await trial.states() == ["completed"]


def test_an_exchange_on_a_callers_connection_is_the_callers_to_commit_and_leaves_nothing_there(
    in_file: SqliteDatabase,
):
    producer = ProducerInfo(id="p", node="n", queue="default", limit=9)
    at_once(in_file.plain.register([producer]))
    at_once(in_file.plain.insert([job(), job()]))
    with closing(sqlite3.connect(in_file.path)) as connection:
        engine = in_file.joined(connection)
        [held] = at_once(engine.exchange(producer, [], 1)).taken
        connection.commit()
        [never] = at_once(engine.exchange(producer, completed(held), 1)).taken
        connection.rollback()
        assert connection.execute("select count(*) from temp.sqlite_master").fetchall() == [(0,)]
    found = {each.id: each.state for each in at_once(in_file.plain.jobs(JobFilter()))}
    assert found == {held.id: State.EXECUTING, never.id: State.AVAILABLE}


# One after the other


@pytest.mark.usefixtures("always_in_one_step")
def test_a_large_exchange_is_answered_before_the_next_word_begins(in_file: SqliteDatabase):
    answered_before: list[bool] = []

    async def look(_: Session) -> None:
        answered_before.append(exchange.done())

    async def nothing(_: Session) -> None: ...

    go_on = busy(in_file.writer)
    in_file.writer.do(nothing)
    exchange = in_file.writer.exchange(nothing)
    after = in_file.writer.do(look)
    go_on.set()
    after.result(DEADLINE_SECONDS)
    assert answered_before == [True]


# The head start


@pytest.mark.usefixtures("always_in_one_step")
async def test_who_gives_a_head_start_goes_on_when_the_step_begins(
    in_file: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
):
    trial = Trial(in_file.engine, in_file, "sqlite")
    producer, held = await trial.taken(job())
    go_on = busy(in_file.writer)
    given: list[HeadStart] = []

    def give(head_start: HeadStart) -> None:
        given.append(head_start)
        go_on.set()
        really_give(head_start)

    really_give = HeadStart.give
    monkeypatch.setattr(HeadStart, "give", give)
    monkeypatch.setattr("staffa.engines._sqlite_writer.LONGEST_HEAD_START_SECONDS", 2 * DEADLINE_SECONDS)

    with closing(sqlite3.connect(in_file.path, isolation_level=None)) as other:
        other.execute("begin immediate")
        handing_in = asyncio.ensure_future(exchanged(trial, producer, held))
        await asyncio.sleep(0)
        in_file.writer.give_head_start()
        other.execute("rollback")
    assert isinstance(await asyncio.wait_for(handing_in, DEADLINE_SECONDS), Exchanged)
    assert len(given) == 1
    assert await trial.states() == ["completed"]


async def test_a_writer_that_is_in_its_step_or_has_nothing_to_do_is_not_waited_for(
    in_file: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("staffa.engines._sqlite_writer.LONGEST_HEAD_START_SECONDS", -1)  # for ever
    await in_file.engine.insert([job()])
    await asyncio.to_thread(in_file.writer.give_head_start)

    head_start = HeadStart()
    with head_start:
        await asyncio.to_thread(head_start.give)


@pytest.mark.parametrize(("acks", "given"), [(MANY - 1, 0), (MANY, 1)])
async def test_a_large_exchange_that_is_answered_gives_the_next_one_a_head_start(
    in_file: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, acks: int, given: int
):
    starts = counted(monkeypatch)
    trial = Trial(in_file.engine, in_file, "sqlite")
    producer, *held = await many(trial, acks)
    await exchanged(trial, producer, *held)
    assert len(starts) == given


def test_who_blocks_for_an_answer_gives_no_head_start(
    in_file: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
):
    starts = counted(monkeypatch)
    producer = ProducerInfo(id="p", node="n", queue="default", limit=MANY)
    at_once(in_file.plain.register([producer]))
    at_once(in_file.plain.insert([job() for _ in range(MANY)]))
    taken = at_once(in_file.plain.exchange(producer, [], MANY)).taken
    at_once(in_file.plain.exchange(producer, completed(*taken), 0))
    assert starts == []


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """Give a list that grows by each head start."""
    starts: list[Writer] = []

    def give(writer: Writer) -> None:
        starts.append(writer)

    monkeypatch.setattr(Writer, "give_head_start", give)
    return starts


async def many(trial: Trial, count: int) -> tuple[Any, ...]:
    """Give a producer, and as many jobs that it took."""
    producer = await trial.producer()
    await trial.insert_many(count)
    return producer, *await trial.take(producer, count)


def busy(writer: Writer) -> threading.Event:
    """Keep the writer busy until the event that is given is set."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(DEADLINE_SECONDS)

    writer._soon(wait)
    assert begun.wait(DEADLINE_SECONDS)
    return go_on
