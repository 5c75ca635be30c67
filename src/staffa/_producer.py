"""One queue on one node: hand in what finished, take what may start, run it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec

from staffa._backoff import reconnect_delay, retry_delay
from staffa._clock import Clock
from staffa._cursor import Cursor
from staffa._executor import execute, taken_clock
from staffa._hands import Hands
from staffa._job import FAILED, FINAL, AnyJob, State
from staffa._lifecycle import failed
from staffa._pauses import newest
from staffa._printable import reason
from staffa._running import Running, Stop
from staffa._watched import Watched
from staffa.engine import Ack, Engine, ProducerInfo
from staffa.notifier import ENDED
from staffa.telemetry import (
    ExchangeFailed,
    JobBounced,
    ProducerExpired,
    QueuePaused,
    QueueResumed,
    QueueScaled,
    QueueStarted,
    QueueStopped,
    Telemetry,
)

logger = logging.getLogger("staffa")

PROGRESS_SECONDS = 0.5
LAST_WORD_SECONDS = 2.0
UNDERWAY_AT_MOST = 2

Take = tuple[int | None, int]


class Slot:
    """A place of the queue's limit: a job that runs, and perhaps a thread that outlives it."""

    __slots__ = ("begun", "job", "key", "running", "settled", "task")

    def __init__(self, job: AnyJob) -> None:
        self.job = job
        self.key = _key(job)
        self.running = Running()
        self.begun = self.settled = False
        self.task: asyncio.Task[None] | None = None

    def stop(self, why: Stop) -> None:
        """Stop the attempt: awaited code at once, a thread when it looks at `job.cancelled`."""
        if self.settled or self.running.stopped is not None:
            return
        self.running.stopped = why
        # A task cancelled before its first step would never run, and so never give this place back.
        if self.task is not None and self.begun and self.running.thread is None:
            self.task.cancel()


class Producer:
    """Keeps up to `limit` jobs of a queue running, or none while it is paused, until told to stop."""

    def __init__(
        self,
        queue: str,
        limit: int,
        *,
        node: str,
        engine: Engine,
        hands: Hands,
        telemetry: Telemetry,
        watched: Watched | None = None,
        poll: timedelta,
        heartbeat: timedelta,
        grace: timedelta,
        paused: bool = False,
    ) -> None:
        self.queue = queue
        self._node, self._engine, self._hands, self._telemetry = node, engine, hands, telemetry
        self._poll, self._grace = poll.total_seconds(), grace.total_seconds()
        self._heartbeat = heartbeat.total_seconds()
        self._watched = watched or Watched()
        self._cursor = Cursor()
        self._slots: dict[Take, Slot] = {}
        self._finished: list[Ack] = []
        self._wake = asyncio.Event()
        self._stopping = self._expired = self._unsure = self._announced = self._quiet = False
        self._exchanging = self._asked = 0
        self._underway: set[asyncio.Task[None]] = set()
        self._more = False
        self._failures = 0
        self._reconciled = self._progressed = time.monotonic()
        self.info = ProducerInfo(id=str(uuid4()), node=node, queue=queue, limit=limit, paused=paused)
        self._known: ProducerInfo | None = None
        self._obeyed: int | None = None

    @property
    def registered(self) -> bool:
        """Tell whether the database knows this producer."""
        return self._known is not None

    @property
    def idle(self) -> bool:
        return not self._slots and not self._finished and not self._exchanging

    @property
    def resting(self) -> bool:
        """Tell whether jobs could be taken, and none run that let it look by itself."""
        return self.idle and self.registered and not self.info.paused

    @property
    def unstopped(self) -> int:
        """Count jobs whose attempts have not ended."""
        return sum(not slot.settled for slot in self._slots.values())

    def wake(self) -> None:
        """Look for jobs now."""
        self._wake.set()

    def stop(self) -> None:
        """Take no more jobs; `run` ends when those that run have ended, or were cut off."""
        self._stopping = True
        self._change(paused=True)  # as others see it meanwhile

    def pause(self, number: int | None = None, *, paused: bool = True) -> None:
        """Take no jobs, or take them again; those that run go on.

        Of words that have numbers, none is obeyed after a later one.
        """
        if number is not None:
            if number <= (self._obeyed or 0):
                return
            self._obeyed = number
        if self.info.paused is not paused:
            logger.info("queue %s %s", self.queue, "is paused" if paused else "goes on")
            self._change(paused=paused)
            if self.registered:
                self._telemetry.emit(QueuePaused(self.queue) if paused else QueueResumed(self.queue))

    def scale(self, limit: int) -> None:
        """Keep so many jobs running from now on; those that run already go on."""
        if self.info.limit != limit:
            logger.info("queue %s runs up to %d jobs from now on", self.queue, limit)
            was = self.info.limit
            self._change(limit=limit)
            self._telemetry.emit(QueueScaled(self.queue, limit, was))

    def _change(self, **changes: Any) -> None:
        self.info = msgspec.structs.replace(self.info, **changes)
        self.wake()

    def expire(self, producer: str) -> None:
        """Hear that others took this producer for dead."""
        if producer == self.info.id:
            self._expired = True
            self.wake()

    def kill(self, job_id: int, take: int | None = None) -> None:
        """Stop a job that was cancelled, if it runs here.

        Where nobody says which take was cancelled, the database is asked: the job may run again since.
        """
        here = [slot for slot in self._slots.values() if slot.job.id == job_id]
        for slot in here:
            if take == slot.job.take:
                slot.stop(Stop.CANCELLED)
        if here and take is None:
            self._unsure = True
            self.wake()
        elif self._exchanging:  # whose answer may bring the job
            self._unsure = True

    async def run(self) -> None:
        try:
            while not self._stopping:
                await self._turn()
                await self._rest()
            await self._drain()
        finally:
            for exchange in self._underway:
                exchange.cancel()

    # One turn: hand in, take, look after

    async def _turn(self) -> None:
        try:
            if self._expired:
                await self._begin_again()
            if not self.registered:
                await self._look_for_pauses()
            if self._known != self.info:
                await self._make_known(self.info)
            if not self._quiet:
                await self._hand_over()
            await self._look_after()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, try again
            await self._wait_for_database(error)
        else:
            self._failures = 0

    async def _hand_over(self) -> None:
        """Exchange; while more jobs are found than run, two at a time, so that the database does not wait for us."""
        for ended in [each for each in self._underway if each.done()]:
            self._underway.remove(ended)
            ended.result()
        demand = self._demand
        if len(self._underway) == UNDERWAY_AT_MOST or not (demand or self._finished):
            return
        if self._more:
            exchange = asyncio.create_task(self._exchange(demand), name=f"staffa exchange {self.queue}")
            self._underway.add(exchange)
            exchange.add_done_callback(lambda _: self.wake())
            if self._demand:
                self.wake()
        else:
            await self._landed()
            await self._exchange(demand)

    async def _landed(self) -> None:
        """Wait for the exchanges under way."""
        while self._underway:
            await self._underway.pop()

    @property
    def _demand(self) -> int:
        """Ask for at most half of the places at once, so that some jobs run while the database looks for others."""
        if self._stopping or self.info.paused:
            return 0
        limit = self.info.limit
        return max(min(limit - len(self._slots) - self._asked, (limit + 1) // 2), 0)

    async def _make_known(self, info: ProducerInfo) -> None:
        await self._engine.register([info])
        self._known = info
        if not self._announced:
            self._announced = True
            self._telemetry.emit(QueueStarted(self.queue, info.limit, info.paused))

    async def _look_for_pauses(self) -> None:
        """Obey what was said while nobody listened; who was started paused stays so."""
        obeyed, started_paused = self._obeyed, self._obeyed is None and self.info.paused
        said = newest(await self._engine.pauses(), self.queue, self._node)
        if (said.number if said is not None else 0) < (obeyed or 0):
            self._obeyed = 0  # a number that nobody said here: forged, or of a database that was put back
        if said is not None:
            self.pause(said.number, paused=said.paused or started_paused)
        self._obeyed = self._obeyed or 0

    def _exchange(self, demand: int) -> Coroutine[Any, Any, None]:
        """Hand in what has finished by now, and take jobs."""
        finished, self._finished = self._finished, []
        self._exchanging += 1
        self._asked += demand
        return self._exchanged(finished, demand)

    async def _exchanged(self, finished: list[Ack], demand: int) -> None:
        look = self._cursor.look(time.monotonic())
        try:
            exchanged = await self._engine.exchange(self.info, finished, demand, after=look.after)
        except BaseException:
            self._finished = finished + self._finished
            self._unsure = True
            raise
        finally:
            self._exchanging -= 1
            self._asked -= demand
        self._cursor.found(look, exchanged.taken, demand, time.monotonic())
        self._start(exchanged.taken)
        self._hear_of_more(len(exchanged.taken), demand)
        self._finished += exchanged.again
        for ack in exchanged.bounced:
            logger.warning(
                "job %s is no longer ours; its outcome (%s) was not recorded", ack.held.id, ack.after.state
            )
            self._telemetry.emit(JobBounced(ack.after))
        late = {ack.held.id for ack in (*exchanged.again, *exchanged.bounced)}
        self._watched.ended({ack.held.id for ack in finished if ack.after.state in FINAL} - late)
        await self._tell_ended()

    def _hear_of_more(self, taken: int, demand: int) -> None:
        """Go on at once while as much is found as was asked for, and once more after that."""
        if self._stopping or (demand and (self._more or taken == demand)):
            self.wake()
        if demand:
            self._more = taken == demand

    async def _tell_ended(self) -> None:
        """Tell those who wait for results, where somebody waits; whoever misses it looks for himself."""
        if owed := self._watched.owed():
            await self._engine.tell(ENDED, owed)

    async def _look_after(self) -> None:
        now = time.monotonic()
        if self._unsure or now - self._reconciled >= self._heartbeat:
            await self._landed()
            self._unsure = False  # but for what is heard from now on
            try:
                await self._reconcile()
                await self._look_for_pauses()
            except BaseException:
                self._unsure = True
                raise
            self._reconciled = now
        if now - self._progressed >= PROGRESS_SECONDS:
            await self._tell_progress()
            self._progressed = now

    async def _reconcile(self) -> None:
        """Agree with the database on which jobs are ours: a lost answer may have left some behind."""
        held = [slot.job for slot in self._slots.values() if not slot.settled] + [
            ack.held for ack in self._finished
        ]
        known = await self._engine.reconcile(self.info, held)
        if known.handed_back:
            logger.warning("queue %s handed back %d jobs it never saw", self.queue, len(known.handed_back))
            self.wake()
        for job in known.lost:
            if slot := self._slots.get(_key(job)):
                slot.stop(Stop.CANCELLED if job.state is State.CANCELLED else Stop.LOST)

    async def _tell_progress(self) -> None:
        told = [
            (slot.job, slot.running.told)
            for slot in self._slots.values()
            if slot.running.told is not None and not slot.settled
        ]
        if told:
            await self._engine.progress(self.info, told)
            for job, progress in told:
                slot = self._slots.get(_key(job))
                if slot is not None and slot.running.told is progress:
                    slot.running.told = None

    async def _begin_again(self) -> None:
        """Go on under a new id after others took us for dead: stop what is not ours, hand in what is done."""
        await self._stop_all(Stop.LOST)
        await self._exchange(0)
        logger.warning(
            "queue %s was taken for dead; its jobs run elsewhere, it goes on as a new one", self.queue
        )
        self._telemetry.emit(ProducerExpired(self.queue, self.info.id))
        self.info = msgspec.structs.replace(self.info, id=str(uuid4()))
        self._known, self._expired = None, False

    async def _wait_for_database(self, error: Exception) -> None:
        self._failures += 1
        # Only the first, second, fourth… so that logs stay readable.
        if self._failures & (self._failures - 1) == 0:
            logger.warning(
                "queue %s waits for the database (failure %d): %s", self.queue, self._failures, error
            )
        self._telemetry.emit(ExchangeFailed(self.queue, error))
        await asyncio.sleep(reconnect_delay(self._failures).total_seconds())
        self.wake()

    async def _rest(self, deadline: float = math.inf) -> None:
        """Wait until something finishes or comes in, but not for ever; who has no jobs is woken when there are some."""
        now = time.monotonic()
        poll = max(self._poll, self._heartbeat) if self.idle else self._poll
        with suppress(TimeoutError):
            async with asyncio.timeout(max(min(poll, self._cursor.owed(now), deadline - now), 0.001)):
                await self._wake.wait()
        # Whom nobody woke has nothing to ask for: `Queues.poll` looks for all queues that rest, in one question.
        self._quiet = not self._wake.is_set() and self.resting and self._cursor.owed(time.monotonic()) > 0
        self._wake.clear()

    # Jobs

    def _start(self, jobs: Sequence[AnyJob]) -> None:
        """Begin what was taken at one instant."""
        if not jobs:
            return
        loop, clock = asyncio.get_running_loop(), taken_clock(jobs[0])
        for job in jobs:
            slot = Slot(job)
            self._slots[slot.key] = slot
            slot.task = loop.create_task(self._work(slot, clock), name=f"staffa job {job.id}")

    async def _stop_all(self, why: Stop) -> None:
        """Stop what runs, and what the exchanges under way still bring."""
        for slot in self._slots.values():
            slot.stop(why)
        while self._underway:
            with suppress(Exception):  # whose acks are handed in again
                await self._landed()
        for slot in self._slots.values():
            slot.stop(why)

    async def _work(self, slot: Slot, clock: Clock) -> None:
        job = slot.job
        slot.begun = True
        try:
            after = await execute(
                job, slot.running, hands=self._hands, telemetry=self._telemetry, clock=clock
            )
        except (Exception, asyncio.CancelledError) as error:  # a worker may cancel the task it runs in
            logger.exception("job %s could not be executed", job.id)
            after = failed(job, clock(), repr(error), retry_delay(job.attempt, job.max_attempts))
        slot.settled = True
        if after is not None:
            _log_failure(after)
            self._finished.append(Ack(job, after))
        self._free(slot)

    def _free(self, slot: Slot) -> None:
        """Give the place back, when its thread has ended too."""
        thread = slot.running.thread
        if thread is not None and not thread.ended:
            thread.when_ended(lambda: self._free(slot))
        else:
            self._slots.pop(slot.key, None)
        self.wake()

    # The end

    async def _drain(self) -> None:
        """Let running jobs finish within the grace period; put back what must be cut off."""
        began = time.monotonic()
        deadline = began + self._grace
        while not self.idle and time.monotonic() < deadline:
            await self._turn()
            if not self.idle:
                await self._rest(deadline)

        await self._stop_all(Stop.SHUTDOWN)
        deadline = time.monotonic() + LAST_WORD_SECONDS
        while time.monotonic() < deadline and any(not slot.settled for slot in self._slots.values()):
            await self._rest(deadline)

        await self._last_exchange()
        self._known = None
        self._tell_stopped(timedelta(seconds=time.monotonic() - began))

    def _tell_stopped(self, took: timedelta) -> None:
        orphaned = tuple(slot.job.id or 0 for slot in self._slots.values() if not slot.settled)
        if self._announced:
            self._announced = False
            self._telemetry.emit(QueueStopped(self.queue, took, orphaned))

    async def _last_exchange(self) -> None:
        try:
            await self._exchange(0)
            await self._engine.retire([self.info.id])
        except Exception as error:  # noqa: BLE001 - others will find out
            logger.warning("queue %s could not say good-bye to the database: %s", self.queue, error)

    async def hand_back_unstoppable(self) -> None:
        """Hand in what is done and put back all else, after `run`; only for a process that exits at once."""
        if self._finished:
            await self._exchange(0)
        await self._engine.reconcile(self.info, [])
        await self._engine.retire([self.info.id])


def _log_failure(after: AnyJob) -> None:
    """Say in one line what failed and why; the whole traceback is in the job's errors."""
    if after.state in FAILED:
        attempt, why = f"attempt {after.attempt} of {after.max_attempts}", reason(after.errors)
        logger.warning("job %s (%s) is %s, %s: %s", after.id, after.worker, after.state, attempt, why)


def _key(job: AnyJob) -> Take:
    """Tell one taking of a job from the next: somebody may have put it back by hand while it runs."""
    return job.id, job.take
