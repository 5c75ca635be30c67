"""Enqueueing inside a transaction of the caller's own connection."""

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row

from nodes import eventually
from staffa import Job, Staffa, Worker, job
from staffa.engines import sqlite
from staffa.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable, UnsupportedConnection

AT_NOON_IN_INDIA = datetime(2030, 1, 2, 6, 30, tzinfo=UTC)


class Welcome(Worker):
    def perform(self, job):
        return None


@job(name="test_transactions.greet")
def greet(user_id: int, *, locale: str = "en") -> None:
    return None


def connected(url: str, **options):
    """Connect as an application would, with the library's own defaults."""
    if url.startswith("sqlite"):
        return closing(sqlite3.connect(sqlite.path_of(url), **options))
    return closing(psycopg.connect(url, **options))


async def awaited(url: str, **options) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, **options)


@pytest.fixture
def staffa(make: Callable[..., Staffa]) -> Iterator[Staffa]:
    with make(testing="manual").as_default() as instance:
        yield instance


@pytest.fixture
def on_sqlite(sqlite_url: str) -> Iterator[Staffa]:
    instance = Staffa(sqlite_url, testing="manual")
    with instance.as_default():
        yield instance
    instance.close()


@pytest.fixture
def on_postgres(postgres_url: str) -> Iterator[Staffa]:
    instance = Staffa(postgres_url, testing="manual")
    with instance.as_default():
        yield instance
    instance.close()


# What a transaction promises


def test_commit_makes_the_job_visible(staffa: Staffa):
    with connected(staffa.url) as db:
        stored = Welcome.using(connection=db, queue="mail").enqueue(user_id=1)
        assert staffa.jobs() == []
        db.commit()

    assert staffa.jobs() == [stored]
    assert (stored.queue, stored.args) == ("mail", {"user_id": 1})


def test_rollback_leaves_nothing(staffa: Staffa):
    with connected(staffa.url) as db:
        Welcome.using(connection=db).enqueue()
        db.rollback()

    assert staffa.jobs() == []


def test_closing_without_commit_leaves_nothing(staffa: Staffa):
    with connected(staffa.url) as db:
        Welcome.using(connection=db).enqueue()

    assert staffa.jobs() == []


def test_a_job_never_ends_the_caller_s_transaction(staffa: Staffa):
    with connected(staffa.url) as db:
        db.execute("create temporary table users (id integer)")
        db.commit()
        db.execute("insert into users values (1)")
        Welcome.using(connection=db).enqueue()
        db.execute("insert into users values (2)")
        db.rollback()
        assert db.execute("select count(*) from users").fetchone() == (0,)

    assert staffa.jobs() == []


def test_functions_and_many_jobs_join_too(staffa: Staffa):
    with connected(staffa.url) as db:
        greet.using(connection=db).enqueue(1, locale="hi")
        staffa.insert_all([Welcome.new(number=number) for number in range(3)], connection=db)
        db.commit()

    assert [job.args for job in staffa.jobs()] == [
        {"number": 2},
        {"number": 1},
        {"number": 0},
        {"user_id": 1, "locale": "hi"},
    ]


def test_bad_arguments_leave_the_transaction_usable(staffa: Staffa):
    with connected(staffa.url) as db:
        Welcome.using(connection=db).enqueue(kept=True)
        with pytest.raises(TypeError, match="datetime"):
            Welcome.using(connection=db).enqueue(at=datetime.now(UTC))
        db.commit()

    assert [job.args for job in staffa.jobs()] == [{"kept": True}]


async def test_commit_wakes_a_queue_of_another_instance(make: Callable[..., Staffa], url: str):
    ran = asyncio.Event()

    class Woken(Worker, name="test_transactions.Woken"):
        async def perform(self, job):
            ran.set()

    running = make(poll=timedelta(minutes=5))
    enqueuing = make(run_queues=False)
    async with running, asyncio.timeout(20):
        with connected(url) as db:
            Woken.using(connection=db, instance=enqueuing).enqueue()
            db.commit()
        await ran.wait()


async def test_a12_a_worker_starts_only_after_the_commit(make: Callable[..., Staffa], url: str):
    ran: list[str] = []

    class Recorded(Worker, name="test_transactions.Recorded"):
        async def perform(self, job):
            ran.append(job.args["name"])

    running = make(poll=timedelta(seconds=0.02))
    async with running:
        with connected(url) as db:
            Recorded.using(connection=db, instance=running).enqueue(name="inside")
            if url.startswith(
                "postgres"
            ):  # SQLite has one writer, the open transaction: nobody else can enqueue
                await Recorded.using(instance=running).aenqueue(name="outside")
                await eventually(lambda: "outside" in ran)
            assert "inside" not in [job.args["name"] for job in await running.ajobs()]
            assert "inside" not in ran
            db.commit()
        await eventually(lambda: "inside" in ran)


async def test_a12_a_job_that_is_rolled_back_never_runs(make: Callable[..., Staffa], url: str):
    ran: list[str] = []

    class Recorded(Worker, name="test_transactions.RolledBack"):
        async def perform(self, job):
            ran.append(job.args["name"])

    running = make(poll=timedelta(seconds=0.02))
    async with running:
        with connected(url) as db:
            Recorded.using(connection=db, instance=running).enqueue(name="rolled back")
            db.rollback()
        await Recorded.using(instance=running).aenqueue(name="later")
        await eventually(lambda: ran)

    assert ran == ["later"]
    assert [job.args["name"] for job in await running.ajobs()] == ["later"]


async def test_commit_of_another_process_wakes_a_running_queue(make: Callable[..., Staffa], url: str):
    ran = asyncio.Event()

    class FromAfar(Worker, name="test_transactions.FromAfar"):
        async def perform(self, job):
            ran.set()

    program = """
        import sqlite3, sys, psycopg
        from staffa import Staffa, Worker
        from staffa.engines.sqlite import path_of

        class FromAfar(Worker, name="test_transactions.FromAfar"): ...

        url = sys.argv[1]
        db = sqlite3.connect(path_of(url)) if url.startswith("sqlite") else psycopg.connect(url)
        staffa = Staffa(url, run_queues=False)
        FromAfar.using(connection=db).enqueue()
        db.commit()
        db.close()
    """
    running = make(poll=timedelta(minutes=5))
    async with running, asyncio.timeout(30):
        await asyncio.get_running_loop().run_in_executor(
            None, lambda: subprocess.run([sys.executable, "-c", textwrap.dedent(program), url], check=True)
        )
        await ran.wait()


# PostgreSQL


async def test_an_awaited_connection_joins(on_postgres: Staffa):
    async with await awaited(on_postgres.url) as db:
        stored = await Welcome.using(connection=db).aenqueue(kept=True)
        assert await on_postgres.ajobs() == []
        await db.commit()
        await Welcome.using(connection=db).aenqueue(kept=False)
        await db.rollback()

    assert await on_postgres.ajobs() == [stored]


async def test_a_blocking_call_with_an_awaited_connection_names_aenqueue_and_sends_nothing(
    on_postgres: Staffa,
):
    async with await awaited(on_postgres.url) as db:
        with pytest.raises(UnsupportedConnection, match="await aenqueue"):
            Welcome.using(connection=db).enqueue()
        await db.execute("select 1")
        await db.commit()

    assert await on_postgres.ajobs() == []


def test_autocommit_outside_a_transaction_is_refused(on_postgres: Staffa):
    with (
        connected(on_postgres.url, autocommit=True) as db,
        pytest.raises(
            UnsupportedConnection, match=r"open a transaction first, .* connection.transaction\(\)"
        ),
    ):
        Welcome.using(connection=db).enqueue()

    assert on_postgres.jobs() == []


def test_autocommit_inside_a_transaction_is_fine(on_postgres: Staffa):
    with connected(on_postgres.url, autocommit=True) as db:
        with db.transaction():
            Welcome.using(connection=db).enqueue(kept=True)
            assert on_postgres.jobs() == []
        with db.transaction(force_rollback=True):
            Welcome.using(connection=db).enqueue(kept=False)

    assert [job.args for job in on_postgres.jobs()] == [{"kept": True}]


async def test_awaited_autocommit_is_refused_outside_and_fine_inside_a_transaction(on_postgres: Staffa):
    async with await awaited(on_postgres.url, autocommit=True) as db:
        with pytest.raises(UnsupportedConnection, match="autocommit"):
            await Welcome.using(connection=db).aenqueue()
        async with db.transaction():
            await Welcome.using(connection=db).aenqueue()

    assert len(await on_postgres.ajobs()) == 1


@pytest.mark.parametrize("rows", [dict_row, namedtuple_row])
def test_the_caller_s_row_factory_neither_matters_nor_changes(on_postgres: Staffa, rows):
    with connected(on_postgres.url, row_factory=rows) as db:
        stored = Welcome.using(connection=db).enqueue()
        db.commit()
        assert db.row_factory is rows

    assert on_postgres.jobs() == [stored]


async def test_an_awaited_connection_with_dict_rows_joins(on_postgres: Staffa):
    async with await awaited(on_postgres.url, row_factory=dict_row) as db:
        stored = await Welcome.using(connection=db).aenqueue()
        await db.commit()

    assert await on_postgres.ajobs() == [stored]


def test_a_session_time_zone_does_not_shift_instants(on_postgres: Staffa):
    before = datetime.now(UTC) - timedelta(seconds=5)
    with connected(on_postgres.url) as db:
        db.execute("set time zone 'Asia/Kolkata'")
        due = Welcome.using(connection=db, scheduled_at=AT_NOON_IN_INDIA).enqueue()
        soon = Welcome.using(connection=db, schedule_in=timedelta(hours=1)).enqueue()
        now = Welcome.using(connection=db).enqueue()
        db.commit()

    assert on_postgres.jobs() == [now, soon, due]
    assert due.scheduled_at == AT_NOON_IN_INDIA
    assert before < now.inserted_at < before + timedelta(minutes=1)
    assert soon.scheduled_at - soon.inserted_at == timedelta(hours=1)
    assert now.state == "available"
    with connected(on_postgres.url) as db:
        stored = db.execute("select scheduled_at from oban_jobs where id = %s", [due.id]).fetchone()
    assert stored == (AT_NOON_IN_INDIA.replace(tzinfo=None),)


def test_a_failed_transaction_is_told_as_ours(on_postgres: Staffa):
    with connected(on_postgres.url) as db:
        with pytest.raises(psycopg.Error):
            db.execute("select 1 / 0")
        with pytest.raises(DatabaseError, match="current transaction is aborted"):
            Welcome.using(connection=db).enqueue()


def test_postgresql_does_not_join_a_sqlite_connection(on_postgres: Staffa):
    with (
        closing(sqlite3.connect(":memory:")) as db,
        pytest.raises(
            UnsupportedConnection, match=r"in PostgreSQL; it cannot join a sqlite3.Connection: give a psycopg"
        ),
    ):
        Welcome.using(connection=db).enqueue()


def test_a_cursor_is_no_connection(staffa: Staffa):
    with connected(staffa.url) as db, pytest.raises(UnsupportedConnection, match="Cursor"):
        Welcome.using(connection=db.cursor()).enqueue()


# SQLite


def dictionaries(cursor: sqlite3.Cursor, row: tuple) -> dict:
    return dict(zip([column[0] for column in cursor.description], row, strict=True))


@pytest.mark.parametrize("rows", [sqlite3.Row, dictionaries])
@pytest.mark.parametrize("writing", [False, True], ids=["at rest", "writing"])
def test_any_row_factory_of_sqlite_will_do(on_sqlite: Staffa, rows, writing):
    with connected(on_sqlite.url) as db:
        db.row_factory = rows
        db.execute("create table users (id integer)")
        if writing:
            db.execute("insert into users values (1)")
        first = Welcome.using(connection=db).enqueue()
        second = Welcome.using(connection=db).enqueue()
        db.commit()
        assert db.row_factory is rows

    assert on_sqlite.jobs() == [second, first]


def test_an_explicit_begin_holds_the_job_back(on_sqlite: Staffa):
    with connected(on_sqlite.url, isolation_level=None) as db:
        db.execute("begin")
        Welcome.using(connection=db).enqueue(kept=False)
        db.execute("rollback")
        db.execute("begin immediate")
        Welcome.using(connection=db).enqueue(kept=True)
        db.execute("commit")

    assert [job.args for job in on_sqlite.jobs()] == [{"kept": True}]


def test_a_connection_without_implicit_transactions_is_refused_outside_of_one(on_sqlite: Staffa):
    with (
        connected(on_sqlite.url, isolation_level=None) as db,
        pytest.raises(UnsupportedConnection, match="would commit at once: begin one first"),
    ):
        Welcome.using(connection=db).enqueue()

    assert on_sqlite.jobs() == []


def test_the_first_job_begins_the_implicit_transaction(on_sqlite: Staffa):
    with connected(on_sqlite.url) as db:
        assert not db.in_transaction
        Welcome.using(connection=db).enqueue()
        assert db.in_transaction
        assert on_sqlite.jobs() == []


def test_tables_are_made_inside_a_transaction_that_already_writes(on_sqlite: Staffa):
    with connected(on_sqlite.url) as db:
        db.execute("create table users (id integer)")
        for kept in (False, True):
            db.execute("insert into users values (1)")
            Welcome.using(connection=db).enqueue(kept=kept)
            (db.commit if kept else db.rollback)()

    assert [job.args for job in on_sqlite.jobs()] == [{"kept": True}]


def test_enqueueing_beside_an_open_transaction_waits_a_while_and_then_names_connection(
    on_sqlite: Staffa, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("staffa.engines._sqlite_writer.LONGEST_LOCK_SECONDS", 0.2)
    on_sqlite.migrate()
    on_sqlite.close()  # so that the wait is read again

    with connected(on_sqlite.url) as db:
        db.execute("begin immediate")
        with pytest.raises(DatabaseBusy, match=r"using\(connection=\.\.\.\)"):
            Welcome.enqueue(kept=False)
        Welcome.using(connection=db).enqueue(kept=True)
        db.commit()

    assert [job.args for job in on_sqlite.jobs()] == [{"kept": True}]


async def test_a_blocking_connection_joins_inside_an_event_loop(on_sqlite: Staffa):
    with connected(on_sqlite.url) as db:
        Welcome.using(connection=db).enqueue()
        await Welcome.using(connection=db).aenqueue()
        db.commit()

    assert len(await on_sqlite.ajobs()) == 2


def test_a_database_in_memory_refuses_connections():
    instance = Staffa("sqlite://", testing="manual")
    with (
        closing(sqlite3.connect(":memory:")) as db,
        pytest.raises(UnsupportedConnection, match="connection= needs a file"),
    ):
        Welcome.using(connection=db, instance=instance).enqueue()
    instance.close()


def test_sqlite_does_not_join_a_postgresql_connection(on_sqlite: Staffa, postgres_url: str):
    with (
        connected(postgres_url) as db,
        pytest.raises(UnsupportedConnection, match=r"in SQLite; it cannot join a psycopg\.Connection"),
    ):
        Welcome.using(connection=db).enqueue()


def test_a_closed_connection_is_told_as_ours(staffa: Staffa):
    with connected(staffa.url) as db:
        db.close()
        with pytest.raises(DatabaseError, match="closed"):
            Welcome.using(connection=db).enqueue()


def test_a_connection_of_another_thread_is_told_as_ours(on_sqlite: Staffa):
    with connected(on_sqlite.url) as db, ThreadPoolExecutor(1) as elsewhere:
        db.execute("create table users (id integer)")
        db.execute("insert into users values (1)")
        enqueued = elsewhere.submit(lambda: Welcome.using(connection=db, instance=on_sqlite).enqueue())
        with pytest.raises(DatabaseError, match="created in a thread can only be used in that same thread"):
            enqueued.result()


def test_a_connection_to_another_file_is_refused_by_name(tmp_path):
    staffa = Staffa(f"sqlite:///{tmp_path}/jobs.db", run_queues=False)
    staffa.migrate()
    Staffa(f"sqlite:///{tmp_path}/other.db", run_queues=False).migrate()
    elsewhere = sqlite3.connect(tmp_path / "other.db")
    with pytest.raises(UnsupportedConnection, match=r"leads to another database .*jobs\.db"):
        staffa.insert(Job(worker="w"), connection=elsewhere)
    elsewhere.close()
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")
    with sqlite3.connect(tmp_path / "link.db") as same:
        assert staffa.insert(Job(worker="w"), connection=same).id == 1
    same.close()
    staffa.close()


def test_a_server_that_does_not_answer_is_named_with_the_reason_and_without_the_password():
    staffa = Staffa("postgresql://me:secret@127.0.0.1:1/app")
    with pytest.raises(DatabaseUnavailable) as refused:
        staffa.jobs()
    assert "postgresql://me:***@127.0.0.1:1/app cannot be reached: connection failed" in str(refused.value)
    assert "secret" not in str(refused.value)
    staffa.close()
