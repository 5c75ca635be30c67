"""Run stored jobs where the test wants them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypedDict
from uuid import uuid4

from typing_extensions import Unpack

from staffa._bridge import at_once, refuse_inside_loop
from staffa._executor import execute, taken_clock
from staffa._filter import JobFilter
from staffa._hands import Hands, InThisThread, InThreads
from staffa._job import AnyJob, State
from staffa._lifecycle import handed_back
from staffa._running import Running
from staffa._threads import Threads
from staffa.engine import Ack, Engine, ProducerInfo
from staffa.errors import DatabaseUnavailable, JobFailed
from staffa.instance import Staffa
from staffa.telemetry import JobStopped
from staffa.testing._shared import PAGE, check_options, listed
from staffa.worker import is_async, registered

PROMOTED = (State.SCHEDULED, State.RETRYABLE)


class Drained(NamedTuple):
    """How many jobs ended each way: `failed` will be tried again, `snoozed` run later."""

    completed: int = 0
    failed: int = 0
    discarded: int = 0
    cancelled: int = 0
    snoozed: int = 0


OUTCOMES = {
    State.COMPLETED: "completed",
    State.RETRYABLE: "failed",
    State.DISCARDED: "discarded",
    State.CANCELLED: "cancelled",
    State.SCHEDULED: "snoozed",
}


class DrainOptions(TypedDict, total=False):
    """What `drain` takes: which waiting jobs run early, whether new ones run too, what raises, how many."""

    with_scheduled: bool | datetime
    with_recursion: bool
    with_safety: bool
    limit: int


def drain(staffa: Staffa, queue: str | None = "default", **options: Unpack[DrainOptions]) -> Drained:
    """Run the stored jobs of a queue (None: of all queues) here and now, and count how they ended.

    `with_scheduled=True` runs scheduled and retryable jobs too, a datetime only those due by then; a job that
    snoozes is not run twice. `with_recursion=False` leaves jobs that were enqueued meanwhile, and runs none
    twice. `with_safety=False` raises what a job raises, `JobFailed` where it answered `Error`, once its
    outcome is recorded. `limit` ends it after so many jobs. Plain workers run in this thread, async ones on
    an event loop of their own.
    """
    refuse_inside_loop("drain", "adrain(...)")
    return at_once(_Draining(staffa, staffa.plain_engine, _run_here, options).over(queue))


async def adrain(staffa: Staffa, queue: str | None = "default", **options: Unpack[DrainOptions]) -> Drained:
    """Run the stored jobs of a queue; awaited. Plain workers run in a thread. See `drain`."""
    with closing(Threads("staffa-drain", 1)) as threads:
        hands = InThreads(threads)

        async def run(job: AnyJob, staffa: Staffa) -> AnyJob | None:
            return await _executed(job, staffa, hands)

        return await _Draining(staffa, staffa.engine, run, options).over(queue)


class _Run(Protocol):
    """How a drained job is executed."""

    def __call__(self, job: AnyJob, staffa: Staffa, /) -> Coroutine[Any, Any, AnyJob | None]: ...


async def _run_here(job: AnyJob, staffa: Staffa) -> AnyJob | None:
    """Execute a job for a blocking caller, with an event loop only where its worker needs one."""
    kind = registered().get(job.worker)
    if kind is not None and is_async(kind):
        with asyncio.Runner() as loop:
            return loop.run(_executed(job, staffa, InThisThread()))
    return await _executed(job, staffa, InThisThread())


async def _executed(job: AnyJob, staffa: Staffa, hands: Hands) -> AnyJob | None:
    return await execute(job, Running(), hands=hands, telemetry=staffa.telemetry, clock=taken_clock(job))


class _Draining:
    """One call of `drain`. It takes jobs one by one, so that each sees what those before it did."""

    def __init__(self, staffa: Staffa, engine: Engine, run: _Run, options: DrainOptions) -> None:
        check_options("drain", options, DrainOptions)
        self._staffa, self._engine, self._run = staffa, engine, run
        self._due_by = _due_by(options.get("with_scheduled", False))
        self._recursive = options.get("with_recursion", True)
        self._safe = options.get("with_safety", True)
        self._left = options.get("limit")
        self._newest: int | None = None
        self._snoozed: set[int | None] = set()
        self._ended: Counter[str] = Counter()

    async def over(self, queue: str | None) -> Drained:
        if not self._recursive:
            self._newest = max(
                [job.id or 0 for job in await self._engine.jobs(JobFilter(limit=1))], default=0
            )
        ran = True
        while ran:
            queues = sorted(await self._engine.counts()) if queue is None else [queue]
            ran = any([await self._empty(each) for each in queues]) and self._recursive
        return Drained(**self._ended)

    async def _empty(self, queue: str) -> bool:
        """Run what a queue has; say whether there was anything."""
        producer = ProducerInfo(id=str(uuid4()), node=self._staffa.node, queue=queue, limit=1)
        aside: list[AnyJob] = []
        ran = False
        await self._engine.register([producer])
        try:
            await self._promote(queue)
            while self._left != 0 and (job := await self._next(producer)):
                if self._is_new(job):
                    aside.append(job)
                else:
                    await self._execute(producer, job)
                    ran = True
        finally:
            await self._engine.exchange(producer, [Ack(job, handed_back(job)) for job in aside], 0)
            await self._engine.retire([producer.id])
        return ran

    async def _promote(self, queue: str) -> None:
        """Make scheduled and retryable jobs available that are due by the given time."""
        if self._due_by is None:
            return
        due = [
            job.id
            for job in await listed(self._engine, JobFilter(states=PROMOTED, queues=[queue], limit=PAGE))
            if job.id is not None
            and job.id not in self._snoozed
            and not self._is_new(job)
            and (job.scheduled_at is None or job.scheduled_at <= self._due_by)
        ]
        if due:
            await self._engine.retry(JobFilter(ids=due))

    async def _next(self, producer: ProducerInfo) -> AnyJob | None:
        exchanged = await self._engine.exchange(producer, [], 1)
        return exchanged.taken[0] if exchanged.taken else None

    async def _execute(self, producer: ProducerInfo, job: AnyJob) -> None:
        errors: list[BaseException | None] = []
        try:
            with _listening(self._staffa, job, errors):
                after = await self._run(job, self._staffa)
        except BaseException:
            await self._engine.exchange(producer, [Ack(job, handed_back(job))], 0)
            raise
        if self._left is not None:
            self._left -= 1
        if after is not None:
            await self._record(producer, job, after)
        if after is not None and not self._safe:
            _raise_failure(after, errors)

    async def _record(self, producer: ProducerInfo, job: AnyJob, after: AnyJob) -> None:
        """Store what a job became, and count it; where it was cancelled meanwhile, that counts."""
        exchanged = await self._engine.exchange(producer, [Ack(job, after)], 0)
        if exchanged.again:
            raise DatabaseUnavailable(
                f"another transaction holds the row of job {job.id}, so its outcome ({after.state}) is not recorded"
            )
        if exchanged.bounced:
            [after] = await self._engine.jobs(JobFilter(ids=[job.id or 0])) or [after]
        if after.state is State.SCHEDULED:
            self._snoozed.add(job.id)
        if after.state in OUTCOMES:
            self._ended[OUTCOMES[after.state]] += 1

    def _is_new(self, job: AnyJob) -> bool:
        """Tell whether a job was enqueued after this drain began, where that matters."""
        return self._newest is not None and (job.id or 0) > self._newest


def _due_by(with_scheduled: bool | datetime) -> datetime | None:
    match with_scheduled:
        case True:
            return datetime.max.replace(tzinfo=UTC)
        case False:
            return None
        case datetime() if with_scheduled.tzinfo is not None:
            return with_scheduled
    raise TypeError(f"with_scheduled must be a bool or a datetime with a time zone, not {with_scheduled!r}")


@contextmanager
def _listening(staffa: Staffa, job: AnyJob, errors: list[BaseException | None]) -> Iterator[None]:
    """Gather what a job's attempt raised."""

    def heard(event: JobStopped) -> None:
        if event.job.id == job.id:
            errors.append(event.error)

    detach = staffa.telemetry.attach(heard, JobStopped)
    try:
        yield
    finally:
        detach()


def _raise_failure(after: AnyJob, errors: Sequence[BaseException | None]) -> None:
    """Raise what a job raised, or the reason it gave for failing."""
    for error in errors:
        if error is not None:
            raise error
    if after.state in (State.RETRYABLE, State.DISCARDED):
        raise JobFailed(f"{after.worker}: {after.errors[-1]['error']}")
