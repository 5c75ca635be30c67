"""A queue gives every place back, however its job's task ends."""

import asyncio
from datetime import timedelta

import pytest

from nodes import finished
from staffa import Staffa, State, Worker
from staffa._hands import InThisThread
from staffa._producer import Producer
from staffa.errors import DatabaseUnavailable, InstanceError
from staffa.telemetry import Telemetry

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

    def start_and_stop(producer, job):
        start(producer, job)
        if not stopped:
            stopped.append(job.id)
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


async def test_two_exchanges_are_under_way_while_there_are_more_jobs_than_run(url: str):
    staffa = Staffa(url, queues={"default": 4}, heartbeat=timedelta(seconds=0.02))
    async with staffa:
        [producer] = staffa._queues._running.values()
        producer._engine = engine = Overlapping(producer._engine)
        jobs = await staffa.ainsert_all([Touch.new() for _ in range(60)])
        for each in await finished(staffa, jobs):
            assert (each.state, each.attempt) == (State.COMPLETED, 1)
    assert engine.most == 2
    assert not engine.reconciled_meanwhile


async def test_an_exchange_that_fails_beside_another_loses_nothing(url: str):
    staffa = Staffa(url, queues={"default": 4}, heartbeat=timedelta(seconds=0.2))
    async with staffa:
        [producer] = staffa._queues._running.values()
        producer._engine = engine = Overlapping(producer._engine)
        exchange, failures = engine.exchange, iter(range(60))

        async def failing(*given, **named):
            exchanged = await exchange(*given, **named)
            if engine.most == 2 and next(failures, 60) in (1, 4):
                raise DatabaseUnavailable("the answer was lost")
            return exchanged

        engine.exchange = failing
        jobs = await staffa.ainsert_all([Touch.new() for _ in range(60)])
        for each in await finished(staffa, jobs):
            assert each.state is State.COMPLETED
    assert next(failures) > 4
