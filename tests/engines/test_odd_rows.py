"""Rows that nobody should have written wedge no queue, whoever wrote them."""

import sqlite3
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from contract import HOUR, NOW, Trial, failed, ids, job, these
from staffa import State, _lifecycle
from staffa._filter import JobFilter
from staffa.engine import Beat

ODD_ON_BOTH = {
    "args that are a list": {"args": "[1, 2]"},
    "args that are text": {"args": '"text"'},
    "args that are null": {"args": "null"},
    "meta that is a list": {"meta": "[1]"},
    "meta that is text": {"meta": '"text"'},
    "meta that is null": {"meta": "null"},
    "counts in meta that are none": {"meta": '{"snoozed": "often", "rescued": null}'},
    "a priority that nobody has": {"priority": 32_000},
    "a worker that nobody has": {"worker": "Nobody.There"},
}
ODD_ON_POSTGRES = {
    "no tags": {"tags": None},
    "no meta": {"meta": None},
    "a tag that is null": {"tags": [None]},
    "errors that are none": {"errors": ["1", "null", '"text"']},
    "scheduled for ever ago": {"scheduled_at": "-infinity"},
    "scheduled before Christ": {"scheduled_at": "0044-03-15 12:00:00 BC"},
    "scheduled in the first year": {"scheduled_at": "0001-01-01 00:00:00"},
    "scheduled never": {"scheduled_at": "infinity"},
    "scheduled in a year of five digits": {"scheduled_at": "20000-01-01 00:00:00"},
    "inserted never": {"inserted_at": "infinity"},
    "attempted by one": {"attempted_by": ["node"]},
}
ODD_ON_SQLITE = {
    "args that are no JSON": {"args": "{oh"},
    "meta that is no JSON": {"meta": "{oh"},
    "tags that are no JSON": {"tags": "oh"},
    "tags that are a number": {"tags": "1"},
    "errors that are no JSON": {"errors": "oh"},
    "errors that are a number": {"errors": "1"},
    "errors that are an object": {"errors": "{}"},
    "errors that are none": {"errors": '[1, null, "text"]'},
    "attempted by nonsense": {"attempted_by": "oh"},
    "attempted by a number": {"attempted_by": "1"},
    "scheduled some day": {"scheduled_at": "some day"},
    "scheduled on no day": {"scheduled_at": "2020-02-31T00:00:00.000000Z"},
    "scheduled in another format": {"scheduled_at": "2020-02-03 04:05:06"},
    "scheduled in the first year": {"scheduled_at": "0001-01-01T00:00:00.000000Z"},
    "inserted some day": {"inserted_at": "some day"},
    "times that are bytes": {"scheduled_at": b"2020", "inserted_at": b"\xff"},
    "args that are bytes": {"args": b"\xff"},
    "a key that is a number": {"unique_key": 5},
}
ODD = {
    "postgres": {**ODD_ON_BOTH, **ODD_ON_POSTGRES},
    "sqlite": {**ODD_ON_BOTH, **ODD_ON_SQLITE},
}


@pytest.fixture(params=["sqlite", "postgres"])
def trial(request: pytest.FixtureRequest) -> Trial:
    """One engine of each database: odd rows are a matter of the statements."""
    return request.getfixturevalue(f"on_{request.param}")


@pytest.fixture(params=[(kind, odd) for kind, rows in ODD.items() for odd in rows], ids="-".join)
def odd(request: pytest.FixtureRequest) -> tuple[Trial, dict[str, object]]:
    """A database, and what is odd in a row of it."""
    kind, name = request.param
    return request.getfixturevalue(f"on_{kind}"), ODD[kind][name]


async def test_an_odd_row_runs_and_ends_like_any_other(odd):
    trial, columns = odd
    await trial.insert_many(8, max_attempts=3)
    await trial.insert_many(2, max_attempts=1)
    await trial.change_all("id in (2, 4, 6, 8, 10)", **columns)
    producer = await trial.producer()
    held = sorted(await trial.take(producer), key=lambda each: each.id)
    assert ids(held) == list(range(1, 11))
    outcomes = [
        *(_lifecycle.completed(each, NOW) for each in held[0:2]),
        *(_lifecycle.snoozed(each, NOW, HOUR) for each in held[2:4]),
        *(_lifecycle.cancelled(each, NOW, "no") for each in held[4:6]),
        *(failed(each) for each in held[6:10]),
    ]
    assert await trial.hand_in(producer, *zip(held, outcomes, strict=True)) == ([], [], [])
    became = ("completed", "scheduled", "cancelled", "retryable", "discarded")
    assert await trial.states() == [state for state in became for _ in range(2)]


async def test_an_odd_row_is_looked_after_like_any_other(odd):
    trial, columns = odd
    everyone = ids(await trial.insert_many(3))
    producer = await trial.producer()
    held = await trial.take(producer)
    await trial.change_all("id = 2", **columns)

    await trial.engine.progress(producer, [(each, {"current": 1}) for each in held])
    handed_back = ids((await trial.engine.reconcile(producer, [held[0]])).handed_back)
    assert 3 in handed_back
    await trial.take(producer)
    await trial.engine.expire([Beat(producer.id, 0)])
    rescued = ids(await trial.engine.rescue(10, now=NOW))
    assert {1, 3} <= set(rescued)
    assert await trial.engine.rescue(10, now=NOW) == []

    assert {each.job.id for each in await trial.engine.cancel(these(everyone), now=NOW)} == set(everyone)
    assert set(ids(await trial.engine.retry(these(everyone), now=NOW))) == set(everyone)
    assert ids(await trial.engine.jobs(JobFilter())) == everyone[::-1]
    assert await trial.states() == ["available"] * 3

    await trial.change_all("true", state="scheduled")
    await trial.engine.stage(10, now=NOW)
    assert await trial.states() == ["available"] * 3
    await trial.engine.cancel(these(everyone), now=NOW - HOUR)
    assert await trial.engine.prune({State.CANCELLED: HOUR / 2}, 10, now=NOW) == {State.CANCELLED: 3}


async def test_more_attempts_than_there_are_discard_a_job(on_sqlite: Trial):
    await on_sqlite.insert_many(2, max_attempts=3)
    await on_sqlite.change_all("id = 1", attempt=99)
    assert ids(await on_sqlite.take(await on_sqlite.producer())) == [2]
    assert await on_sqlite.states() == ["discarded", "executing"]


async def test_a_job_without_an_attempt_left_is_discarded_instead_of_run(trial: Trial):
    spent, fresh = await trial.insert_many(2, max_attempts=2)
    await trial.change(spent, attempt=2)
    producer = await trial.producer()
    assert ids(await trial.take(producer, 1)) + ids(await trial.take(producer, 1)) == [fresh.id]
    found = await trial.get(spent)
    assert (found.state, found.discarded_at, found.attempt) == (State.DISCARDED, NOW, 2)


async def test_outermost_instants_read_as_the_outermost_there_are(on_postgres: Trial):
    rows = await on_postgres.insert_many(2)
    await on_postgres.change(rows[0], scheduled_at="infinity")
    await on_postgres.change(rows[1], scheduled_at="-infinity")
    assert (await on_postgres.get(rows[0])).scheduled_at == datetime.max.replace(tzinfo=UTC)
    assert (await on_postgres.get(rows[1])).scheduled_at == datetime.min.replace(tzinfo=UTC)


async def test_a_state_that_nobody_knows_is_refused(trial: Trial):
    [stored] = await trial.insert(job())
    with pytest.raises((sqlite3.IntegrityError, psycopg.DataError)):
        await trial.change(stored, state="pondering")


async def test_a_far_delay_is_stored_or_refused_but_never_runs_now(trial: Trial):
    with_room = timedelta(days=3_000_000)
    [stored] = await trial.insert(job(schedule_in=with_room))
    assert stored.state is State.SCHEDULED
    assert await trial.take(await trial.producer()) == []
