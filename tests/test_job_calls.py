"""What an instance promises to those who look for jobs and act on them, one by one or all that a filter means."""

import asyncio
import inspect
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from nodes import eventually, finished, quick
from staffa import Job, JobFilter, Staffa, State, Worker, _job_calls, job
from staffa._changes import CHECKS as CHANGEABLE
from staffa._changes import Changes
from staffa._filter import CHECKS, JobFields
from staffa._job_calls import JobCalls
from staffa.engines._sql.statements import conditions_of
from staffa.errors import DatabaseError, InsideEventLoop, InvalidArguments, InvalidFilter, InvalidJob

Make = Callable[..., Staffa]
TOMORROW = datetime.now(UTC) + timedelta(days=1)


class Import(Worker, name="calls.Import", aliases=["calls.OldImport"]):
    def perform(self, job):
        return None


@dataclass
class Letter:
    to: str
    copies: int = 1


class Send(Worker, name="calls.Send", args=Letter):
    def perform(self, job):
        return None


@job(name="calls.add")
def add(left: int, right: int = 0) -> None: ...


@pytest.fixture
def staffa(make: Make) -> Staffa:
    instance = make(run_queues=False)
    instance.migrate()
    return instance


def store(staffa: Staffa, count: int = 1, **options: Any) -> list[int]:
    stored = staffa.insert_all([Job(**{"worker": "w", **options}) for _ in range(count)])
    return [each.id or 0 for each in stored]


def connect(url: str) -> Any:
    return (
        psycopg.connect(url)
        if url.startswith("postgres")
        else sqlite3.connect(url.removeprefix("sqlite:///"))
    )


# One list of fields


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_every_field_of_a_filter_asks_something_of_every_database(dialect: str):
    fields = set(JobFilter.__struct_fields__)
    assert set(JobFields.__annotations__) == set(CHECKS) == fields
    assert set(conditions_of(dialect)) == fields - {"limit"}


def test_every_change_is_checked():
    assert set(Changes.__annotations__) == set(CHANGEABLE)


def test_every_word_about_jobs_has_an_awaited_twin():
    words = [name for name in vars(JobCalls) if not name.startswith("_")]
    plain = [name for name in words if not inspect.iscoroutinefunction(getattr(JobCalls, name))]
    assert {f"a{name}" for name in plain} == set(words) - set(plain)


# Looking


def test_jobs_are_found_by_their_worker_under_all_its_names(staffa: Staffa):
    new = store(staffa, worker="calls.Import")
    old = store(staffa, worker="calls.OldImport")
    added = store(staffa, worker="calls.add")
    assert {each.id for each in staffa.jobs(workers=Import)} == {*new, *old}
    assert {each.id for each in staffa.jobs(workers=[add, "calls.OldImport"])} == {*added, *old}
    assert staffa.count(workers=Import) == 2


def test_a_filter_is_given_whole_or_by_its_fields(staffa: Staffa):
    [found] = store(staffa, queue="q")
    store(staffa)
    assert [each.id for each in staffa.jobs(JobFilter(queues="q"))] == [found]
    assert [each.id for each in staffa.jobs(queues="q")] == [found]
    with pytest.raises(InvalidFilter, match="not both"):
        staffa.jobs(JobFilter(), queues="q")
    with pytest.raises(InvalidFilter, match="a filter is a JobFilter"):
        staffa.jobs({"queues": "q"})  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [None, [], [1, 2]])
async def test_a_job_is_not_got_by_what_is_no_id(staffa: Staffa, asked: Any):
    await staffa.ainsert_all([Job(worker="w"), Job(worker="w")])
    with pytest.raises(InvalidFilter, match="ids: a whole number"):
        await asyncio.to_thread(staffa.get, asked)
    with pytest.raises(InvalidFilter, match="ids: a whole number"):
        await staffa.aget(asked)


def test_an_unknown_field_is_named_with_its_neighbour(staffa: Staffa):
    with pytest.raises(InvalidFilter, match="'queue' to ask for; did you mean 'queues'"):
        staffa.jobs(queue="q")  # type: ignore[call-arg]


# Acting on many


@pytest.mark.parametrize("word", ["cancel_all", "retry_all", "delete_all"])
def test_every_job_is_meant_only_where_somebody_says_so(staffa: Staffa, word: str):
    [stored] = store(staffa, state=State.SUSPENDED)
    for nothing in ({}, {"ids": None}, {"queues": None, "args": None}):
        with pytest.raises(InvalidFilter, match=rf"{word} was not told which jobs"):
            getattr(staffa, word)(**nothing)
    assert getattr(staffa, word)(ids=[]) == getattr(staffa, word)(states=[]) == []
    assert staffa.count(states="suspended") == 1
    assert getattr(staffa, word)(JobFilter()) == [stored]


def test_updating_all_needs_a_filter_and_a_change(staffa: Staffa):
    stored = store(staffa, 2)
    with pytest.raises(InvalidFilter, match="update_all was not told which jobs"):
        staffa.update_all(None, priority=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidJob, match="nothing to change"):
        staffa.update_all(JobFilter())
    assert staffa.update_all(JobFilter(), priority=1) == stored


def test_no_id_means_no_job(staffa: Staffa):
    store(staffa)
    assert staffa.cancel() == staffa.retry() == staffa.delete() == []
    assert staffa.count(states="available") == 1


def test_jobs_are_given_by_id_or_as_they_are(staffa: Staffa):
    first, second = staffa.insert_all([Job(worker="w"), Job(worker="w")])
    assert {each.id for each in staffa.cancel(first, second.id or 0)} == {first.id, second.id}
    with pytest.raises(InvalidFilter, match="has no id"):
        staffa.delete(Job(worker="w"))
    assert staffa.delete(first, second) == [first.id, second.id]


def test_many_jobs_are_worked_off_in_batches(staffa: Staffa, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_job_calls, "BATCH", 10)
    stored = store(staffa, 35)
    sizes: list[int] = []
    cancel = staffa.plain_engine.cancel

    async def watched(wanted: JobFilter) -> Any:
        cancelled = await cancel(wanted)
        sizes.append(len(cancelled))
        return cancelled

    monkeypatch.setattr(staffa.plain_engine, "cancel", watched)
    assert staffa.cancel_all(queues="default") == stored
    assert sizes == [10, 10, 10, 5, 0]
    assert staffa.retry_all(states="cancelled", limit=25) == stored[:25]
    assert staffa.update_all(JobFilter(after=stored[4]), tags=["x"]) == stored[5:]
    assert staffa.delete_all(tags="x", limit=20) == stored[5:25]
    assert staffa.delete_all(JobFilter()) == stored[:5] + stored[25:]


async def test_all_that_wait_run_when_they_are_retried(url: str):
    async with quick(url) as staffa:
        stored = await staffa.ainsert_all(
            [Job(worker="calls.Import", state=State.SUSPENDED) for _ in range(5)]
        )
        assert await staffa.aretry_all(states="suspended") == [each.id for each in stored]
        assert {each.state for each in await finished(staffa, stored)} == {State.COMPLETED}


async def test_all_that_run_are_stopped_when_they_are_cancelled(url: str):
    stopped: list[int | None] = []

    class Endless(Worker, name="calls.Endless"):
        async def perform(self, job):
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(job.id)

    async with quick(url, heartbeat=timedelta(minutes=1)) as staffa:
        stored = await staffa.ainsert_all([Endless.new() for _ in range(3)])
        ids = {each.id for each in stored}
        await eventually(lambda: _all_execute(staffa, 3))
        assert set(await staffa.acancel_all(workers=Endless)) == ids
        await eventually(lambda: set(stopped) == ids)


async def _all_execute(staffa: Staffa, count: int) -> bool:
    return await staffa.acount(states="executing") == count


async def test_a_queue_that_gets_jobs_by_an_update_runs_them(url: str):
    async with quick(url, queues={"mine": 2}, poll=timedelta(minutes=5)) as staffa:
        stored = await staffa.ainsert(Job(worker="calls.Import", queue="nobody's"))
        await staffa.aupdate(stored, queue="mine")
        [after] = await finished(staffa, [stored])
        assert after.state is State.COMPLETED


# In the caller's transaction


def test_every_word_joins_the_caller_s_transaction(staffa: Staffa, url: str):
    stored = store(staffa, 6)
    before = staffa.jobs()
    with closing(connect(url)) as connection:
        connection.execute("delete from oban_jobs where id < 0")  # which begins a transaction
        assert len(staffa.cancel(stored[0], connection=connection)) == 1
        assert staffa.cancel_all(ids=stored[1:], connection=connection) == stored[1:]
        assert len(staffa.retry(stored[0], connection=connection)) == 1
        assert staffa.retry_all(ids=stored[1:3], connection=connection) == stored[1:3]
        assert staffa.update(stored[0], args={"a": 1}, connection=connection) is not None
        assert (
            staffa.update_all(JobFilter(ids=stored[1:]), meta={"b": 2}, connection=connection) == stored[1:]
        )
        assert staffa.delete(stored[5], connection=connection) == stored[5:]
        assert staffa.delete_all(states="cancelled", connection=connection) == stored[3:5]
        assert staffa.count(connection=connection) == 3
        assert [each.id for each in staffa.jobs(meta={"b": 2}, connection=connection)] == stored[2:0:-1]
        seen = staffa.get(stored[0], connection=connection)
        assert seen is not None
        assert seen.args == {"a": 1}
        assert staffa.jobs() == before
        connection.rollback()
    assert staffa.jobs() == before


@pytest.mark.parametrize("word", ["cancel", "update", "delete", "retry"])
def test_a_transaction_that_a_word_begins_is_the_caller_s_to_end(staffa: Staffa, url: str, word: str):
    [stored] = store(staffa, state=State.SUSPENDED)
    before = staffa.get(stored)
    changes = {"priority": 1} if word == "update" else {}
    with closing(connect(url)) as connection:
        assert getattr(staffa, word)(stored, connection=connection, **changes)
        assert staffa.get(stored) == before
        connection.rollback()
    assert staffa.get(stored) == before


def test_nobody_changes_what_a_caller_s_transaction_is_about_to_change(staffa: Staffa, url: str):
    [stored] = store(staffa, meta={"count": 0})

    def count_in_a_transaction() -> None:
        with closing(connect(url)) as connection:
            staffa.update(
                stored, lambda found: {"meta": {"count": found.meta["count"] + 1}}, connection=connection
            )
            connection.commit()

    threads = [threading.Thread(target=count_in_a_transaction) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = staffa.get(stored)
    assert after is not None
    assert after.meta == {"count": 8}


def test_a_connection_in_the_middle_of_reading_is_joined(sqlite_url: str):
    staffa = Staffa(sqlite_url, run_queues=False)
    stored = store(staffa, 3, args={"a": 1})
    with closing(connect(sqlite_url)) as connection:
        connection.row_factory = lambda *_: pytest.fail("these rows are the caller's")
        cursor = connection.cursor()
        cursor.row_factory = None
        reading = cursor.execute("select id from oban_jobs order by id")
        read = [reading.fetchone()[0]]
        assert staffa.count(args={"a": 1}, connection=connection) == 3
        read.append(reading.fetchone()[0])
        assert staffa.cancel_all(args={"a": 1}, connection=connection) == stored
        read.append(reading.fetchone()[0])
        connection.commit()
    assert read == stored
    assert staffa.count(states="cancelled") == 3
    staffa.close()


def test_what_is_done_in_a_transaction_that_commits_is_done(staffa: Staffa, url: str):
    stored = store(staffa, 2)
    with closing(connect(url)) as connection:
        staffa.cancel_all(JobFilter(), connection=connection)
        staffa.update(stored[0], priority=7, connection=connection)
        connection.commit()
    assert {(each.id, each.state, each.priority) for each in staffa.jobs()} == {
        (stored[0], State.CANCELLED, 7),
        (stored[1], State.CANCELLED, 0),
    }


async def test_an_awaited_connection_is_joined_too(postgres_url: str):
    staffa = Staffa(postgres_url, run_queues=False)
    stored = await staffa.ainsert(Job(worker="w", args={"a": 1}))
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        assert await staffa.acancel_all(args={"a": 1}, connection=connection) == [stored.id]
        assert await staffa.aupdate(stored, tags=["x"], connection=connection) is not None
        assert await staffa.aget(stored.id or 0, connection=connection) != stored
        assert await staffa.aget(stored.id or 0) == stored
        await connection.commit()
    [after] = await staffa.ajobs(tags="x")
    assert after.state is State.CANCELLED
    await asyncio.to_thread(staffa.close)


async def test_blocking_words_on_a_loop_name_their_twins(staffa: Staffa):
    for word in ("cancel_all", "retry_all", "delete_all"):
        with pytest.raises(InsideEventLoop, match=f"await a{word}"):
            getattr(staffa, word)(JobFilter())
    with pytest.raises(InsideEventLoop, match="await aupdate"):
        staffa.update(1, priority=1)
    with pytest.raises(InsideEventLoop, match="await acount"):
        staffa.count()


# Updating


def test_an_update_gives_the_job_back_as_it_is_stored(staffa: Staffa):
    [stored] = store(staffa, meta={"kept": 1})
    updated = staffa.update(
        stored, args={"b": 2}, queue="q", worker=Import, tags=[" X ", "x"], priority=2, max_attempts=5
    )
    assert updated == staffa.get(stored)
    assert updated is not None
    assert (updated.args, updated.queue, updated.worker, updated.tags) == (
        {"b": 2},
        "q",
        "calls.Import",
        ["x"],
    )
    assert (updated.priority, updated.max_attempts, updated.meta) == (2, 5, {"kept": 1})
    assert staffa.update(999, priority=1) is None


def test_a_function_is_given_the_job_and_says_what_changes(staffa: Staffa):
    stored = store(staffa, 2, meta={"kept": 1})
    staffa.update(stored[0], lambda found: {"meta": {**found.meta, "more": found.id}})
    staffa.update_all(JobFilter(), lambda found: {"args": {"seen": found.meta}})
    assert [each.args for each in staffa.jobs()] == [
        {"seen": {"kept": 1}},
        {"seen": {"kept": 1, "more": stored[0]}},
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state": "completed"}, "'state' of a stored job cannot be changed"),
        ({"prioriy": 1}, "did you mean 'priority'"),
        ({"priority": 10}, "priority must be a whole number from 0 to 9"),
        ({"priority": None}, "priority must be a whole number"),
        ({"max_attempts": 0}, "max_attempts must be a whole number"),
        ({"queue": ""}, "queue must be text"),
        ({"worker": 7}, "worker must be text"),
        ({"tags": "one"}, "tags must be a list"),
        ({"scheduled_at": None}, "scheduled_at must be a datetime"),
        ({"scheduled_at": datetime(2030, 1, 1)}, "scheduled_at must be a datetime with a time zone"),  # noqa: DTZ001 - what is refused
    ],
)
def test_a_change_that_no_job_can_have_is_refused(staffa: Staffa, changes: dict[str, Any], told: str):
    [stored] = store(staffa)
    before = staffa.get(stored)
    for change in (
        lambda: staffa.update(stored, **changes),
        lambda: staffa.update(stored, lambda _: changes),
    ):
        with pytest.raises(InvalidJob, match=told):
            change()
    assert staffa.get(stored) == before


@pytest.mark.parametrize("changes", [{"meta": {1: 2}}, {"args": {"a": object()}}, {"args": None}])
def test_what_json_cannot_hold_is_refused(staffa: Staffa, changes: dict[str, Any]):
    [stored] = store(staffa)
    with pytest.raises(InvalidArguments):
        staffa.update(stored, **changes)


def test_values_and_a_function_do_not_come_together(staffa: Staffa):
    with pytest.raises(InvalidJob, match="not both"):
        staffa.update(1, lambda _: {}, priority=1)
    with pytest.raises(InvalidJob, match="a function of the job"):
        staffa.update(1, {"priority": 1})  # type: ignore[arg-type]
    [stored] = store(staffa)
    with pytest.raises(InvalidJob, match="changes are a dict"):
        staffa.update(stored, lambda _: None)  # type: ignore[arg-type, return-value]


def test_arguments_must_fit_their_worker(staffa: Staffa):
    letter = staffa.insert(Send.new(to="Ann")).id or 0
    updated = staffa.update(letter, args=Letter(to="Bob", copies=2))
    assert updated is not None
    assert updated.args == {"to": "Bob", "copies": 2}
    with pytest.raises(InvalidArguments, match="copies"):
        staffa.update(letter, args={"to": "Bob", "copies": "many"})
    with pytest.raises(InvalidArguments, match="add"):
        staffa.update(letter, worker=add)
    moved = staffa.update(letter, worker=add, args={"left": 1})
    assert moved is not None
    assert (moved.worker, moved.args) == ("calls.add", {"left": 1})


def test_one_job_that_does_not_fit_leaves_its_whole_batch_as_it_was(staffa: Staffa):
    store(staffa)
    staffa.insert(Send.new(to="Ann"))
    with pytest.raises(InvalidArguments):
        staffa.update_all(JobFilter(), args={"x": 1})
    assert {tuple(each.args) for each in staffa.jobs()} == {(), ("to",)}


def test_only_what_waits_has_a_time_to_come(staffa: Staffa, url: str):
    waiting, ended = store(staffa, 2)
    staffa.cancel(ended)
    with pytest.raises(
        InvalidJob, match=f"job {ended} is cancelled: its scheduled_at can change only while it waits"
    ):
        staffa.update(ended, scheduled_at=TOMORROW)
    assert staffa.update_all(JobFilter(), scheduled_at=TOMORROW) == [waiting]
    later = staffa.get(waiting)
    assert later is not None
    assert (later.state, later.scheduled_at) == (State.SCHEDULED, TOMORROW)


def test_a_function_that_asks_the_same_database_is_refused_instead_of_waiting_for_ever(sqlite_url: str):
    staffa = Staffa(sqlite_url, run_queues=False)
    [stored] = store(staffa)
    with pytest.raises(DatabaseError, match="from within a change"):
        staffa.update(stored, lambda found: {"args": {"cancelled": len(staffa.cancel(found))}})
    assert staffa.count(states="available") == 1
    staffa.close()
