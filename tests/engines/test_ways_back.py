"""Every version has its way back, and who goes it finds everything as it was before."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine

from nodes import finished, quick
from obans import OBAN_ON_SQLITE, catalogue, comment_of, oban_tables, rows_of, run
from staffa import Job, Staffa, Worker
from staffa.engines._sql.migrations import migrations
from staffa.errors import ConfigError, InsideEventLoop

DIALECTS = ("sqlite", "postgres")
VERSIONS = list(migrations("sqlite"))
BACK = VERSIONS[::-1]


class Anything(Worker, name="back.Anything"):
    async def perform(self, job: object) -> None: ...


@pytest.fixture(params=DIALECTS)
def url(request: pytest.FixtureRequest) -> str:
    """A database without tables."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "empty_postgres_url"))


@pytest.fixture
def staffa(url: str) -> Iterator[Staffa]:
    instance = Staffa(url, run_queues=False)
    yield instance
    instance.close()


def made_by_oban(url: str) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.executescript(OBAN_ON_SQLITE)
    else:
        oban_tables(url)
        run(url, "insert into oban_jobs (worker, args) values ('w', '{\"a\": 1}')")
        run(url, "insert into oban_peers values ('Oban', 'n', now(), now() + interval '1 day')")


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(sql).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(sql.encode()).fetchall()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_version_has_a_way_back(dialect: str):
    assert {version: bool(found.down) for version, found in migrations(dialect).items()} == dict.fromkeys(
        VERSIONS, True
    )


def test_both_databases_have_the_same_versions():
    assert list(migrations("sqlite")) == list(migrations("postgres"))


def test_there_back_and_there_again_makes_the_same_tables(staffa: Staffa, url: str):
    staffa.migrate()
    first = catalogue(url)
    assert staffa.migrate_back(0) == BACK
    assert staffa.migrate() == VERSIONS
    assert catalogue(url) == first


def test_each_version_leaves_what_was_there_before_it(staffa: Staffa, url: str):
    seen = {}
    for version in VERSIONS:
        assert staffa.migrate(to=version) == [version]
        seen[version] = catalogue(url)
    for version in BACK:
        assert catalogue(url) == seen[version]
        assert staffa.migrate_back(version - 1) == [version]


def test_all_the_way_back_nothing_is_left(staffa: Staffa, url: str):
    nothing = catalogue(url)
    staffa.migrate()
    staffa.insert(Job(worker="w"))
    staffa.migrate_back(0)
    assert catalogue(url) == nothing


def test_going_back_twice_does_nothing_the_second_time(staffa: Staffa):
    assert staffa.migrate_back(0) == []
    staffa.migrate()
    assert staffa.migrate_back(0) == BACK
    assert staffa.migrate_back(0) == []


def test_tables_that_oban_made_are_left_as_they_were(staffa: Staffa, url: str):
    made_by_oban(url)
    tables, jobs = catalogue(url), ask(url, "select * from oban_jobs")
    staffa.migrate()
    assert catalogue(url) != tables
    assert staffa.migrate_back(0) == BACK
    assert (catalogue(url), ask(url, "select * from oban_jobs")) == (tables, jobs)

    assert staffa.migrate() == VERSIONS
    assert staffa.migrate_back(0) == BACK
    assert (catalogue(url), ask(url, "select * from oban_jobs")) == (tables, jobs)


def test_obans_version_and_leases_stay_and_ours_go(empty_postgres_url: str):
    url = empty_postgres_url
    made_by_oban(url)
    instance = Staffa(url, run_queues=False)
    instance.migrate()
    run(url, "insert into oban_peers values ('staffa:Staffa', 'n', now(), now() + interval '1 day')")
    instance.migrate_back(0)
    instance.close()
    assert comment_of(url) == "14"
    assert ask(url, "select name from oban_peers") == [("Oban",)]
    assert [row[-1] for row in rows_of(url)] == ["w"]


def test_tables_of_which_nobody_knows_who_made_them_stay(staffa: Staffa, url: str):
    staffa.migrate()
    staffa.insert(Job(worker="w"))
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute("delete from staffa_schema where version = 0")
            connection.commit()
    else:
        run(url, "delete from staffa_schema where version = 0")
    assert "oban_jobs" not in staffa.tables.losses(0)
    staffa.migrate_back(0)
    assert ask(url, "select worker from oban_jobs") == [("w",)]


async def test_jobs_run_after_going_back_and_forth(url: str):
    node = quick(url)
    await node.amigrate()
    async with node:
        await finished(node, [await node.ainsert(Anything.new())])
    assert await node.amigrate_back(0) == BACK
    await node.amigrate()
    async with node:
        [done] = await finished(node, [await node.ainsert(Anything.new())])
    node.close()
    assert done.id == 1


def test_what_would_be_lost_is_counted(staffa: Staffa, url: str):
    staffa.migrate()
    assert staffa.tables.losses(0) == {}
    staffa.insert_all([Job(worker="w"), Job(worker="w")])
    assert staffa.tables.losses(0) == {"oban_jobs": 2}
    assert staffa.tables.losses(VERSIONS[-1]) == {}


def test_jobs_in_obans_own_table_are_not_lost(staffa: Staffa, url: str):
    made_by_oban(url)
    staffa.migrate()
    assert staffa.tables.losses(0) == {}


def test_the_status_tells_what_is_applied_and_whose_the_tables_are(staffa: Staffa, url: str):
    before = staffa.tables.status()
    assert (before.applied, before.pending, before.made_by, before.trouble) == ([], VERSIONS, None, None)
    staffa.migrate(to=1)
    first = staffa.tables.status()
    assert (first.applied, first.pending, first.made_by) == ([1], VERSIONS[1:], "staffa")
    staffa.migrate()
    after = staffa.tables.status()
    assert (after.applied, after.pending, after.made_by, after.trouble) == (VERSIONS, [], "staffa", None)
    assert after.oban_version == (None if url.startswith("sqlite") else "14")


def test_the_status_of_obans_own_tables_says_so(staffa: Staffa, url: str):
    made_by_oban(url)
    assert staffa.tables.status().made_by == "oban"
    staffa.migrate()
    assert staffa.tables.status().made_by == "oban"


@pytest.mark.parametrize("version", [-1, 999])
def test_a_version_that_is_not_known_is_refused(staffa: Staffa, version: int):
    for way in (staffa.migrate, staffa.migrate_back, staffa.migration_sql):
        with pytest.raises(ConfigError, match=f"no version {version}"):
            way(version)
    assert staffa.tables.status().applied == []


def test_what_a_newer_release_made_is_not_taken_away_by_an_older_one(staffa: Staffa, url: str):
    staffa.migrate()
    record = "insert into staffa_schema (version) values (998)"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(record)
            connection.commit()
    else:
        run(url, record)
    with pytest.raises(ConfigError, match="newer Staffa"):
        staffa.migrate_back(0)
    assert staffa.tables.status().applied == [*VERSIONS, 998]


async def test_the_blocking_ways_name_their_awaited_twins_on_a_loop(staffa: Staffa):
    with pytest.raises(InsideEventLoop, match="amigrate_back"):
        staffa.migrate_back(0)
    assert await staffa.amigrate() == VERSIONS
    assert await staffa.amigrate_back(0) == BACK


# For other tools


def apply(url: str, statements: list[str]) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            for each in statements:
                connection.execute(each)
    else:
        with psycopg.connect(url) as connection:
            for each in statements:
                connection.execute(each.encode())


def test_the_statements_that_are_printed_do_what_migrate_does(staffa: Staffa, url: str):
    nothing = catalogue(url)
    staffa.migrate()
    made = catalogue(url)
    staffa.migrate_back(0)

    apply(url, staffa.migration_sql())
    assert catalogue(url) == made
    assert staffa.migrate() == []
    assert staffa.insert(Job(worker="w")).id == 1

    apply(url, staffa.migration_sql(VERSIONS[-1], 0))
    if url.startswith("postgres"):
        assert catalogue(url) == nothing
    else:  # where SQLite's table is from is only known there
        assert ask(url, "select worker from oban_jobs") == [("w",)]


def test_sqlalchemy_executes_the_statements_as_they_are(staffa: Staffa, url: str):
    """As Alembic does with `op.get_bind().exec_driver_sql(...)`."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    for _ in range(2):
        with engine.begin() as connection:
            for each in staffa.migration_sql():
                connection.exec_driver_sql(each)
        assert staffa.tables.status().pending == []
        with engine.begin() as connection:
            for each in staffa.migration_sql(VERSIONS[-1], 0):
                connection.exec_driver_sql(each)
        assert staffa.tables.status().applied == []
    engine.dispose()


def test_the_printed_way_back_leaves_obans_own_tables(staffa: Staffa, url: str):
    made_by_oban(url)
    tables, jobs = catalogue(url), ask(url, "select * from oban_jobs")
    apply(url, staffa.migration_sql())
    apply(url, staffa.migration_sql(VERSIONS[-1], 0))
    assert (catalogue(url), ask(url, "select * from oban_jobs")) == (tables, jobs)


@pytest.mark.parametrize("schema", ["jobs", 'we"ird %s :x', "it's. 100%", "UPPER lower"])
def test_printed_statements_need_no_search_path(empty_postgres_url: str, schema: str):
    url = empty_postgres_url
    instance = Staffa(url, run_queues=False, schema=schema)
    nothing = catalogue(url)
    run(url, 'create schema "first"; create table "first".oban_jobs (id int)')
    apply(f"{url}&options=-csearch_path%3Dfirst" if "?" in url else f"{url}?options=-csearch_path%3Dfirst",
          instance.migration_sql())  # fmt: skip
    made = catalogue(url, schema)
    assert instance.migrate() == []
    assert instance.migrate_back(0) == BACK
    assert instance.migrate() == VERSIONS
    assert catalogue(url, schema) == made
    apply(url, instance.migration_sql(VERSIONS[-1], 0))
    instance.close()
    assert catalogue(url, schema) == nothing
    assert [name for name, *_ in catalogue(url, "first")[0]] == ["oban_jobs"]


# Many at once


async def test_of_many_who_go_back_at_once_one_does_it(url: str):
    nodes = [Staffa(url, run_queues=False) for _ in range(6)]
    nodes[0].tables.forward()
    gone = await asyncio.gather(*(asyncio.to_thread(node.tables.back, 0) for node in nodes))
    assert sorted(gone) == [[]] * 5 + [BACK]
    for node in nodes:
        node.close()


def test_a_way_back_that_fails_changes_nothing(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    instance = Staffa(postgres_url, run_queues=False)
    before = catalogue(postgres_url)
    run(postgres_url, "create view leans as select take from oban_jobs")
    try:
        with pytest.raises(Exception, match="leans"):
            instance.migrate_back(0)
    finally:
        run(postgres_url, "drop view leans")
        instance.close()
    assert catalogue(postgres_url) == before
