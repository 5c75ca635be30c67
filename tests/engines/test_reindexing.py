"""Rebuilding indexes, beside those who write."""

import asyncio
from datetime import timedelta

import psycopg
import pytest

from contract import Trial
from staffa import Job
from staffa.engines._postgres_reindexing import REINDEX_LOCK
from staffa.errors import UnsupportedConnection

MINUTE = timedelta(minutes=1)
JOINED = ("sqlite-joined", "postgres-joined", "postgres-joined-awaited")
AVAILABLE = "staffa_jobs_available_index"


async def test_all_indexes_of_jobs_are_rebuilt_where_none_is_named(trial: Trial):
    await trial.insert(Job(worker="w"))

    done = await trial.engine.reindex([], MINUTE)

    assert {AVAILABLE, "staffa_jobs_due_index"} <= set(done.rebuilt)
    assert (done.dropped, done.failed) == ([], {})


async def test_only_the_named_indexes_are_rebuilt(trial: Trial):
    await trial.insert(Job(worker="w"))

    assert (await trial.engine.reindex([AVAILABLE], MINUTE)).rebuilt == [AVAILABLE]


async def test_an_index_that_fails_stops_no_other(trial: Trial):
    await trial.insert(Job(worker="w"))

    done = await trial.engine.reindex(["none", AVAILABLE], MINUTE)

    assert done.rebuilt == [AVAILABLE]
    assert list(done.failed) == ["none"]
    assert done.failed["none"]


async def test_jobs_are_found_by_a_rebuilt_index(trial: Trial):
    [job] = await trial.insert(Job(worker="w"))

    await trial.engine.reindex([], MINUTE)

    assert [each.id for each in await trial.take(await trial.producer())] == [job.id]


@pytest.mark.parametrize("any_ground", JOINED, indirect=True)
async def test_it_is_refused_in_a_transaction_of_the_caller(any_way_in: Trial):
    with pytest.raises(UnsupportedConnection):
        await any_way_in.engine.reindex([], MINUTE)


async def test_a_rebuilding_that_takes_too_long_is_given_up(on_sqlite: Trial):
    await on_sqlite.insert_many(20_000)

    done = await on_sqlite.engine.reindex([AVAILABLE], timedelta(0))

    assert done.rebuilt == []
    assert "interrupted" in done.failed[AVAILABLE]
    assert await on_sqlite.take(await on_sqlite.producer()), "the old index is there still"


async def test_the_halves_of_an_interrupted_rebuilding_are_dropped(on_postgres: Trial):
    await on_postgres.insert(Job(worker="w"), Job(worker="w"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        await on_postgres.sql(f"create unique index concurrently {AVAILABLE}_ccnew on oban_jobs (worker)")

    done = await on_postgres.engine.reindex([AVAILABLE], MINUTE)

    assert done.dropped == [f"{AVAILABLE}_ccnew"]
    left = await on_postgres.sql(f"select 1 from pg_class where relname = '{AVAILABLE}_ccnew'")
    assert left == []


async def test_one_that_waits_for_a_long_transaction_is_given_up_and_leaves_nothing(on_postgres: Trial):
    await on_postgres.insert(Job(worker="w"))
    async with on_postgres.holding("update oban_jobs set priority = 1"):
        stuck = await on_postgres.engine.reindex([AVAILABLE], timedelta(seconds=0.2))

    assert "statement timeout" in stuck.failed[AVAILABLE]
    cleaned = await on_postgres.engine.reindex([AVAILABLE], MINUTE)
    assert (cleaned.rebuilt, cleaned.failed) == ([AVAILABLE], {})
    halves = await on_postgres.sql("select relname from pg_class where relname ~ '_ccnew'")
    assert halves == []


async def test_it_does_nothing_while_another_process_rebuilds(on_postgres: Trial):
    with await asyncio.to_thread(psycopg.connect, on_postgres.url, autocommit=True) as other:
        await asyncio.to_thread(other.execute, "select pg_advisory_lock(%s)", [REINDEX_LOCK])
        done = await on_postgres.engine.reindex([], MINUTE)

    assert done == ([], [], {})
