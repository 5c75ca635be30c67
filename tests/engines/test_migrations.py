"""Tables are made once, whoever asks, and are Oban's own."""

import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from obans import OBAN_ON_SQLITE, SAMPLE, query
from staffa import Job, Staffa, State
from staffa._bridge import at_once
from staffa.engine import ProducerInfo
from staffa.engines._sql.migrations import migrations
from staffa.errors import ConfigError, SchemaMissing

VERSIONS = list(migrations("sqlite"))
OURS = {"take", "unique_key"}
JOB_COLUMNS = """
    select column_name, udt_name, is_nullable, coalesce(column_default, '')
    from information_schema.columns
    where table_schema = 'public' and table_name = 'oban_jobs'
    order by column_name
"""


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """A database without tables."""
    name = "sqlite_url" if request.param == "sqlite" else "empty_postgres_url"
    return str(request.getfixturevalue(name))


def migrate(url: str) -> list[int]:
    instance = Staffa(url, run_queues=False)
    try:
        return instance.migrate()
    finally:
        instance.close()


def run_a_job(url: str) -> Job:
    """Store a job, take it and complete it."""
    instance = Staffa(url, run_queues=False)
    try:
        instance.insert(Job(worker="w"))
        producer = ProducerInfo(id="p", node="n", queue="default", limit=1)
        at_once(instance.plain_engine.register([producer]))
        [taken] = at_once(instance.plain_engine.exchange(producer, [], 1)).taken
        assert taken.state is State.EXECUTING
        return taken
    finally:
        instance.close()


def test_a_fresh_database_gets_all_versions_once(empty_url: str):
    assert migrate(empty_url) == VERSIONS
    assert migrate(empty_url) == []
    assert run_a_job(empty_url).state is State.EXECUTING


def test_migrating_again_keeps_jobs(empty_url: str):
    migrate(empty_url)
    kept = run_a_job(empty_url)
    assert migrate(empty_url) == []
    instance = Staffa(empty_url, run_queues=False)
    assert instance.jobs() == [kept]
    instance.close()


def test_many_threads_migrate_at_once_and_one_of_them_does_it(empty_url: str):
    with ThreadPoolExecutor(8) as pool:
        applied = list(pool.map(migrate, [empty_url] * 8))
    assert sorted(applied) == [[]] * 7 + [VERSIONS]
    run_a_job(empty_url)


def test_two_processes_migrate_at_once_and_one_of_them_does_it(empty_url: str):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        applied = pool.map(migrate, [empty_url] * 2, chunksize=1)
    assert sorted(applied) == [[], VERSIONS]
    run_a_job(empty_url)


def test_postgres_asks_for_its_tables_and_sqlite_makes_them(empty_url: str):
    instance = Staffa(empty_url, run_queues=False)
    if empty_url.startswith("sqlite"):
        assert instance.insert(Job(worker="w")).id == 1
    else:
        with pytest.raises(SchemaMissing, match="staffa migrate"):
            instance.insert(Job(worker="w"))
    instance.close()


# PostgreSQL: Oban's table


def test_our_table_has_obans_columns_types_and_defaults(postgres_url: str):
    columns = [list(row) for row in query(postgres_url, JOB_COLUMNS)]
    assert [column for column in columns if column[0] not in OURS] == SAMPLE["columns"]
    assert [column for column in columns if column[0] in OURS] == [
        ["take", "int4", "NO", "0"],
        ["unique_key", "text", "YES", ""],
    ]


def test_our_states_are_obans_in_obans_order(postgres_url: str):
    states = query(postgres_url, "select unnest(enum_range(null::oban_job_state))::text")
    assert [list(row) for row in states] == SAMPLE["enum"]
    assert [state for (state,) in states] == [str(state) for state in State]


def test_our_checks_are_obans(postgres_url: str):
    checks = query(
        postgres_url,
        "select conname, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid = 'oban_jobs'::regclass and contype = 'c' order by conname",
    )
    assert [(name, str(check).removesuffix(" NOT VALID")) for name, check in checks] == [
        (name, check.removesuffix(" NOT VALID")) for name, check in SAMPLE["constraints"]
    ]


def test_our_leases_are_obans(postgres_url: str):
    peers = query(
        postgres_url,
        "select column_name, udt_name, is_nullable from information_schema.columns"
        " where table_schema = 'public' and table_name = 'oban_peers' order by column_name",
    )
    assert [list(row) for row in peers] == SAMPLE["peers"]


def test_oban_finds_its_version_on_our_table(postgres_url: str):
    assert query(postgres_url, "select obj_description('oban_jobs'::regclass, 'pg_class')") == [("14",)]


def test_tables_may_live_in_a_schema_of_any_name(empty_postgres_url: str):
    schema = 'my "own" jobs'
    instance = Staffa(empty_postgres_url, run_queues=False, schema=schema)
    assert instance.migrate() == VERSIONS
    assert instance.migrate() == []
    assert instance.insert(Job(worker="w")).id == 1
    assert query(
        empty_postgres_url,
        "select distinct table_schema from information_schema.tables where table_name like 'oban%'",
    ) == [(schema,)]
    instance.close()


def test_two_schemas_of_one_database_know_nothing_of_each_other(empty_postgres_url: str):
    one, two = (Staffa(empty_postgres_url, run_queues=False, schema=name) for name in ("one", "two"))
    for each in (one, two):
        assert each.migrate() == VERSIONS
    one.insert(Job(worker="w"))
    assert (len(one.jobs()), len(two.jobs())) == (1, 0)
    one.close()
    two.close()


# SQLite: Oban's layout


def _sqlite_columns(url: str) -> dict[str, tuple[str, bool, str | None]]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        rows = connection.execute("pragma table_info(oban_jobs)").fetchall()
    return {name: (kind.lower(), bool(required), default) for _, name, kind, required, default, _ in rows}


def test_sqlite_has_obans_layout(sqlite_url: str):
    migrate(sqlite_url)
    columns = _sqlite_columns(sqlite_url)
    assert columns.keys() == {column[0] for column in SAMPLE["columns"]} | OURS
    text, json_list = ("text", False, None), ("json", True, "'[]'")
    assert {name: columns[name] for name in ("args", "meta")} == dict.fromkeys(
        ("args", "meta"), ("json", True, "'{}'")
    )
    assert [columns[name] for name in ("tags", "errors", "attempted_by")] == [json_list] * 3
    for name in ("attempted_at", "completed_at", "cancelled_at", "discarded_at", "unique_key"):
        assert columns[name] == text
    assert columns["state"] == ("text", True, "'available'")
    assert columns["priority"] == ("integer", True, "0")
    assert columns["max_attempts"] == ("integer", True, "20")


def test_a_row_inserted_by_hand_on_sqlite_gets_instants_of_our_format(sqlite_url: str):
    migrate(sqlite_url)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("insert into oban_jobs (worker) values ('w')")
        connection.commit()
        [[matches]] = connection.execute(
            "select inserted_at glob '2[0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]."
            "[0-9][0-9][0-9][0-9][0-9][0-9]Z' and scheduled_at glob '*T*.??????Z' from oban_jobs"
        )
    assert matches
    run_a_job(sqlite_url)


def test_a_table_that_oban_made_on_sqlite_is_adopted(sqlite_url: str):
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.executescript(OBAN_ON_SQLITE)
    before = _sqlite_columns(sqlite_url)
    assert migrate(sqlite_url) == VERSIONS
    after = _sqlite_columns(sqlite_url)
    assert {name: column for name, column in after.items() if name not in OURS} == before
    assert after.keys() - before.keys() == OURS
    instance = Staffa(sqlite_url, run_queues=False)
    [job] = instance.jobs()
    assert (job.worker, job.state, job.take) == ("w", State.AVAILABLE, 0)
    assert instance.insert(Job(worker="w")).id == 2
    instance.close()


# Indexes that somebody asks for


def test_an_index_for_what_json_contains_is_made_once(empty_postgres_url: str):
    instance = Staffa(empty_postgres_url, run_queues=False)
    assert instance.migrate(indexes=["args", "tags", "args"]) == VERSIONS
    assert instance.tables.index(["args", "meta"]) == ["meta"]
    assert instance.migrate(indexes=["meta", "args"]) == []
    made = query(
        empty_postgres_url,
        "select indexname, indexdef from pg_indexes where tablename = 'oban_jobs' and indexdef like '%gin%' order by 1",
    )
    assert [name for name, _ in made] == [f"staffa_jobs_{each}_index" for each in ("args", "meta", "tags")]
    assert [definition.split("USING ")[1] for _, definition in made] == [
        "gin (args jsonb_path_ops)",
        "gin (meta jsonb_path_ops)",
        "gin (tags)",
    ]
    instance.close()


def test_an_index_that_oban_made_will_do(empty_postgres_url: str):
    instance = Staffa(empty_postgres_url, run_queues=False)
    instance.migrate()
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("create index oban_jobs_args_index on oban_jobs using gin (args)")
    assert instance.tables.index(["args"]) == []
    instance.close()


def test_an_index_that_was_left_half_made_is_made_again(empty_postgres_url: str):
    instance = Staffa(empty_postgres_url, run_queues=False)
    instance.migrate(indexes=["args"])
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute(
            "update pg_index set indisvalid = false where indexrelid = 'staffa_jobs_args_index'::regclass"
        )
    assert instance.tables.index(["args"]) == ["args"]
    assert query(
        empty_postgres_url,
        "select indisvalid from pg_index where indexrelid = 'staffa_jobs_args_index'::regclass",
    ) == [(True,)]
    instance.close()


def test_sqlite_says_that_it_has_no_such_index(sqlite_url: str):
    instance = Staffa(sqlite_url, run_queues=False)
    with pytest.raises(ConfigError, match="SQLite has none for what args, meta and tags contain"):
        instance.migrate(indexes=["args"])
    instance.close()


def test_a_column_without_such_an_index_is_refused(empty_postgres_url: str):
    instance = Staffa(empty_postgres_url, run_queues=False)
    with pytest.raises(ConfigError, match="unknown column 'arg'; did you mean 'args'"):
        instance.migrate(indexes=["arg"])
    instance.close()
