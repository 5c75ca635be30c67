"""What callers ask about results: wait for a job, blocking, and awaited."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from staffa._bridge import refuse_inside_loop
from staffa._calls import Calls
from staffa._filter import LARGEST_ID
from staffa._job import FINAL, AnyJob, Job, State
from staffa._printable import reason
from staffa._waiting import Waiting
from staffa.errors import InvalidJob, ResultFailed, ResultGone, ResultTimeout


@dataclass(frozen=True, slots=True)
class Result:
    """What a job came to: `job` as it finally is."""

    job: AnyJob

    @property
    def state(self) -> State:
        """The final state: completed, discarded or cancelled."""
        return self.job.state

    @property
    def ok(self) -> bool:
        """Whether the job completed."""
        return self.state is State.COMPLETED

    @property
    def value(self) -> Any:
        """What the job recorded, as JSON holds it; None if it recorded nothing.

        Raises `ResultFailed` where the job did not complete.
        """
        if not self.ok:
            why = reason(self.job.errors)
            raise ResultFailed(f"job {self.job.id} is {self.state}{': ' if why else ''}{why}")
        return self.job.result


class ResultCalls(Calls):
    """The face of an instance towards those who wait for jobs."""

    _waiting: Waiting

    def result(self, job: AnyJob | int, /, *, timeout: timedelta | float | None = None) -> Result:
        """Wait until a job has reached a final state, and give its result; blocks.

        `job` is a stored job or its id, `timeout` a timedelta or seconds, None for as long as it takes.
        Raises `ResultTimeout` when it took longer, `ResultGone` for a job that is unknown, deleted or
        pruned, `InvalidJob` for one that was not stored, `InsideEventLoop` where blocking would stop a loop.
        """
        refuse_inside_loop("result", "aresult(...)")
        if isinstance(job, Job) and _is_settled(job):
            return Result(job)
        job_id, seconds = _id_of(job), _seconds(timeout)
        waiter = self._waiting.add(job_id)
        try:
            return _result(job_id, waiter.result(seconds))
        except TimeoutError as error:
            raise _too_late(job_id, seconds) from error
        finally:
            self._waiting.remove(job_id, waiter)

    async def aresult(self, job: AnyJob | int, /, *, timeout: timedelta | float | None = None) -> Result:  # noqa: ASYNC109 - the twin of one that blocks
        """Wait until a job has reached a final state, and give its result; awaited. See `result`."""
        if isinstance(job, Job) and _is_settled(job):
            return Result(job)
        job_id, seconds = _id_of(job), _seconds(timeout)
        waiter = self._waiting.add(job_id)
        try:
            async with asyncio.timeout(seconds):
                return _result(job_id, await asyncio.wrap_future(waiter))
        except TimeoutError as error:
            raise _too_late(job_id, seconds) from error
        finally:
            self._waiting.remove(job_id, waiter)


def _is_settled(job: AnyJob) -> bool:
    """Tell whether there is nothing to look up: inline jobs run where they are enqueued, and have no row."""
    return job.id is None and job.state in FINAL


def _id_of(job: object) -> int:
    if isinstance(job, Job) and job.id is None:
        raise InvalidJob("this job was not stored: wait for what enqueue or insert gave back")
    found = job.id if isinstance(job, Job) else job
    if not isinstance(found, int) or isinstance(found, bool) or abs(found) > LARGEST_ID:
        raise InvalidJob(f"give a stored job or its id to wait for, not {job!r}")
    return found


def _seconds(timeout: timedelta | float | None) -> float | None:
    if timeout is None:
        return None
    seconds: Any = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds <= math.inf:
        raise InvalidJob(f"timeout must be a timedelta or seconds, not {timeout!r}")
    return min(max(seconds, 0), threading.TIMEOUT_MAX)


def _result(job_id: int, found: AnyJob | None) -> Result:
    if found is None:
        raise ResultGone(f"there is no job {job_id}: it was never stored, or it was deleted or pruned")
    return Result(found)


def _too_late(job_id: int, seconds: float | None) -> ResultTimeout:
    return ResultTimeout(f"job {job_id} has not finished within {seconds:g} s; it was left as it is")
