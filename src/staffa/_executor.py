"""One attempt at one job, from the name of its worker to what the job became."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
import traceback
from collections.abc import Awaitable
from concurrent import futures
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from staffa import _lifecycle
from staffa._arguments import json_value
from staffa._backoff import retry_delay
from staffa._clock import LONGEST_DELAY, Clock, running_from, utc_now
from staffa._dialogue import Lost
from staffa._hands import Apart, Hands, InThisThread, RaisedApart
from staffa._job import FAILED, AnyJob, State, current, replace
from staffa._running import Running, Stop
from staffa.errors import InvalidArguments, InvalidResult, JobTimeout, ProcessDied, UnknownWorker
from staffa.telemetry import JobStarted, JobStopped, Telemetry
from staffa.worker import Cancel, Error, Record, Snooze, Worker, find, is_async, performed

logger = logging.getLogger("staffa")

LONGEST_ERROR = 32_000
LARGEST_RESULT = 1_000_000  # bytes of JSON
NOT_THEIRS = tuple(f"{Path(each).parent}{os.sep}" for each in (__file__, asyncio.__file__, futures.__file__))

BAD_CODE = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)
"""What plain code of a worker may raise without harm to anybody but its job; only Ctrl-C goes on."""


async def execute(
    job: AnyJob, running: Running, *, hands: Hands, telemetry: Telemetry, clock: Clock, raising: bool = False
) -> AnyJob | None:
    """Attempt a job and return what it became; None where it is no longer ours to say.

    `clock` tells the database's time. With `raising`, an exception of the worker goes on to the caller.
    """
    began = time.monotonic()
    if telemetry.hears(JobStarted):
        telemetry.emit(JobStarted(job))

    attempt = _Attempt(job, running, hands, clock)
    after = await attempt.outcome()

    if after is not None and telemetry.hears(JobStopped):
        took = timedelta(seconds=time.monotonic() - began)
        telemetry.emit(JobStopped(after, took, _waited(job), attempt.error))
    if raising and attempt.error is not None:
        raise attempt.error
    return after


def _waited(job: AnyJob) -> timedelta:
    """Return how long a job was due before it was taken."""
    if job.attempted_at is None or job.scheduled_at is None:
        return timedelta(0)
    # A transaction that takes a job shows the time of its own start, which may be before the job's insert.
    return max(job.attempted_at - job.scheduled_at, timedelta(0))


class _Attempt:
    """The steps of one attempt, in order."""

    def __init__(self, job: AnyJob, running: Running, hands: Hands, clock: Clock) -> None:
        self.error: BaseException | None = None
        self._running, self._hands, self._clock = running, hands, clock
        self._job = self._stored = job
        self._worker: Worker | None = None

    async def outcome(self) -> AnyJob | None:
        token = current.set(self._job)
        try:
            if self._running.stopped is None:
                after = await self._performed()
            else:  # before its first step
                after = self._stopped(asyncio.CancelledError())
            if after is not None:
                after = self._with_progress(after)
                if after.state in FAILED and self._worker is not None:
                    await self._hook(self._worker, after)
        finally:
            current.reset(token)
        return after

    async def _performed(self) -> AnyJob | None:  # noqa: PLR0911 - every way an attempt can end, in one place
        job, now = self._job, self._clock
        try:
            found = find(job.worker)
            self._worker = worker = found()
            if (args := found.shape.load(job.args)) is not job.args:
                self._job = replace(job, args=args)
        except UnknownWorker as error:
            return self._failed(error, str(error))
        except InvalidArguments as error:
            self.error = error
            return _lifecycle.cancelled(job, now(), _shortened(str(error)))
        except BAD_CODE as error:
            return self._failed(error, traced(error))

        try:
            answer = await self._begun(worker)
        except asyncio.CancelledError as error:
            return self._stopped(error)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except JobTimeout as error:
            return self._failed(error, str(error))
        except BaseException as error:  # noqa: BLE001 - whatever a worker raises fails its job
            if self._running.stopped in (Stop.CANCELLED, Stop.LOST) or self._was_cut_off():
                return self._stopped(error)
            return self._failed(*_told(error))
        return self._answered(answer)

    def _begun(self, worker: Worker) -> Awaitable[Any]:
        """Begin a worker's code where it runs: on this loop, in a thread, or in a process."""
        shown = self._shown(self._job)
        current.set(shown)
        options, apart = worker.options, self._hands.apart
        if apart is not None and options.executor == "process":
            return self._in_process(worker, apart)
        if is_async(type(worker)):
            return self._in_time(options.timeout, worker.perform(shown))
        begun = self._hands.call(self._running, performed, worker, shown)
        if isinstance(self._hands, InThisThread):  # which nobody can leave before it ends
            return begun
        return self._in_time(options.timeout, begun)

    async def _in_process(self, worker: Worker, apart: Apart) -> Any:
        """Run a worker in a process, whose start is not the job's time."""
        async with apart.process(self._running) as process:
            begun = process.perform(self._running, type(worker), self._stored)
            return await self._in_time(worker.options.timeout, begun)

    def _in_time(self, timeout: timedelta | None, begun: Awaitable[Any]) -> Awaitable[Any]:
        return begun if timeout is None else self._until(timeout, begun)

    async def _until(self, timeout: timedelta, begun: Awaitable[Any]) -> Any:  # noqa: ASYNC109 - the worker's own option
        try:
            async with asyncio.timeout(timeout.total_seconds()) as deadline:
                return await begun
        except TimeoutError:
            if not deadline.expired():
                raise
            self._running.stopped = self._running.stopped or Stop.LOST
            raise JobTimeout(f"{self._job.worker} timed out after {timeout.total_seconds():g} s") from None

    def _answered(self, answer: object) -> AnyJob | None:
        """Decide what becomes of an attempt that answered, perhaps after it was told to stop."""
        match self._running.stopped:
            case None:  # first: to look up the others costs each job more than all else here
                pass
            case Stop.CANCELLED:
                return _lifecycle.cancelled(self._job, self._clock(), Stop.CANCELLED.value)
            case Stop.LOST:
                return None
            case Stop.SHUTDOWN if self._was_cut_off():
                return self._stopped(asyncio.CancelledError())
        return self._meant(answer)

    def _meant(self, answer: object) -> AnyJob:  # noqa: PLR0911 - every answer, in one place
        job, now = self._job, self._clock
        recorded = self._worker is not None and self._worker.options.recorded
        match answer:
            case None if not recorded:  # as most of them
                return _lifecycle.completed(job, now())
            case Cancel(reason):
                return _lifecycle.cancelled(job, now(), _shortened(str(reason)))
            case Error(reason):
                return self._failed(None, str(reason))
            case Snooze(delay):
                return self._snoozed(delay)
            case Record(value):
                return self._recorded(value)
            case _ if recorded:
                return self._recorded(answer)
            case _:
                return _lifecycle.completed(job, now())

    def _recorded(self, value: object) -> AnyJob:
        """Complete with a result. The work is done, so it is not repeated for a result that cannot be kept."""
        job, now = self._job, self._clock
        try:
            return _lifecycle.recorded(job, now(), storable(value))
        except InvalidResult as error:
            self.error = error
            return _lifecycle.cancelled(job, now(), _shortened(f"{job.worker} was done, but {error}"))

    def _snoozed(self, delay: object) -> AnyJob:
        try:
            return _lifecycle.snoozed(self._job, self._clock(), _duration(delay))
        except (TypeError, ValueError, OverflowError) as error:
            return self._failed(error, f"Snooze({delay!r}): {error}")

    def _was_cut_off(self) -> bool:
        """Tell whether the attempt knew that its worker shuts down: then its work may be half done."""
        if self._running.stopped is not Stop.SHUTDOWN:
            return False
        task = asyncio.current_task()
        return self._running.heeded or (task is not None and task.cancelling() > 0)

    def _stopped(self, error: BaseException) -> AnyJob | None:
        """Decide what becomes of an attempt that ended by being cancelled."""
        task = asyncio.current_task()
        match self._running.stopped:
            case Stop.CANCELLED:
                after: AnyJob | None = _lifecycle.cancelled(self._job, self._clock(), Stop.CANCELLED.value)
            case Stop.SHUTDOWN:
                after = _lifecycle.handed_back(self._job)
            case Stop.LOST:
                after = None
            case _:
                if task is not None and task.cancelling():
                    raise error
                return self._failed(error, traced(error))
        if task is not None:
            task.uncancel()
        return after

    def _failed(self, error: BaseException | None, text: str) -> AnyJob:
        self.error = error
        return _lifecycle.failed(self._job, self._clock(), _shortened(text), self._backoff())

    def _backoff(self) -> timedelta:
        """Ask the worker how long to wait; its own errors do not count."""
        default = retry_delay(self._job.attempt, self._job.max_attempts)
        if self._worker is None:
            return default
        try:
            return _duration(self._worker.backoff(self._shown(self._job)))
        except BAD_CODE:
            logger.exception("backoff of %s failed; the default is used", self._job.worker)
            return default

    def _with_progress(self, after: AnyJob) -> AnyJob:
        if self._running.told is None:
            return after

        return replace(after, meta={**after.meta, "progress": self._running.told})

    async def _hook(self, worker: Worker, after: AnyJob) -> None:
        """Tell the worker that its job ends unfinished; its errors do not count.

        A stop that comes meanwhile cuts the hook off; the outcome stands.
        """
        match after.state:
            case State.DISCARDED:
                hook = worker.on_discarded
            case State.CANCELLED:
                hook = worker.on_cancelled
            case _:
                return
        try:
            if inspect.iscoroutinefunction(hook):
                await hook(self._shown(after))
            else:
                await self._hands.call(self._running, hook, self._shown(after))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                if self._running.stopped is None:
                    raise
                task.uncancel()
        except (Exception, SystemExit):
            logger.exception("%s of %s failed", hook.__name__, after.worker)

    def _shown(self, job: AnyJob) -> AnyJob:
        """Give a worker's code a job of its own to look at: what it does to it never reaches the outcome."""
        errors = [*map(copy, job.errors)] if job.errors else []
        return replace(job, running=self._running, meta=dict(job.meta), errors=errors)


def storable(value: object) -> Any:
    """Return a value as JSON holds it. Raises `InvalidResult`, naming what cannot be kept."""
    if isinstance(value, Lost):
        raise InvalidResult(f"its result cannot be carried from its process to this one: {value.shown}")
    try:
        found = json_value(value, "its result")
        size = len(msgspec.json.encode(found))
    except (InvalidArguments, RecursionError) as error:
        raise InvalidResult(str(error)) from error
    if size > LARGEST_RESULT:
        raise InvalidResult(
            f"its result has {size:,} bytes of JSON, and at most {LARGEST_RESULT:,} are kept:"
            " store it elsewhere, and record where it is"
        )
    return found


def _duration(value: object) -> timedelta:
    """Read a timedelta or seconds; never below zero, never beyond what a date can hold."""
    match value:
        case timedelta():
            delay = value
        case bool():
            raise TypeError("a delay is a timedelta or seconds, not a bool")
        case int() | float():
            delay = timedelta(seconds=value)
        case _:
            raise TypeError(f"a delay is a timedelta or seconds, not {type(value).__name__}")
    return min(max(delay, timedelta(0)), LONGEST_DELAY)


def _told(error: BaseException) -> tuple[BaseException, str]:
    """Give what a worker raised, and what to write of it."""
    match error:
        case RaisedApart():
            return error.error, error.text
        case ProcessDied():
            return error, str(error)
    return error, traced(error)


def traced(error: BaseException) -> str:
    """Write an exception with its traceback, from the worker's own code on."""
    trace = error.__traceback__
    while (
        trace is not None
        and trace.tb_next is not None
        and trace.tb_frame.f_code.co_filename.startswith(NOT_THEIRS)
    ):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_ERROR:
        return text
    half = LONGEST_ERROR // 2
    return f"{text[:half]}\n… {len(text) - LONGEST_ERROR} characters left out …\n{text[-half:]}"


def taken_clock(job: AnyJob) -> Clock:
    """Tell the database's time from the instant at which it gave the job out."""
    return running_from(job.attempted_at or utc_now())
