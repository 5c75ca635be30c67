"""A queue gives every place back, however its job's task ends."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import ClassVar

import pytest

from nodes import eventually, finished
from staffa import Staffa, State, Worker
from staffa._hands import InThisThread
from staffa._producer import Producer
from staffa.errors import DatabaseUnavailable, InstanceError
from staffa.telemetry import ExchangeFailed, JobBounced, Telemetry

DEADLINE = 10


class Hooked(Worker, max_attempts=1):
    hooked: asyncio.Event

    async def perform(self, job):
        raise ValueError("always")

    async def on_discarded(self, job):
        Hooked.hooked.set()
        await asyncio.sleep(60)


class CancelsItself(Worker):
    async def perform(self, job):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)


class Touch(Worker):
    async def perform(self, job): ...


def one_place(url: str) -> Staffa:
    return Staffa(url, queues={"default": 1}, heartbeat=timedelta(seconds=0.2), poll=timedelta(seconds=0.05))


async def completes(staffa: Staffa) -> None:
    """Wait until the only place of the queue has run another job."""
    job = await staffa.ainsert(Touch.new())
    async with asyncio.timeout(DEADLINE):
        while (await staffa.aget(job.id)).state is not State.COMPLETED:
            await asyncio.sleep(0.01)


async def test_a_job_cancelled_during_its_hook_gives_its_place_back(url: str):
    Hooked.hooked = asyncio.Event()
    async with one_place(url) as staffa:
        job = await staffa.ainsert(Hooked.new())
        await asyncio.wait_for(Hooked.hooked.wait(), DEADLINE)
        await staffa.acancel(job.id)
        await completes(staffa)
        assert (await staffa.aget(job.id)).state is State.CANCELLED


async def test_a_worker_that_cancels_its_own_task_fails_and_gives_its_place_back(url: str):
    async with one_place(url) as staffa:
        job = await staffa.ainsert(CancelsItself.new())
        await completes(staffa)
        assert (await staffa.aget(job.id)).state is State.RETRYABLE


async def test_a_job_stopped_before_its_first_step_gives_its_place_back(url: str, monkeypatch):
    start, stopped = Producer._start, []

    def start_and_stop(producer, jobs):
        start(producer, jobs)
        if not stopped:
            stopped.extend(job.id for job in jobs)
            for job in jobs:
                producer.kill(job.id, job.take)

    monkeypatch.setattr(Producer, "_start", start_and_stop)
    async with one_place(url) as staffa:
        job = await staffa.ainsert(Touch.new())
        await completes(staffa)
        assert (await staffa.aget(job.id)).state is State.CANCELLED


async def test_starting_twice_is_refused_also_where_no_queues_run(url: str):
    async with Staffa(url, run_queues=False) as staffa:
        with pytest.raises(InstanceError, match="runs already"):
            await staffa.start()
    async with staffa:
        pass


class Exchanges:
    """An engine whose exchange finishes another job meanwhile."""

    def __init__(self, engine, meanwhile):
        self._engine, self._meanwhile = engine, meanwhile

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def exchange(self, *args, **named):
        exchanged = await self._engine.exchange(*args, **named)
        self._meanwhile()
        return exchanged


async def test_a_job_that_finishes_during_the_last_exchange_is_not_forgotten(url: str):
    staffa = Staffa(url, run_queues=False)
    await staffa.amigrate() if url.startswith("sqlite") else None
    producer = Producer(
        "default",
        1,
        node="n",
        engine=staffa.engine,
        hands=InThisThread(),
        telemetry=Telemetry(),
        poll=timedelta(seconds=0.05),
        heartbeat=timedelta(seconds=5),
        grace=timedelta(0),
    )
    late = object()
    producer._engine = Exchanges(staffa.engine, lambda: producer._finished.append(late))
    await staffa.engine.register([producer.info])
    await producer._last_exchange()
    assert producer._finished == [late], "handed in by `hand_back_unstoppable`, not lost"
    staffa.close()


class Asked:
    """An engine that remembers how many jobs were asked for, and how many finished ones handed in."""

    def __init__(self, engine):
        self._engine, self.asked = engine, []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def exchange(self, producer, finished, demand, **named):
        self.asked.append((len(finished), demand))
        return await self._engine.exchange(producer, finished, demand, **named)


async def test_a_queue_fills_all_its_places_though_it_asks_for_half_of_them_at_once(url: str):
    running, full, go_on = [], asyncio.Event(), asyncio.Event()

    class Holds(Worker, name="places.Holds"):
        async def perform(self, job):
            running.append(job.id)
            if len(running) == 5:
                full.set()
            await go_on.wait()

    staffa = Staffa(url, queues={"default": 5}, poll=timedelta(seconds=60))
    async with staffa:
        [producer] = staffa._queues._running.values()
        producer._engine = asked = Asked(producer._engine)
        jobs = await staffa.ainsert_all([Holds.new() for _ in range(7)])
        await asyncio.wait_for(full.wait(), DEADLINE)
        assert max(demand for _, demand in asked.asked) == 3

        go_on.set()
        for each in await finished(staffa, jobs):
            assert each.state is State.COMPLETED
        assert (0, 0) not in asked.asked, "it asks for nothing where it has nothing to say"


class Overlapping:
    """An engine that keeps exchanges waiting, and knows how many are under way."""

    def __init__(self, engine):
        self._engine, self.underway, self.most = engine, 0, 0
        self.reconciled_meanwhile = False

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def exchange(self, producer, finished, demand, **named):
        self.underway += 1
        self.most = max(self.most, self.underway)
        try:
            await asyncio.sleep(0.005)
            return await self._engine.exchange(producer, finished, demand, **named)
        finally:
            self.underway -= 1

    async def reconcile(self, producer, held):
        self.reconciled_meanwhile |= bool(self.underway)
        return await self._engine.reconcile(producer, held)


class EndsSometime(Worker):
    """Ends while exchanges are under way."""

    async def perform(self, job):
        await asyncio.sleep(0.002 * (job.id % 5))


async def test_two_exchanges_are_under_way_while_there_are_more_jobs_than_run(url: str):
    staffa = Staffa(url, queues={"default": 9})
    async with staffa:
        [producer] = staffa._queues._running.values()
        producer._engine = engine = Overlapping(producer._engine)
        jobs = await staffa.ainsert_all([EndsSometime.new() for _ in range(100)])
        for each in await finished(staffa, jobs):
            assert (each.state, each.attempt) == (State.COMPLETED, 1)
    assert engine.most == 2


class Unsure(Overlapping):
    """An engine during whose exchanges the queue comes to doubt which jobs are its own."""

    doubts = 0

    async def exchange(self, producer, finished, demand, **named):
        if self.underway and demand:
            self.doubts += 1
            self.queue.kill(0)
            self.queue.wake()
        return await super().exchange(producer, finished, demand, **named)


async def test_what_an_exchange_is_taking_is_not_handed_back_meanwhile(url: str):
    Counted.runs.clear()
    staffa = Staffa(url, queues={"default": 4})
    async with staffa:
        [producer] = staffa._queues._running.values()
        producer._engine = engine = Unsure(producer._engine)
        engine.queue = producer
        jobs = await staffa.ainsert_all([Counted.new() for _ in range(60)])
        await finished(staffa, jobs)
    assert engine.doubts
    assert not engine.reconciled_meanwhile
    assert Counted.runs == Counter(job.id for job in jobs)


class Counted(Worker):
    runs: ClassVar[Counter[int]] = Counter()

    async def perform(self, job):
        Counted.runs[job.id] += 1


async def test_no_more_jobs_run_than_the_limit_while_two_exchanges_take_some(url: str):
    running, most = set(), 0

    class Lingers(Worker, name="places.Lingers"):
        async def perform(self, job):
            nonlocal most
            running.add(job.id)
            most = max(most, len(running))
            await asyncio.sleep(0.02)
            running.discard(job.id)

    staffa = Staffa(url, queues={"default": 4})
    async with staffa:
        [producer] = staffa._queues._running.values()
        producer._engine = Overlapping(producer._engine)
        await finished(staffa, await staffa.ainsert_all([Lingers.new() for _ in range(30)]))
    assert most == 4


class Failing(Overlapping):
    """An engine of which two exchanges fail that bring outcomes while another is under way."""

    def __init__(self, engine):
        super().__init__(engine)
        self.failures = iter(["the question was lost", "the answer was lost"])

    async def exchange(self, producer, finished, demand, **named):
        failure = next(self.failures, None) if self.underway and finished and demand else None
        if failure == "the question was lost":
            await asyncio.sleep(0.001)
            raise DatabaseUnavailable(failure)
        exchanged = await super().exchange(producer, finished, demand, **named)
        if failure is not None:
            raise DatabaseUnavailable(failure)
        return exchanged


async def test_an_exchange_that_fails_beside_another_loses_nothing_and_is_told(url: str):
    Counted.runs.clear()
    failed, bounced = [], []
    staffa = Staffa(url, queues={"default": 4}, heartbeat=timedelta(seconds=60))
    staffa.telemetry.attach(failed.append, ExchangeFailed)
    staffa.telemetry.attach(bounced.append, JobBounced)
    async with staffa:
        [producer] = staffa._queues._running.values()
        producer._engine = Failing(producer._engine)
        jobs = await staffa.ainsert_all([Counted.new() for _ in range(60)])
        for each in await finished(staffa, jobs):
            assert (each.state, each.attempt) == (State.COMPLETED, 1)
    assert [str(each.error) for each in failed] == ["the question was lost", "the answer was lost"]
    assert Counted.runs == Counter(job.id for job in jobs), "what ended is handed in again, and not run again"
    assert not bounced


class Held:
    """An engine that keeps the answer to the second exchange that took jobs until it may go on."""

    def __init__(self, engine):
        self._engine, self._taken = engine, 0
        self.holds, self.go_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def exchange(self, producer, finished, demand, **named):
        exchanged = await self._engine.exchange(producer, finished, demand, **named)
        self._taken += bool(exchanged.taken)
        if exchanged.taken and self._taken == 2:
            self.holds.set()
            await self.go_on.wait()
        return exchanged


class Stays(Worker):
    """Runs until it is stopped."""

    running: ClassVar[set[tuple[int, int]]] = set()
    stopped: asyncio.Event

    async def perform(self, job):
        Stays.running.add((job.id, job.take))
        try:
            await asyncio.sleep(60)
        finally:
            Stays.running.discard((job.id, job.take))
            Stays.stopped.set()


@asynccontextmanager
async def an_exchange_held(url: str):
    """Run two of six jobs, while the answer that brings two more is held; give the instance and its engine."""
    Stays.running.clear()
    Stays.stopped = asyncio.Event()
    staffa = Staffa(url, queues={"default": 4}, grace=timedelta(0), heartbeat=timedelta(seconds=60))
    async with staffa:
        [producer] = staffa._queues._running.values()
        producer._engine = engine = Held(producer._engine)
        await staffa.ainsert_all([Stays.new() for _ in range(6)])
        await asyncio.wait_for(engine.holds.wait(), DEADLINE)
        yield staffa, engine
    staffa.close()


async def test_what_is_being_taken_when_the_grace_period_ends_is_put_back_too(url: str):
    async with an_exchange_held(url) as (staffa, engine):
        async with asyncio.TaskGroup() as group:
            group.create_task(staffa.stop())
            await asyncio.wait_for(Stays.stopped.wait(), DEADLINE)
            engine.go_on.set()
        assert staffa.unstopped == 0
        back = await staffa.ajobs()
        assert [(job.state, job.attempt) for job in back] == [(State.AVAILABLE, 0)] * 6
        assert all(not job.meta for job in back), "nobody had to rescue them"


async def test_what_was_being_taken_by_who_is_taken_for_dead_runs_only_in_its_next_life(url: str):
    async with an_exchange_held(url) as (staffa, engine):
        [dead] = await staffa.aproducers()
        await staffa.engine.retire([dead.id])
        lost = {(job.id, job.take) for job in await staffa.engine.rescue(10)}
        assert len(lost) == 4
        staffa._queues.expire(dead.id)
        await asyncio.wait_for(Stays.stopped.wait(), DEADLINE)
        engine.go_on.set()
        await eventually(lambda: len(Stays.running) == 4 and lost.isdisjoint(Stays.running))
