"""What every engine promises to those who store jobs."""

from datetime import UTC, datetime, timedelta

import pytest

from contract import NOW, SECOND, Trial, ids, job
from staffa import State
from staffa._filter import JobFilter
from staffa._job import replace
from staffa.errors import UnstorableData

MICROSECOND = timedelta(microseconds=1)
ODD_ARGS = {
    "text": "Ærøskøbing — நன்றி — 🎉 — \u202e — \x01 \" ' \\ % :now ?",
    "big": 2**63,
    "bigger": -(10**30),
    "small": -(2**53) - 1,
    "fraction": 0.1,
    "nothing": None,
    "yes": True,
    "nested": {"list": [1, [2, {"three": []}], {}], "": "an empty key", "a.b": 1, "$.c": "1"},
}


async def test_inserted_jobs_come_back_in_order_with_ids(any_way_in: Trial):
    stored = await any_way_in.insert(*(job(args={"n": n}) for n in range(50)))
    assert [each.args["n"] for each in stored] == list(range(50))
    assert ids(stored) == sorted(set(ids(stored)))
    assert all([await any_way_in.get(each) == each for each in stored[:3]])


async def test_inserting_nothing_stores_nothing(any_way_in: Trial):
    assert await any_way_in.engine.insert([]) == []


async def test_inserts_are_all_or_none(any_way_in: Trial):
    kept = await any_way_in.insert(job())
    with pytest.raises(UnstorableData):
        await any_way_in.insert(job(), job(queue=None), job())
    assert await any_way_in.engine.jobs(JobFilter()) == kept


async def test_a_job_comes_back_as_it_was_stored(any_way_in: Trial):
    given = job(
        "some.Worker", args=ODD_ARGS, meta=ODD_ARGS, tags=["ä", 'quo"te', "b"], queue="own", priority=9
    )
    [stored] = await any_way_in.insert(given)
    found = await any_way_in.get(stored)
    assert found == stored
    assert (found.args, found.meta, found.tags) == (ODD_ARGS, ODD_ARGS, ["ä", 'quo"te', "b"])
    assert (found.worker, found.queue, found.priority) == ("some.Worker", "own", 9)
    assert (found.attempt, found.max_attempts, found.take, found.errors) == (0, 20, 0, [])
    assert (found.attempted_by, found.unique_key, found.attempted_at) == ([], None, None)


OWN_WAYS = [
    {"queue": "own"},
    {"priority": 3},
    {"max_attempts": 7},
    {"tags": ["a"]},
    {"tags": ["b"]},
    {"meta": {"n": 1}},
    {"meta": {"n": True}},
    {"meta": {"n": 1.0}},
    {"state": State.SUSPENDED},
    {"scheduled_at": NOW + SECOND},
    {"scheduled_at": NOW - SECOND},
    {"unique_key": "a:key:'of\"its own"},
    {"unique_key": "another", "queue": "own"},
]


async def test_jobs_of_many_kinds_inserted_together_keep_what_is_their_own(any_way_in: Trial):
    given = [job(**fields, args={"n": n}) for n in range(3) for fields in ({}, *OWN_WAYS)]
    stored = await any_way_in.insert(*given)
    found = [await any_way_in.get(each) for each in stored]
    assert ids(found) == sorted(ids(found))
    assert found == stored
    for mine, theirs in zip(found, given, strict=True):
        assert (mine.args, mine.queue, mine.priority, mine.max_attempts, mine.tags, mine.unique_key) == (
            (theirs.args, theirs.queue, theirs.priority, theirs.max_attempts, theirs.tags, theirs.unique_key)
        )
        assert repr(mine.meta.get("n")) == repr(theirs.meta.get("n"))
        assert mine.scheduled_at == (theirs.scheduled_at or NOW)


LATER = [{"schedule_in": delay} for delay in (-SECOND, timedelta(0), MICROSECOND, timedelta(days=3_000_000))]


async def test_a_job_alone_is_stored_as_one_among_others(any_way_in: Trial):
    for fields in ({}, *OWN_WAYS, *LATER):
        given = job(args=ODD_ARGS, **fields)
        [alone] = await any_way_in.insert(given)
        among = await any_way_in.insert(given, job("another.Worker"), given)
        assert [replace(each, id=alone.id) for each in (among[0], among[2])] == [alone, alone]
        assert await any_way_in.get(alone) == alone


async def test_a_job_without_a_time_is_available_now(any_way_in: Trial):
    [stored] = await any_way_in.insert(job())
    assert (stored.state, stored.inserted_at, stored.scheduled_at) == (State.AVAILABLE, NOW, NOW)


async def test_a_job_for_later_is_scheduled(any_way_in: Trial):
    [stored] = await any_way_in.insert(job(scheduled_at=NOW + MICROSECOND))
    assert (stored.state, stored.scheduled_at) == (State.SCHEDULED, NOW + MICROSECOND)


@pytest.mark.parametrize("late", [timedelta(0), MICROSECOND, 365 * timedelta(days=1)])
async def test_a_time_that_has_come_makes_a_job_available(any_way_in: Trial, late: timedelta):
    [at, after] = await any_way_in.insert(job(scheduled_at=NOW - late), job(schedule_in=-late))
    assert [at.state, after.state] == [State.AVAILABLE, State.AVAILABLE]
    assert at.scheduled_at == after.scheduled_at == NOW - late


@pytest.mark.parametrize(
    "delay",
    [
        MICROSECOND,
        timedelta(milliseconds=1.5),
        timedelta(seconds=59, microseconds=999_999),
        timedelta(days=9_999),
    ],
)
async def test_a_delay_counts_from_the_insert_to_the_microsecond(any_way_in: Trial, delay: timedelta):
    moment = NOW + timedelta(microseconds=123_456)
    [stored] = await any_way_in.insert(job(schedule_in=delay), now=moment)
    assert (stored.state, stored.scheduled_at, stored.schedule_in) == (State.SCHEDULED, moment + delay, None)
    assert await any_way_in.get(stored) == stored


async def test_a_time_is_kept_to_the_microsecond(any_way_in: Trial):
    moment = datetime(2031, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
    [stored] = await any_way_in.insert(job(scheduled_at=moment))
    assert stored.scheduled_at == moment == (await any_way_in.get(stored)).scheduled_at


async def test_without_a_given_time_the_clock_of_the_database_counts(any_way_in: Trial):
    [before] = await any_way_in.sql(
        "select clock_timestamp()"
        if any_way_in.is_postgres
        else "select strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    )
    earliest = before[0] if any_way_in.is_postgres else datetime.fromisoformat(before[0])
    now, later = await any_way_in.engine.insert([job(), job(schedule_in=SECOND)])
    assert earliest <= now.inserted_at < earliest + timedelta(minutes=1)
    assert now.scheduled_at == now.inserted_at == later.inserted_at
    assert later.scheduled_at == now.inserted_at + SECOND


async def test_suspended_jobs_stay_suspended_whatever_their_time(any_way_in: Trial):
    stored = await any_way_in.insert(
        job(state=State.SUSPENDED), job(state=State.SUSPENDED, scheduled_at=NOW + SECOND)
    )
    assert [each.state for each in stored] == [State.SUSPENDED, State.SUSPENDED]


async def test_a_large_batch_is_one_insert(any_way_in: Trial):
    stored = await any_way_in.insert_many(5_000, args={"text": "x" * 100})
    assert len(set(ids(stored))) == 5_000
