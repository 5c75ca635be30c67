"""Promises that ordinary days put to the test: waking up, cancelling, cleaning up, busy pools and failovers."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from nodes import BEAT, OtherNode, eventually, finished, quick
from staffa import Job, Lifeline, Pruner, Staffa, Stager, State, Worker
from staffa.errors import DatabaseUnavailable
from staffa.telemetry import EngineCalled, JobBounced

HOUR = timedelta(hours=1)

runs: Counter[str] = Counter()
release = threading.Event()
"""Set when plain workers may go on."""


@pytest.fixture(autouse=True)
def clean_ledger() -> None:
    runs.clear()
    release.clear()


class Note(Worker, name="tests.Note"):
    async def perform(self, job: Job) -> None:
        runs[job.args["name"]] += 1
        await asyncio.sleep(job.args.get("seconds", 0))


class NeverLooks(Worker, name="tests.NeverLooks"):
    """Never asks whether it was cancelled, and says in the end that all went well."""

    def perform(self, job: Job) -> str:
        runs[job.args["name"]] += 1
        release.wait(20)
        return "done"


async def started(name: str) -> None:
    await eventually(lambda: runs[name])


# Waking up: instances that poll once an hour, so that only being told can wake them


async def test_a_job_starts_when_it_is_due_and_not_a_poll_later(url: str) -> None:
    staffa = quick(url, poll=HOUR)
    async with staffa:
        later = Note.using(schedule_in=timedelta(seconds=0.3)).new(name="later")
        [done] = await finished(staffa, [await staffa.ainsert(later)])
    assert done.state == State.COMPLETED
    staffa.close()


async def test_a_queue_of_any_name_is_woken_by_an_insert_elsewhere(url: str) -> None:
    queue = 'it\'s "quoted", {braced}, back\\slashed, ümläuted 🎉'
    staffa, elsewhere = quick(url, queues={queue: 1}, poll=HOUR), quick(url, run_queues=False)
    async with staffa:
        first = await elsewhere.ainsert(Note.using(queue=queue).new(name="first"))
        await finished(staffa, [first])
        second = await elsewhere.ainsert(Note.using(queue=queue).new(name="second"))
        await finished(staffa, [second])
    assert runs == {"first": 1, "second": 1}
    staffa.close()
    elsewhere.close()


# Cancelling


async def test_a_cancelled_job_stays_cancelled_whatever_its_worker_returns(url: str) -> None:
    staffa = quick(url)
    bounced: list[JobBounced] = []
    staffa.telemetry.attach(lambda event: bounced.append(event) if isinstance(event, JobBounced) else None)
    async with staffa:
        job = await staffa.ainsert(NeverLooks.new(name="stubborn"))
        await started("stubborn")
        [cancelled] = await staffa.acancel(job.id)
        assert cancelled.state == (await staffa.aget(job.id)).state == State.CANCELLED
        release.set()
        await eventually(lambda: not staffa.unstopped)
        after = await staffa.ainsert(Note.new(name="after"))
        await finished(staffa, [after])
        assert (await staffa.aget(job.id)).state == State.CANCELLED
    assert runs["stubborn"] == 1
    staffa.close()


# Cleaning up


async def test_one_prune_takes_all_that_is_old_enough_however_small_its_limit(url: str) -> None:
    staffa = quick(url, run_queues=False)
    jobs = await staffa.ainsert_all([Note.new(name=f"n{i}") for i in range(7)])
    await staffa.acancel(*[job.id for job in jobs])
    told = await Pruner(limit=2, max_age=timedelta(0)).tick(staffa.engine)
    assert await staffa.ajobs() == []
    assert told["cancelled"] == 7
    staffa.close()


async def test_a_machine_at_rest_never_counts_or_lists_the_jobs(url: str) -> None:
    staffa = quick(url)
    await staffa.ainsert_all([Note.using(schedule_in=HOUR).new(name=f"n{i}") for i in range(5)])
    words: Counter[str] = Counter()
    staffa.telemetry.attach(
        lambda event: words.update([event.word]) if isinstance(event, EngineCalled) else None
    )
    async with staffa:
        await eventually(lambda: min(words["stage"], words["ready"], words["reconcile"], words["rescue"]) > 2)
    assert not words.keys() & {"jobs", "count", "counts", "backlog"}
    staffa.close()


async def test_queues_at_rest_are_looked_at_together_and_what_nobody_told_of_is_found(url: str) -> None:
    queues = ("a", "b", "c")
    staffa = quick(url, queues=dict.fromkeys(queues, 1), poll=BEAT, heartbeat=HOUR, plugins=[])
    words: Counter[str] = Counter()
    staffa.telemetry.attach(
        lambda event: words.update([event.word]) if isinstance(event, EngineCalled) else None
    )
    staffa._heard = lambda *_: None  # type: ignore[method-assign] # so that hints are lost
    async with staffa:
        await eventually(lambda: min(words["exchange"], words["ready"]) >= len(queues))
        before = words["exchange"]
        looked = words["ready"]
        await eventually(lambda: words["ready"] > looked + 5)
        assert words["exchange"] == before
        elsewhere = quick(url, run_queues=False)
        jobs = [await elsewhere.ainsert(Note.using(queue=queue).new(name=queue)) for queue in queues]
        assert {job.state for job in await finished(staffa, jobs)} == {State.COMPLETED}
        elsewhere.close()
    staffa.close()


# Busy pools and failovers, which only servers have


@pytest.fixture
def on_postgres(postgres_url: str) -> Any:
    return postgres_url


async def test_a_pool_that_others_keep_busy_makes_nobody_look_dead(on_postgres: str) -> None:
    staffa = quick(on_postgres)
    job = await staffa.ainsert(Note.new(name="long", seconds=2.5))
    with OtherNode(quick(on_postgres, queues={"default": 5})):
        async with staffa:
            await started("long")
            async with AsyncExitStack() as busy:
                await all_connections(staffa, busy)
                await asyncio.sleep(1.5)  # longer than the silence after which a process is taken for dead
            [done] = await finished(staffa, [job])
    assert runs["long"] == 1
    assert (done.state, done.meta) == (State.COMPLETED, {})
    staffa.close()


async def all_connections(staffa: Staffa, stack: AsyncExitStack) -> list[Any]:
    pool = staffa._database._pool  # type: ignore[attr-defined]
    return [await stack.enter_async_context(pool.connection()) for _ in range(pool.max_size)]


async def test_connections_to_a_server_that_became_read_only_are_given_up(on_postgres: str) -> None:
    """As after a failover: the old primary still answers, but only new connections lead to the new one."""
    patient = [Stager(interval=HOUR), Lifeline(interval=HOUR)]
    staffa = quick(on_postgres, plugins=patient)
    async with staffa:
        async with AsyncExitStack() as stack:
            for connection in await all_connections(staffa, stack):
                await connection.execute("set default_transaction_read_only = on")
        await eventually(lambda: is_stored(lambda: staffa.ainsert(Note.new(name="after"))))
        await started("after")
    staffa.close()


async def test_a_caller_s_pool_gives_up_connections_that_became_read_only(on_postgres: str) -> None:
    staffa = quick(on_postgres, run_queues=False)
    await staffa.ajobs()
    await asyncio.to_thread(make_read_only, staffa)
    await eventually(lambda: is_stored(lambda: staffa.ainsert(Note.new(name="after"))))
    staffa.close()


def make_read_only(staffa: Staffa) -> None:
    with staffa._database._opened().connection() as connection:  # type: ignore[attr-defined]
        connection.execute("set default_transaction_read_only = on")


async def is_stored(insert: Callable[[], Awaitable[Job]]) -> bool:
    try:
        await insert()
    except DatabaseUnavailable:
        return False
    return True
