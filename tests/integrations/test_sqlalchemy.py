"""Enqueueing in transactions of SQLAlchemy."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from staffa import Job, JobFilter, Staffa, Worker
from staffa.errors import DatabaseBusy, SchemaMissing, UnsupportedConnection


class Welcome(Worker):
    def perform(self, job):
        return None


def for_driver(url: str, driver: str | None = None) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}+{driver}://{rest}" if driver else url


@pytest.fixture
def staffa(make: Callable[..., Staffa]) -> Iterator[Staffa]:
    with make(testing="manual").as_default() as instance:
        yield instance


@pytest.fixture
def sql(url: str):
    driver = "psycopg" if url.startswith("postgres") else None
    engine = create_engine(for_driver(url, driver))
    yield engine
    engine.dispose()


@pytest.fixture
async def awaited_sql(url: str):
    engine = create_async_engine(for_driver(url, "psycopg" if url.startswith("postgres") else "aiosqlite"))
    yield engine
    await engine.dispose()


def test_a_session_that_commits_makes_its_job_visible(staffa: Staffa, sql: Engine):
    with Session(sql) as session:
        stored = Welcome.using(connection=session, queue="mail", tags=["new"]).enqueue(user_id=1)
        assert staffa.jobs() == []
        session.commit()

    [job] = staffa.jobs()
    assert job == stored
    assert (job.args, job.queue, job.tags) == ({"user_id": 1}, "mail", ["new"])


def test_a_session_that_rolls_back_leaves_nothing(staffa: Staffa, sql: Engine):
    with Session(sql) as session:
        Welcome.using(connection=session).enqueue()
        session.rollback()

    assert staffa.jobs() == []


def test_a_session_that_fails_in_its_block_leaves_nothing(staffa: Staffa, sql: Engine):
    def fail_after_enqueueing():
        with Session(sql) as session, session.begin():
            Welcome.using(connection=session).enqueue()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_enqueueing()

    assert staffa.jobs() == []


def test_a_nested_transaction_that_is_undone_takes_its_job_with_it(staffa: Staffa, sql: Engine):
    with Session(sql) as session, session.begin():
        Welcome.using(connection=session).enqueue(kept=True)
        nested = session.begin_nested()
        Welcome.using(connection=session).enqueue(kept=False)
        nested.rollback()

    assert [job.args for job in staffa.jobs()] == [{"kept": True}]


def test_a_connection_begun_by_the_first_job_commits_when_told_to(staffa: Staffa, sql: Engine):
    with sql.connect() as connection:
        Welcome.using(connection=connection).enqueue()
        assert connection.in_transaction()
        connection.commit()

    assert len(staffa.jobs()) == 1


def test_a_connection_that_is_closed_without_commit_leaves_nothing(staffa: Staffa, sql: Engine):
    with sql.connect() as connection:
        Welcome.using(connection=connection).enqueue()

    assert staffa.jobs() == []


def test_the_caller_s_own_rows_and_the_job_are_stored_together(staffa: Staffa, sql: Engine):
    with sql.connect() as connection:
        connection.execute(text("create temporary table users (id integer)"))
        connection.commit()
        for kept in (False, True):
            connection.execute(text("insert into users values (1)"))
            Welcome.using(connection=connection).enqueue(kept=kept)
            (connection.commit if kept else connection.rollback)()
        assert connection.scalar(text("select count(*) from users")) == 1

    assert [job.args for job in staffa.jobs()] == [{"kept": True}]


def test_a_scoped_session_is_joined_as_the_session_it_stands_for(staffa: Staffa, sql: Engine):
    sessions = scoped_session(sessionmaker(sql))
    Welcome.using(connection=sessions).enqueue()
    assert staffa.jobs() == []
    sessions.commit()
    sessions.remove()

    assert len(staffa.jobs()) == 1


def test_many_jobs_join_a_session_in_one_call(staffa: Staffa, sql: Engine):
    with Session(sql) as session, session.begin():
        stored = staffa.insert_all([Welcome.new(number=n) for n in range(20)], connection=session)

    assert [job.args["number"] for job in stored] == list(range(20))
    assert sorted(job.id for job in staffa.jobs()) == [job.id for job in stored]


def test_instants_are_right_when_the_job_is_scheduled(staffa: Staffa, sql: Engine):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with Session(sql) as session, session.begin():
        if sql.dialect.name == "postgresql":
            session.execute(text("set time zone 'Asia/Kolkata'"))
        stored = Welcome.using(connection=session, scheduled_at=tomorrow).enqueue()

    [job] = staffa.jobs()
    assert job.scheduled_at == stored.scheduled_at == tomorrow
    assert job.inserted_at == stored.inserted_at
    assert abs(job.inserted_at - datetime.now(UTC)) < timedelta(minutes=5)


async def test_commit_wakes_a_running_queue(make: Callable[..., Staffa], sql: Engine):
    ran = asyncio.Event()

    class Woken(Worker, name="test_sqlalchemy.Woken"):
        async def perform(self, job):
            ran.set()

    running = make(poll=timedelta(minutes=5))
    enqueuing = make(run_queues=False)
    async with running, asyncio.timeout(20):
        with Session(sql) as session:
            Woken.using(connection=session, instance=enqueuing).enqueue()
            session.commit()
        await ran.wait()


# Awaited


async def test_an_awaited_session_that_commits_makes_its_job_visible(
    staffa: Staffa, awaited_sql: AsyncEngine
):
    async with AsyncSession(awaited_sql) as session:
        stored = await Welcome.using(connection=session).aenqueue(user_id=1)
        assert await staffa.ajobs() == []
        await session.commit()

    assert await staffa.ajobs() == [stored]


async def test_an_awaited_session_that_rolls_back_leaves_nothing(staffa: Staffa, awaited_sql: AsyncEngine):
    async with AsyncSession(awaited_sql) as session:
        await Welcome.using(connection=session).aenqueue()
        await session.rollback()

    assert await staffa.ajobs() == []


async def test_an_awaited_connection_joins_too(staffa: Staffa, awaited_sql: AsyncEngine):
    async with awaited_sql.begin() as connection:
        await Welcome.using(connection=connection).aenqueue(kept=True)
    async with awaited_sql.connect() as connection:
        await Welcome.using(connection=connection).aenqueue(kept=False)
        await connection.rollback()

    assert [job.args for job in await staffa.ajobs()] == [{"kept": True}]


async def test_an_awaited_scoped_session_is_joined_as_the_session_it_stands_for(
    staffa: Staffa, awaited_sql: AsyncEngine
):
    sessions = async_scoped_session(async_sessionmaker(awaited_sql), scopefunc=asyncio.current_task)
    await Welcome.using(connection=sessions).aenqueue()
    await sessions.commit()
    await sessions.remove()

    assert len(await staffa.ajobs()) == 1


async def test_a_blocking_call_with_an_awaited_session_names_aenqueue_and_sends_nothing(
    staffa: Staffa, awaited_sql: AsyncEngine
):
    async with AsyncSession(awaited_sql) as session:
        await session.execute(text("select 1"))
        with pytest.raises(UnsupportedConnection, match="await aenqueue"):
            Welcome.using(connection=session).enqueue()
        await session.execute(text("select 1"))
        await session.commit()

    assert await staffa.ajobs() == []


async def test_a_plain_session_may_be_used_by_awaited_callers(staffa: Staffa, sql: Engine):
    with Session(sql) as session, session.begin():
        await Welcome.using(connection=session).aenqueue()

    assert len(await staffa.ajobs()) == 1


def test_a_plain_session_needs_no_greenlet(sqlite_url: str):
    program = textwrap.dedent("""
        import sys
        sys.modules["greenlet"] = None

        from sqlalchemy import create_engine
        from sqlalchemy.orm import Session, scoped_session, sessionmaker
        from staffa import Job, JobFilter, Staffa, Worker

        class Welcome(Worker, name="welcome"): ...

        staffa, engine = Staffa(sys.argv[1]), create_engine(sys.argv[1])
        with Session(engine) as session, session.begin():
            Welcome.using(connection=session).enqueue()
        with scoped_session(sessionmaker(engine))() as session, session.begin():
            Welcome.using(connection=session).enqueue()
        print(len(staffa.jobs()))
    """)
    ended = subprocess.run(
        [sys.executable, "-c", program, sqlite_url], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "2"


# Refusals


def test_a_connection_in_autocommit_is_refused(staffa: Staffa, sql: Engine):
    with (
        sql.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(UnsupportedConnection, match="autocommit"),
    ):
        Welcome.using(connection=connection).enqueue()

    assert staffa.jobs() == []


def test_an_engine_in_autocommit_is_refused(staffa: Staffa, url: str, sql: Engine):
    always = create_engine(sql.url, isolation_level="AUTOCOMMIT")
    with Session(always) as session, pytest.raises(UnsupportedConnection, match="autocommit"):
        Welcome.using(connection=session).enqueue()
    always.dispose()

    assert staffa.jobs() == []


async def test_an_awaited_connection_in_autocommit_is_refused(staffa: Staffa, awaited_sql: AsyncEngine):
    async with awaited_sql.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(UnsupportedConnection, match="autocommit"):
            await Welcome.using(connection=connection).aenqueue()

    assert await staffa.ajobs() == []


def test_a_connection_to_another_kind_of_database_is_refused(staffa: Staffa, request: pytest.FixtureRequest):
    other = "sqlite_url" if staffa.url.startswith("postgres") else "postgres_url"
    url = request.getfixturevalue(other)
    engine = create_engine(for_driver(url, "psycopg" if other == "postgres_url" else None))
    with (
        engine.connect() as connection,
        pytest.raises(UnsupportedConnection, match="cannot join a connection to"),
    ):
        Welcome.using(connection=connection).enqueue()
    engine.dispose()


def test_an_engine_is_no_connection(staffa: Staffa, sql: Engine):
    with pytest.raises(UnsupportedConnection, match=r"^Engine of SQLAlchemy .* give a Connection, Session"):
        Welcome.using(connection=sql).enqueue()


def test_a_session_without_a_database_is_refused(staffa: Staffa):
    with pytest.raises(UnsupportedConnection, match="bound to several databases, or to none"):
        Welcome.using(connection=Session()).enqueue()


def test_a_database_in_memory_refuses_sessions():
    instance = Staffa("sqlite://", testing="manual")
    engine = create_engine("sqlite://")
    with Session(engine) as session, pytest.raises(UnsupportedConnection, match="needs a file"):
        Welcome.using(connection=session, instance=instance).enqueue()
    engine.dispose()
    instance.close()


def test_inline_mode_needs_no_transaction(sql: Engine):
    instance = Staffa("sqlite://", testing="inline")
    with Session(sql) as session:
        assert Welcome.using(connection=session, instance=instance).enqueue().state == "completed"
    instance.close()


def test_missing_tables_are_named_with_their_cure(empty_postgres_url: str):
    instance = Staffa(empty_postgres_url, testing="manual")
    engine = create_engine(for_driver(empty_postgres_url, "psycopg"))
    with Session(engine) as session, pytest.raises(SchemaMissing, match="staffa migrate"):
        Welcome.using(connection=session, instance=instance).enqueue()
    engine.dispose()
    instance.close()


def test_what_the_database_refuses_is_told_as_ours(staffa: Staffa, sql: Engine):
    staffa.migrate()
    with Session(sql) as session:
        session.execute(text("drop table oban_jobs"))
        with pytest.raises(SchemaMissing, match="staffa migrate"):
            Welcome.using(connection=session).enqueue()


# Acting on jobs


def test_jobs_are_acted_on_in_the_transaction_of_a_session(staffa: Staffa, sql: Engine):
    first, second = (Welcome.enqueue(user_id=each, tags=["x"]) for each in (1, 2))
    with Session(sql) as session:
        assert staffa.get(first.id, connection=session) == first
        assert staffa.jobs(args={"user_id": 2}, connection=session) == [second]
        [cancelled] = staffa.cancel(first, connection=session)
        updated = staffa.update(second, args={"user_id": 3}, meta={"why": ["é", None]}, connection=session)
        assert staffa.count(states="cancelled", connection=session) == 1
        assert (staffa.get(first.id), staffa.get(second.id)) == (first, second)
        session.commit()

    assert (staffa.get(first.id), staffa.get(second.id)) == (cancelled, updated)
    with Session(sql) as session:
        assert staffa.retry_all(args={"user_id": 1}, connection=session) == [first.id]
        assert staffa.update_all(JobFilter(), priority=3, connection=session) == [first.id, second.id]
        assert staffa.delete(first, second, connection=session) == [first.id, second.id]
        session.rollback()

    assert (staffa.get(first.id), staffa.get(second.id)) == (cancelled, updated)


async def test_jobs_are_acted_on_in_the_transaction_of_an_awaited_session(
    staffa: Staffa, awaited_sql: AsyncEngine
):
    stored = await Welcome.aenqueue(user_id=1)
    async with AsyncSession(awaited_sql) as session:
        assert await staffa.acancel_all(args={"user_id": 1}, connection=session) == [stored.id]
        assert await staffa.aretry(stored, connection=session) != []
        changed = await staffa.aupdate(stored, lambda job: {"meta": {"seen": job.args}}, connection=session)
        assert (await staffa.aget(stored.id)) == stored
        await session.commit()

    assert changed.meta == {"seen": {"user_id": 1}}
    assert await staffa.aget(stored.id) == changed


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_every_driver_of_postgres_reads_the_same_job(
    make_on: Callable[[str], Staffa], postgres_url: str, driver: str
):
    staffa = make_on(postgres_url)
    engine = create_engine(for_driver(postgres_url, driver))
    stored = _job_with_history(staffa)
    with engine.connect() as connection:
        assert staffa.jobs(JobFilter(tags=["a"], nodes="n"), connection=connection) == [stored]
        assert staffa.retry_all(JobFilter(meta={"m": {}}), connection=connection) == [stored.id]
        connection.rollback()
    engine.dispose()


async def test_asyncpg_reads_the_same_job(make_on: Callable[[str], Staffa], postgres_url: str):
    staffa = make_on(postgres_url)
    engine = create_async_engine(for_driver(postgres_url, "asyncpg"))
    stored = await asyncio.to_thread(_job_with_history, staffa)
    async with engine.connect() as connection:
        assert await staffa.ajobs(JobFilter(tags=["a"], nodes="n"), connection=connection) == [stored]
        assert await staffa.aretry_all(JobFilter(meta={"m": {}}), connection=connection) == [stored.id]
        assert await staffa.aupdate_all(JobFilter(), args={"a": "1"}, tags=["b"], connection=connection) != []
        await connection.rollback()
    await engine.dispose()


@pytest.fixture
def make_on() -> Iterator[Callable[[str], Staffa]]:
    made = []

    def make_one(url: str) -> Staffa:
        made.append(Staffa(url, testing="manual"))
        return made[-1]

    yield make_one
    for instance in made:
        instance.close()


def _job_with_history(staffa: Staffa) -> Job:
    stored = staffa.insert(
        Job(worker="w", args={"a": "1", "b": [None]}, tags=["a", "1"], meta={"m": {"x": 1.5}})
    )
    with psycopg.connect(staffa.url) as connection:
        connection.execute(
            "update oban_jobs set state = 'discarded', attempt = 1, attempted_at = now(), discarded_at = now(),"
            ' attempted_by = array[\'n\', \'p\'], errors = array[\'{"at": "x", "error": "1"}\'::jsonb]'
        )
    [found] = staffa.jobs(ids=stored.id)
    return found


class Unique(Worker, unique=True, replace=["meta", "scheduled_at"]):
    def perform(self, job):
        return None


ODD = {"text": "Ærø — 🎉", "big": 2**63, "fraction": 0.1, "nested": {"list": [1, [None, True]], "": {}}}
RICH = {"meta": {"n": [1, {"deep": ODD}]}, "tags": ["ä", "b"], "priority": 3}


def test_a_unique_job_that_is_there_is_read_through_the_session(staffa: Staffa, sql: Engine):
    there = Unique.using(**RICH).enqueue(**ODD)
    with Session(sql) as session, session.begin():
        answer = Unique.using(connection=session, replace=[]).enqueue(**ODD)

    assert answer.conflict
    assert answer == there == staffa.get(there.id)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_unique_jobs_go_through_every_driver_of_postgres(
    make_on: Callable[[str], Staffa], postgres_url: str, driver: str
):
    staffa = make_on(postgres_url)
    there = staffa.insert(Unique.using(**RICH).new(**ODD))
    engine = create_engine(for_driver(postgres_url, driver))
    with Session(engine) as session, session.begin():
        answers = staffa.insert_all(asked_again(), connection=session)
    engine.dispose()

    assert_answered(answers, there)
    assert staffa.get(answers[1].id) == answers[2]


async def test_unique_jobs_go_through_asyncpg(make_on: Callable[[str], Staffa], postgres_url: str):
    staffa = make_on(postgres_url)
    there = await staffa.ainsert(Unique.using(**RICH).new(**ODD))
    engine = create_async_engine(for_driver(postgres_url, "asyncpg"))
    async with AsyncSession(engine) as session, session.begin():
        answers = await staffa.ainsert_all(asked_again(), connection=session)
    await engine.dispose()

    assert_answered(answers, there)


def asked_again() -> list[Job]:
    return [Unique.using(replace=[]).new(**ODD), Unique.new(), Unique.using(meta={"new": 1}).new()]


def assert_answered(answers: list[Job], there: Job) -> None:
    known, first, second = answers
    assert (known, known.conflict) == (there, True)
    assert (first, first.conflict) == (second, False)
    assert (second.conflict, second.meta) == (True, {"new": 1})


def test_a_session_stores_equal_jobs_once_and_takes_back_what_it_changed(staffa: Staffa, sql: Engine):
    with Session(sql) as session, session.begin():
        first = Unique.using(connection=session, schedule_in=timedelta(hours=1)).enqueue()
        second = Unique.using(connection=session, meta={"new": 1}).enqueue()
        assert (second.id, second.conflict, second.meta) == (first.id, True, {"new": 1})
    with Session(sql) as session:
        assert Unique.using(connection=session, meta={"new": 2}).enqueue().meta == {"new": 2}
        session.rollback()

    assert staffa.jobs() == [second]


async def test_an_awaited_session_answers_with_the_job_that_is_there(
    staffa: Staffa, awaited_sql: AsyncEngine
):
    there = await Unique.using(**RICH).aenqueue(**ODD)
    async with AsyncSession(awaited_sql) as session, session.begin():
        answer, other = await staffa.ainsert_all(
            [Unique.using(replace=[]).new(**ODD), Unique.new()], connection=session
        )

    assert (answer.conflict, other.conflict) == (True, False)
    assert answer == there
    assert await staffa.aget(other.id) == other


# SQLite's transactions, in the ways SQLAlchemy's users run them


def test_a_sqlite_engine_that_emits_begin_itself_is_joined(sqlite_url: str):
    instance = Staffa(sqlite_url, testing="manual")
    engine = create_engine(sqlite_url)

    @event.listens_for(engine, "connect")
    def leave_transactions_alone(connection, _):
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("begin")

    with Session(engine) as session:
        Welcome.using(connection=session, instance=instance).enqueue(kept=False)
        session.rollback()
        Welcome.using(connection=session, instance=instance).enqueue(kept=True)
        session.commit()
    with engine.connect() as connection:
        Welcome.using(connection=connection, instance=instance).enqueue(kept=False)
        connection.rollback()
    engine.dispose()

    assert [job.args for job in instance.jobs()] == [{"kept": True}]
    instance.close()


def test_the_first_job_of_a_sqlite_file_makes_its_tables(sqlite_url: str):
    instance = Staffa(sqlite_url, testing="manual")
    engine = create_engine(sqlite_url)
    with Session(engine) as session, session.begin():
        Welcome.using(connection=session, instance=instance).enqueue()
        inside = session.scalar(sqlalchemy.text("select count(*) from oban_jobs"))
    engine.dispose()

    assert inside == len(instance.jobs()) == 1
    instance.close()


async def test_tables_are_made_inside_a_transaction_that_already_writes(sqlite_url: str):
    instance = Staffa(sqlite_url, testing="manual")
    engine = create_async_engine(for_driver(sqlite_url, "aiosqlite"))
    async with engine.connect() as connection:
        await connection.execute(text("create table users (id integer)"))
        for kept in (False, True):
            await connection.execute(text("insert into users values (1)"))
            await Welcome.using(connection=connection, instance=instance).aenqueue(kept=kept)
            await (connection.commit() if kept else connection.rollback())
    await engine.dispose()

    assert [job.args for job in await instance.ajobs()] == [{"kept": True}]
    instance.close()


def test_a_write_lock_of_somebody_else_is_told_as_ours(sqlite_url: str):
    instance = Staffa(sqlite_url, testing="manual")
    instance.migrate()
    impatient = create_engine(sqlite_url, connect_args={"timeout": 0.05})
    patient = create_engine(sqlite_url)
    with Session(patient) as holder, Session(impatient) as session:
        Welcome.using(connection=holder, instance=instance).enqueue()
        with pytest.raises(DatabaseBusy, match="another connection holds SQLite's write lock"):
            Welcome.using(connection=session, instance=instance).enqueue()
    impatient.dispose()
    patient.dispose()
    instance.close()
