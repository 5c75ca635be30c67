"""What Staffa does, measured through the calls that users make."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from staffa._job import AnyJob, State
from staffa.cli.bench.place import QUEUE, Bench
from staffa.cli.run import loop_factory
from staffa.errors import StaffaError
from staffa.instance import Staffa
from staffa.worker import Worker

T = TypeVar("T")

PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.001
PAUSE_SECONDS = 0.005
WARM_UP_SAMPLES = 20


def throughput(place: Bench, jobs: int, *, concurrency: int, batch: int) -> tuple[float, float]:
    """Store and run jobs; give both rates per second."""
    with place.room() as room:
        staffa = room.staffa(concurrency)
        try:
            return _in_loop(_throughput(staffa, jobs, batch))
        finally:
            staffa.close()


def latencies(place: Bench, samples: int) -> list[float]:
    """Give the seconds from enqueueing to start of single jobs on an idle queue.

    Where workers hear across processes, the job is stored through another instance, as a web process would.
    """
    with place.room() as room:
        staffa = room.staffa(10)
        enqueuer = room.staffa(10, runs=False) if place.hears_across_processes else staffa
        try:
            return _in_loop(_latencies(staffa, enqueuer, samples))
        finally:
            staffa.close()
            enqueuer.close()


def _in_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(coroutine)


async def _throughput(staffa: Staffa, jobs: int, batch: int) -> tuple[float, float]:
    ended = _Countdown(jobs)
    worker = _noop(ended.one)

    began = time.perf_counter()
    for first in range(0, jobs, batch):
        await staffa.ainsert_all(
            [worker.new(number=first + each) for each in range(min(batch, jobs - first))]
        )
    inserted = time.perf_counter() - began

    async with staffa:
        began = time.perf_counter()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ended.wait()
            await _recorded(staffa)
        drained = time.perf_counter() - began
        counts = await staffa.acounts()

    if counts != {QUEUE: {State.COMPLETED: jobs}}:
        raise StaffaError(f"the measurement went wrong: of {jobs} jobs, these are left: {counts}")
    return jobs / inserted, jobs / drained


async def _recorded(staffa: Staffa) -> None:
    """Wait until the database knows that the last job has ended."""
    while await staffa.ajobs(states=[State.AVAILABLE, State.EXECUTING], limit=1):  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(LOOK_SECONDS)


async def _latencies(staffa: Staffa, enqueuer: Staffa, samples: int) -> list[float]:
    started = _Start()
    worker = _noop(started.now)
    found: list[float] = []
    async with AsyncExitStack() as running:
        for instance in {staffa, enqueuer}:
            await running.enter_async_context(instance)
        for number in range(WARM_UP_SAMPLES + samples):
            job = worker.new(number=number)
            started.expect()
            began = time.perf_counter()
            await enqueuer.ainsert(job)
            async with asyncio.timeout(PATIENCE_SECONDS):
                found.append(await started.wait() - began)
            await asyncio.sleep(PAUSE_SECONDS)  # the queue records the job and is idle again
    return found[WARM_UP_SAMPLES:]


def _noop(ran: Callable[[], None]) -> type[Worker]:
    """Make a worker that does nothing but tell that it ran."""

    class Noop(Worker, queue=QUEUE, name="staffa.bench.noop"):
        async def perform(self, job: AnyJob) -> None:  # noqa: ARG002 - a worker gets its job
            ran()

    return Noop


class _Countdown:
    """Waits until so many jobs ran."""

    def __init__(self, jobs: int) -> None:
        self._left = jobs
        self._all = asyncio.Event()

    def one(self) -> None:
        self._left -= 1
        if not self._left:
            self._all.set()

    async def wait(self) -> None:
        await self._all.wait()


class _Start:
    """Takes the time at which a job starts."""

    def __init__(self) -> None:
        self._at: asyncio.Future[float] | None = None

    def expect(self) -> None:
        self._at = asyncio.get_running_loop().create_future()

    def now(self) -> None:
        if self._at is not None and not self._at.done():
            self._at.set_result(time.perf_counter())

    async def wait(self) -> float:
        assert self._at is not None  # noqa: S101 - expected before
        return await self._at
