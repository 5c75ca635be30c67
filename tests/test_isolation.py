"""Systems beside each other, in schemas, databases or names, know nothing of each other."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from nodes import eventually, finished, is_idle, quick
from obans import catalogue, comment_of, oban_tables, query, run
from staffa import Job, Staffa, State, Worker
from staffa.errors import NoInstance
from staffa.telemetry import JobStopped

HOUR = timedelta(hours=1)
ODD_SCHEMAS = [
    '"quoted"',
    "UPPER",
    "two words",
    "dot.ted",
    "dotted.oban_insert",
    "100%",
    "ä",
    "select",
    "it's",
]
BY_HAND = """insert into "Two".oban_jobs (worker, args) values ('isolation.Counted', '{"where": 2}')"""
runs: Counter[tuple[str, int | None]] = Counter()


class Counted(Worker, name="isolation.Counted"):
    async def perform(self, job: Any) -> None:
        runs[job.args["where"], job.id] += 1


class Endless(Worker, name="isolation.Endless"):
    async def perform(self, job: Any) -> None:
        runs["endless", job.id] += 1
        await asyncio.sleep(600)


@pytest.fixture(autouse=True)
def afresh() -> None:
    runs.clear()


@pytest.fixture
def systems(empty_postgres_url: str) -> Iterator[tuple[Staffa, Staffa]]:
    """Two systems in two schemas of one database; their queues have the same names, and look only once in an hour."""
    made = tuple(quick(empty_postgres_url, schema=name, poll=HOUR) for name in ("one", "Two"))
    for each in made:
        each.migrate()
    yield made  # type: ignore[misc]
    for each in made:
        each.close()


@asynccontextmanager
async def running(*systems: Staffa) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for each in systems:
            await stack.enter_async_context(each)
        yield


# Schemas


async def test_two_schemas_run_their_own_jobs_under_their_own_leaders(systems: tuple[Staffa, Staffa]):
    one, two = systems
    async with running(one, two):
        await eventually(lambda: one.leads and two.leads)
        jobs = [await one.ainsert(Counted.new(where="one")) for _ in range(5)]
        others = [await two.ainsert(Counted.new(where="two")) for _ in range(3)]
        assert [job.id for job in others] == [1, 2, 3]
        await finished(one, jobs)
        await finished(two, others)
        assert runs == {("one", n): 1 for n in range(1, 6)} | {("two", n): 1 for n in range(1, 4)}
        assert await one.acounts() == {"default": {State.COMPLETED: 5}}
        assert await two.acounts() == {"default": {State.COMPLETED: 3}}
        ours, theirs = [{each.id for each in await system.aproducers()} for system in systems]
        assert (len(ours), len(theirs), ours & theirs) == (1, 1, set())


async def test_what_is_said_in_one_schema_is_not_meant_for_the_other(
    systems: tuple[Staffa, Staffa], empty_postgres_url: str
):
    one, two = systems
    async with running(one, two):
        mine, same_id = await one.ainsert(Endless.new()), await two.ainsert(Endless.new())
        assert mine.id == same_id.id
        await eventually(lambda: runs["endless", mine.id] == 2)
        await one.acancel(mine.id)
        await eventually(lambda: is_idle(one))
        assert [job.state for job in await two.ajobs(ids=[1])] == [State.EXECUTING]
        run(empty_postgres_url, BY_HAND)
        run(empty_postgres_url, "select pg_notify('Two.oban_insert', '{\"queue\": \"default\"}')")
        await eventually(lambda: runs[2, 2] == 1)
        await two.acancel(same_id.id)


async def test_going_back_in_one_schema_leaves_the_other_at_work(
    systems: tuple[Staffa, Staffa], empty_postgres_url: str
):
    one, two = systems
    before = catalogue(empty_postgres_url, "Two")
    await one.ainsert(Job(worker="w"))
    async with running(two):
        await one.amigrate_back(0)
        assert catalogue(empty_postgres_url, "Two") == before
        await finished(two, [await two.ainsert(Counted.new(where="two"))])
    assert [rows for rows in catalogue(empty_postgres_url, "one") if rows] == []


def test_a_second_system_beside_obans_own_tables(empty_postgres_url: str):
    oban_tables(empty_postgres_url)
    tables = catalogue(empty_postgres_url)
    ours = Staffa(empty_postgres_url, run_queues=False, schema="python")
    ours.migrate()
    assert ours.insert(Job(worker="w")).id == 1
    assert catalogue(empty_postgres_url) == tables
    assert query(empty_postgres_url, "select count(*) from public.oban_jobs") == [(0,)]
    ours.migrate_back(0)
    ours.close()
    assert (catalogue(empty_postgres_url), comment_of(empty_postgres_url)) == (tables, "14")


@pytest.mark.parametrize("schema", ODD_SCHEMAS)
async def test_a_schema_may_have_any_name(empty_postgres_url: str, schema: str):
    staffa = quick(empty_postgres_url, schema=schema, poll=HOUR)
    await staffa.amigrate()
    made = catalogue(empty_postgres_url, schema)
    await staffa.amigrate(indexes=["args"])
    await staffa.amigrate(indexes=["args"])
    assert len(catalogue(empty_postgres_url, schema)[2]) == len(made[2]) + 1
    async with staffa:
        await finished(staffa, [await staffa.ainsert(Counted.new(where="odd"))])
        assert [each for each in await staffa.aexamine() if each.check in ("examination", "tables")]
        endless = await staffa.ainsert(Endless.new())
        await eventually(lambda: runs["endless", endless.id] == 1)
        await staffa.acancel(endless.id)
        await eventually(lambda: is_idle(staffa))
        await staffa.aretry(endless.id)
        await eventually(lambda: runs["endless", endless.id] == 2)
        await staffa.acancel(endless.id)
    await staffa.amigrate_back(0)
    await staffa.amigrate()
    assert catalogue(empty_postgres_url, schema) == made
    staffa.close()


async def test_the_search_path_does_not_matter(empty_postgres_url: str):
    """Where names without a schema lead to tables of somebody else, nothing of ours goes there."""
    run(
        empty_postgres_url,
        "create schema decoy; create type decoy.oban_job_state as enum ('odd');"
        " create table decoy.oban_jobs (id int); create table decoy.oban_peers (id int);"
        " create table decoy.staffa_schema (version int); create table decoy.staffa_producers (id int)",
    )
    [[name]] = query(empty_postgres_url, "select current_database()")
    with psycopg.connect(empty_postgres_url, autocommit=True) as admin:
        admin.execute(f'alter database "{name}" set search_path to decoy')
    decoy = catalogue(empty_postgres_url, "decoy")

    staffa = quick(empty_postgres_url)
    await staffa.amigrate()
    async with staffa:
        jobs = await staffa.ainsert_all([Counted.new(where="here") for _ in range(3)])
        await finished(staffa, jobs)
        await staffa.aretry(1)
        await finished(staffa, jobs)
        async with await psycopg.AsyncConnection.connect(empty_postgres_url) as connection:
            joined = await staffa.ainsert(Counted.new(where="joined"), connection=connection)
        await finished(staffa, [joined])
        await eventually(lambda: staffa.leads)
        assert await staffa.adelete(1) == [1]
    await staffa.amigrate_back(0)
    staffa.close()
    assert catalogue(empty_postgres_url, "decoy") == decoy
    for table in ("oban_jobs", "oban_peers", "staffa_schema", "staffa_producers"):
        assert query(empty_postgres_url, f"select count(*) from decoy.{table}") == [(0,)]


# Several in one program


async def test_two_databases_in_one_program(sqlite_url: str, postgres_url: str):
    file, server = quick(sqlite_url, name="file"), quick(postgres_url, name="server")
    with pytest.raises(NoInstance, match=r"file.*server"):
        await Counted.aenqueue(where="nowhere")
    async with running(file, server):
        here = await Counted.using(instance=file).aenqueue(where="file")
        there = await Counted.using(instance=server).aenqueue(where="server")
        await finished(file, [here])
        await finished(server, [there])
    assert runs == {("file", 1): 1, ("server", 1): 1}
    for each in (file, server):
        each.close()


async def test_two_names_on_one_database_lead_apart_and_share_the_jobs(url: str):
    one, two = quick(url, name="One", queues={"a": 2}), quick(url, name="Two", queues={"b": 2})
    heard: dict[str, list[str]] = {"One": [], "Two": []}
    for each in (one, two):
        each.telemetry.attach(
            lambda event, name=each.name: (
                heard[name].append(event.job.queue)  # type: ignore[misc]
                if isinstance(event, JobStopped)
                else None
            )
        )
    async with running(one, two):
        await eventually(lambda: one.leads and two.leads)
        assert await one.engine.leader("staffa:One") != await one.engine.leader("staffa:Two")
        jobs = [await Counted.using(instance=two, queue=queue).aenqueue(where=queue) for queue in "ab" * 4]
        await finished(one, jobs)
        assert {job.id for job in await two.ajobs()} == {job.id for job in jobs}
    assert set(runs.values()) == {1}
    assert heard == {"One": ["a"] * 4, "Two": ["b"] * 4}
    for each in (one, two):
        each.close()
