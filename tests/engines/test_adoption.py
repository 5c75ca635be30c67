"""Tables that Oban made are taken as they are, brought to V14 where they are older, or refused with what to do."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest

from nodes import finished, quick
from obans import (
    OBAN_FOR_PYTHON,
    SAMPLE,
    V13_INDEXES,
    catalogue,
    comment_of,
    oban_tables,
    query,
    rows_of,
    run,
    say,
)
from staffa import Staffa, State, Worker
from staffa.engines import _postgres_tables
from staffa.engines._sql.migrations import migrations
from staffa.errors import DatabaseError, DatabaseUnavailable, SchemaUnsupported

VERSIONS = list(migrations("postgres"))
OURS = {"take", "unique_key"}
COLUMNS = """
    select column_name, udt_name, is_nullable, coalesce(column_default, '')
    from information_schema.columns where table_schema = 'public' and table_name = 'oban_jobs'
    order by column_name
"""
A_JOB = "insert into oban_jobs (worker, args, priority) values ('adopted.Works', '{\"a\": 1}', 9)"


class Works(Worker, name="adopted.Works"):
    async def perform(self, job: object) -> None: ...


@pytest.fixture
def url(empty_postgres_url: str) -> str:
    return empty_postgres_url


@pytest.fixture
def staffa(url: str) -> Iterator[Staffa]:
    instance = Staffa(url, run_queues=False)
    yield instance
    instance.close()


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_postgres_tables, "LOCK_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(_postgres_tables, "LOCK_PAUSE_SECONDS", 0.05)


@pytest.fixture
def always_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_postgres_tables, "LARGE_TABLE_BYTES", -1)


def states(url: str) -> list[str]:
    return [state for (state,) in query(url, "select unnest(enum_range(null::oban_job_state))::text")]


def index_names(url: str) -> set[str]:
    return {
        name
        for (name,) in query(
            url, "select relname from pg_class join pg_index on indexrelid = oid"
            " where indrelid = 'oban_jobs'::regclass and indisvalid"
        )
    }  # fmt: skip


# Each version of Oban's


@pytest.mark.parametrize("version", [12, 13, 14])
async def test_a_table_that_oban_made_gets_our_columns_and_keeps_its_own(
    url: str, staffa: Staffa, version: int
):
    oban_tables(url, version)
    run(url, A_JOB)
    columns, rows = query(url, COLUMNS), rows_of(url)
    assert [list(row) for row in columns] == SAMPLE["columns"]

    assert await staffa.amigrate() == VERSIONS

    after = query(url, COLUMNS)
    assert [row for row in after if row[0] not in OURS] == columns
    assert {row[0] for row in after} - {row[0] for row in columns} == OURS
    assert rows_of(url) == rows
    assert comment_of(url) == "14"
    assert states(url) == [state for [state] in SAMPLE["enum"]]
    assert {name for name, _ in SAMPLE["indexes"]} <= index_names(url)

    node = quick(url)
    async with node:
        [done] = await finished(node, await node.ajobs())
    node.close()
    assert (done.state, done.args, done.priority) == (State.COMPLETED, {"a": 1}, 9)


@pytest.mark.parametrize("version", [12, 13])
def test_a_table_brought_to_v14_is_what_oban_itself_makes_of_it(
    url: str, staffa: Staffa, version: int, empty_postgres_url: str
):
    oban_tables(url, version)
    staffa.migrate()
    staffa.migrate_back(0)
    upgraded = catalogue(url)
    run(url, "drop table oban_jobs, oban_peers; drop type oban_job_state")
    oban_tables(url, 14)
    assert catalogue(url) == upgraded


def test_a_table_of_v14_is_not_touched_by_the_upgrade(url: str, staffa: Staffa):
    oban_tables(url, 14)
    run(url, "drop index oban_jobs_state_cancelled_at_index")  # as somebody thought best
    staffa.migrate()
    assert "oban_jobs_state_cancelled_at_index" not in index_names(url)


def test_a_newer_table_is_accepted_and_its_version_stays(url: str, staffa: Staffa):
    oban_tables(url)
    run(url, "alter table oban_jobs add column of_tomorrow text; comment on table oban_jobs is '15'")
    assert staffa.migrate() == VERSIONS
    assert comment_of(url) == "15"
    assert staffa.tables.status().trouble is None
    staffa.migrate_back(0)
    assert comment_of(url) == "15"


def test_a_comment_that_is_no_version_stays_where_the_table_is_recent(url: str, staffa: Staffa):
    oban_tables(url)
    say(url, "the jobs of the shop")
    assert staffa.migrate() == VERSIONS
    assert comment_of(url) == "the jobs of the shop"


# What is refused, and how it is mended


def refused(staffa: Staffa, url: str, *words: str) -> str:
    """Refuse to migrate, say these words, write nothing; say the same of the status."""
    before = catalogue(url)
    with pytest.raises(SchemaUnsupported) as refusal:
        staffa.migrate()
    text = str(refusal.value)
    assert all(word in text for word in words), text
    assert catalogue(url) == before
    assert staffa.tables.status().trouble == text
    return text


def test_a_table_older_than_v12_is_refused_with_what_to_do(url: str, staffa: Staffa):
    oban_tables(url, 11)
    refused(staffa, url, "version 11", "12 or later", "Oban.Migration.up(version: 14)")


@pytest.mark.parametrize("version", [12, 13, 14])
def test_a_version_that_a_backup_lost_is_explained_and_can_be_said_again(
    url: str, staffa: Staffa, version: int
):
    oban_tables(url, version)
    say(url, None)
    text = refused(staffa, url, "backups may lose", f"looks like version {version}")
    run(url, text.partition("so say: ")[2])
    assert staffa.migrate() == VERSIONS
    assert comment_of(url) == "14"


def test_a_lost_version_of_an_old_table_does_not_hide_its_age(url: str, staffa: Staffa):
    oban_tables(url, 11)
    say(url, None)
    refused(staffa, url, "before 12", "Oban.Migration.up")


def test_a_version_that_is_lost_after_adoption_is_told(url: str, staffa: Staffa):
    staffa.migrate()
    say(url, None)
    trouble = staffa.tables.status().trouble
    assert "would run all its migrations again" in trouble
    assert staffa.migrate() == []
    run(url, trouble.partition("so say: ")[2])
    assert staffa.tables.status().trouble is None


def test_a_comment_that_promises_too_much_is_not_believed(url: str, staffa: Staffa):
    oban_tables(url, 12)
    say(url, "14")
    text = refused(staffa, url, "no state 'suspended'")
    run(url, text.partition("is wrong, say: ")[2])
    assert staffa.migrate() == VERSIONS
    assert states(url)[1] == "suspended"
    assert index_names(url) >= V13_INDEXES


def test_the_tables_of_oban_for_python_are_recognised(url: str, staffa: Staffa):
    run(url, OBAN_FOR_PYTHON)
    refused(staffa, url, "attempt is smallint instead of integer", "errors is jsonb", "schema of their own")

    apart = Staffa(url, run_queues=False, schema="staffa")
    assert apart.migrate() == VERSIONS
    apart.close()


def test_a_table_of_somebody_else_is_refused(url: str, staffa: Staffa):
    run(url, "create table oban_jobs (id bigint, name text); comment on table oban_jobs is '14'")
    refused(staffa, url, "lacks args", "none that Oban made")


def test_a_table_of_somebody_else_on_sqlite_is_refused(sqlite_url: str):
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("create table oban_jobs (id integer, worker text, state text)")
    instance = Staffa(sqlite_url, run_queues=False)
    assert "lacks args" in instance.tables.status().trouble
    with pytest.raises(SchemaUnsupported, match="lacks args, attempt"):
        instance.insert(Works.new())
    instance.close()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("oban_jobs",)]


# While others work


def test_a_large_table_gets_its_indexes_while_others_write(url: str, staffa: Staffa, always_large: None):
    oban_tables(url, 12)
    run(url, "insert into oban_jobs (worker) select 'w' from generate_series(1, 5000)")
    with psycopg.connect(
        url
    ) as writer:  # an open transaction: indexes wait for it, writers do not wait for them
        writer.execute("update oban_jobs set priority = 1 where id = 1")
        done = threading.Event()

        def migrate() -> None:
            staffa.migrate()
            done.set()

        thread = threading.Thread(target=migrate)
        thread.start()
        try:
            waits = (
                "select 1 from pg_stat_activity where query like 'create index concurrently%%'"
                " and wait_event_type = 'Lock' and datname = %s"
            )
            [(name,)] = query(url, "select current_database()")
            until(lambda: query(url, waits, name))
            run(url, "set lock_timeout = '5s'; insert into oban_jobs (worker) values ('meanwhile')")
            assert not done.is_set()
            assert staffa.tables.status().applied == []
            writer.commit()
        finally:
            writer.close()
            thread.join(30)
    assert done.is_set()
    assert staffa.tables.status().pending == []
    assert index_names(url) >= V13_INDEXES
    made = index_names(url)

    staffa.migrate_back(0)
    run(url, "drop table oban_jobs, oban_peers; drop type oban_job_state")
    oban_tables(url, 12)
    fresh = Staffa(url, run_queues=False)
    fresh.migrate()
    fresh.close()
    assert index_names(url) == made


def test_what_an_interrupted_index_left_is_taken_away_and_made_again(
    url: str, staffa: Staffa, always_large: None
):
    oban_tables(url)
    run(url, "insert into oban_jobs (worker) values ('w'), ('w')")
    staffa.migrate()
    made = catalogue(url)
    run(url, "delete from staffa_schema where version = 1; drop index staffa_jobs_due_index")
    with psycopg.connect(url, autocommit=True) as admin, pytest.raises(psycopg.errors.UniqueViolation):
        admin.execute("create unique index concurrently staffa_jobs_due_index on oban_jobs (worker)")
    assert "staffa_jobs_due_index" not in index_names(url)

    assert staffa.migrate() == [1]
    assert catalogue(url) == made


@pytest.mark.parametrize("large", [False, True])
def test_an_interrupted_migration_goes_on_where_it_stopped(
    url: str, staffa: Staffa, large: bool, monkeypatch: pytest.MonkeyPatch
):
    oban_tables(url, 12)
    monkeypatch.setattr(_postgres_tables, "LARGE_TABLE_BYTES", -1 if large else 1 << 40)
    reached = []

    def breaks(self: object, line: object, statement: str) -> None:
        reached.append(statement)
        raise DatabaseUnavailable("the connection is lost")

    with monkeypatch.context() as broken:
        broken.setattr(_postgres_tables.PostgresTables, "_make_index", breaks)
        if large:
            with pytest.raises(DatabaseUnavailable):
                staffa.migrate()
            assert reached
            assert staffa.tables.status().applied == []
    assert staffa.migrate() == VERSIONS
    assert comment_of(url) == "14"


def test_migrate_does_not_queue_behind_a_long_transaction(
    url: str, staffa: Staffa, no_patience: None, caplog: pytest.LogCaptureFixture
):
    oban_tables(url)
    run(url, A_JOB)
    with psycopg.connect(url) as long:
        long.execute("select count(*) from oban_jobs")
        thread = threading.Thread(target=staffa.migrate)
        thread.start()
        until(lambda: [record for record in caplog.records if "waits for a lock" in record.message])
        run(url, "set lock_timeout = '10s'; insert into oban_jobs (worker) values ('not kept waiting')")
        assert staffa.tables.status().applied == []
        pid = long.info.backend_pid
    thread.join(30)
    assert f"process {pid}" in caplog.text
    assert staffa.tables.status().pending == []


def test_who_keeps_migrate_from_its_lock_is_named(
    url: str, staffa: Staffa, no_patience: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_postgres_tables, "LOCK_TRIES", 2)
    oban_tables(url)
    with psycopg.connect(url) as long:
        long.execute("select count(*) from oban_jobs")
        with pytest.raises(DatabaseUnavailable, match=f"process {long.info.backend_pid} .*select count"):
            staffa.migrate()
    assert staffa.migrate() == VERSIONS


def test_who_may_not_change_obans_table_is_told_so(url: str, staffa: Staffa):
    oban_tables(url)
    role = f"role_{uuid4().hex}"
    run(url, f"create role {role}; grant all on schema public to {role}")
    other = Staffa(f"{url}{'&' if '?' in url else '?'}options=-crole%3D{role}", run_queues=False)
    try:
        with pytest.raises(DatabaseError, match="must be owner of table oban_jobs"):
            other.migrate()
    finally:
        other.close()
        run(url, f"drop owned by {role}; drop role {role}")
    assert query(url, "select to_regclass('staffa_schema')") == [(None,)]


def until(true: object, within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)
