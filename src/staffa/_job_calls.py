"""What callers ask about jobs: store them, look at them, act on them; blocking, and awaited."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
from typing_extensions import Unpack

from staffa._admission import all_admitted
from staffa._calls import Calls
from staffa._changes import Changes, change_of
from staffa._filter import LARGEST_ID, JobFields, JobFilter, filter_of
from staffa._job import WAITING, AnyJob, Job, State
from staffa.engine import Change, Engine, ProducerInfo, Retried
from staffa.errors import InvalidFilter
from staffa.notifier import INSERT, SIGNAL, naming_queues

BATCH = 1_000  # jobs that are locked at once where many are meant


class JobCalls(Calls):
    """The face of an instance towards those who have or look for jobs."""

    @abstractmethod
    def _wake_here(self, jobs: Sequence[AnyJob]) -> None:
        """Wake this process at once; other ones hear of it from the database."""

    # Storing jobs

    def insert(self, job: AnyJob, /, *, connection: Any = None) -> AnyJob:
        """Store a job and give it back; blocks. See `insert_all`."""
        return self.insert_all([job], connection=connection)[0]

    async def ainsert(self, job: AnyJob, /, *, connection: Any = None) -> AnyJob:
        """Store a job and give it back; awaited. See `insert_all`."""
        return (await self.ainsert_all([job], connection=connection))[0]

    def insert_all(self, jobs: Sequence[AnyJob], /, *, connection: Any = None) -> list[AnyJob]:
        """Store jobs, all or none, in the caller's open transaction if given one; give them back in order.

        A unique job that repeats another one is answered by that one, with `conflict` set.
        Raises `InvalidJob` or `InvalidArguments` before anything is written, `UnsupportedConnection` for a
        connection that cannot be joined, `InsideEventLoop` where blocking would stop a loop.
        """
        admissible = all_admitted(jobs)
        stored = self._blocking(lambda engine: engine.insert(admissible), "enqueue", connection)
        if connection is None:
            self._wake_here(stored)
        return stored

    async def ainsert_all(self, jobs: Sequence[AnyJob], /, *, connection: Any = None) -> list[AnyJob]:
        """Store jobs, all or none; awaited. See `insert_all`."""
        admissible = all_admitted(jobs)
        stored = await self._awaited(lambda engine: engine.insert(admissible), connection)
        if connection is None:
            self._wake_here(stored)
        return stored

    # Looking at jobs

    def get(self, id: int, /, *, connection: Any = None) -> AnyJob | None:
        """Return a job by its id."""
        asked = JobFilter(ids=[id])
        return next(iter(self._blocking(lambda engine: engine.jobs(asked), "get", connection)), None)

    async def aget(self, id: int, /, *, connection: Any = None) -> AnyJob | None:
        """Return a job by its id; awaited. See `get`."""
        asked = JobFilter(ids=[id])
        return next(iter(await self._awaited(lambda engine: engine.jobs(asked), connection)), None)

    def jobs(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> list[AnyJob]:
        """List jobs, newest first. Takes a `JobFilter` or its fields; 50 without `limit` and `ids`.

        Raises `InvalidFilter`.
        """
        asked = filter_of(wanted, fields)
        return self._blocking(lambda engine: engine.jobs(asked), "jobs", connection)

    async def ajobs(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> list[AnyJob]:
        """List jobs, newest first; awaited. See `jobs`."""
        asked = filter_of(wanted, fields)
        return await self._awaited(lambda engine: engine.jobs(asked), connection)

    def count(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> int:
        """Count jobs. Takes a `JobFilter` or its fields; all jobs without any. Raises `InvalidFilter`."""
        asked = filter_of(wanted, fields)
        return self._blocking(lambda engine: engine.count(asked), "count", connection)

    async def acount(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> int:
        """Count jobs; awaited. See `count`."""
        asked = filter_of(wanted, fields)
        return await self._awaited(lambda engine: engine.count(asked), connection)

    def counts(self) -> dict[str, dict[State, int]]:
        """Count jobs by queue and state."""
        return self._blocking(lambda engine: engine.counts(), "counts")

    async def acounts(self) -> dict[str, dict[State, int]]:
        """Count jobs by queue and state; awaited. See `counts`."""
        return await self._awaited(lambda engine: engine.counts())

    def producers(self) -> list[ProducerInfo]:
        """List the queues that run anywhere, as the database knows them."""
        return self._blocking(lambda engine: engine.producers(), "producers")

    async def aproducers(self) -> list[ProducerInfo]:
        """List the queues that run anywhere; awaited. See `producers`."""
        return await self._awaited(lambda engine: engine.producers())

    # Acting on jobs by their ids, in one transaction

    def cancel(self, *jobs: int | AnyJob, connection: Any = None) -> list[AnyJob]:
        """Cancel jobs that are not finished, those that run too; give them back. Takes ids or jobs."""
        wanted = _by_id(jobs)
        return self._blocking(lambda engine: _cancel(engine, wanted), "cancel", connection)

    async def acancel(self, *jobs: int | AnyJob, connection: Any = None) -> list[AnyJob]:
        """Cancel jobs that are not finished; awaited. See `cancel`."""
        wanted = _by_id(jobs)
        return await self._awaited(lambda engine: _cancel(engine, wanted), connection)

    def retry(self, *jobs: int | AnyJob, connection: Any = None) -> list[AnyJob]:
        """Make jobs available again that are neither so nor executing, with an attempt left; give them back.

        Where another job has the unique key of one, that one stays as it is, and the answer holds the other,
        with `conflict` set.
        """
        wanted = _by_id(jobs)
        return self._blocking(lambda engine: _retry(engine, wanted), "retry", connection)

    async def aretry(self, *jobs: int | AnyJob, connection: Any = None) -> list[AnyJob]:
        """Make jobs available again; awaited. See `retry`."""
        wanted = _by_id(jobs)
        return await self._awaited(lambda engine: _retry(engine, wanted), connection)

    def delete(self, *jobs: int | AnyJob, connection: Any = None) -> list[int]:
        """Delete jobs that are not executing; give their ids. Takes ids or jobs."""
        wanted = _by_id(jobs)
        return self._blocking(lambda engine: engine.delete(wanted), "delete", connection)

    async def adelete(self, *jobs: int | AnyJob, connection: Any = None) -> list[int]:
        """Delete jobs that are not executing; awaited. See `delete`."""
        wanted = _by_id(jobs)
        return await self._awaited(lambda engine: engine.delete(wanted), connection)

    def update(
        self,
        job: int | AnyJob,
        change: Change | None = None,
        /,
        *,
        connection: Any = None,
        **changes: Unpack[Changes],
    ) -> AnyJob | None:
        """Change a job and give it back as it is now; None where there is no such job to change.

        Takes new values, or a function that is given the job, locked meanwhile, and returns them as a dict.
        `args`, `meta` and `tags` are replaced whole. What an attempt began with it keeps to its end, so that
        changes of an executing job count for its next attempt; `scheduled_at` changes only while a job waits.
        `max_attempts` never goes below the attempts made. Raises `InvalidJob` or `InvalidArguments` before
        anything is written.
        """
        wanted, asked = _by_id([job]), change_of(change, changes)
        return next(
            iter(self._blocking(lambda engine: _update(engine, wanted, asked), "update", connection)), None
        )

    async def aupdate(
        self,
        job: int | AnyJob,
        change: Change | None = None,
        /,
        *,
        connection: Any = None,
        **changes: Unpack[Changes],
    ) -> AnyJob | None:
        """Change a job and give it back as it is now; awaited. See `update`."""
        wanted, asked = _by_id([job]), change_of(change, changes)
        return next(
            iter(await self._awaited(lambda engine: _update(engine, wanted, asked), connection)), None
        )

    # Acting on all jobs that a filter means

    def cancel_all(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> list[int]:
        """Cancel all jobs that a filter means and that are not finished, those that run too; give their ids.

        Takes a `JobFilter` or its fields; for every job there is, say so: `cancel_all(JobFilter())`. Works in
        batches, each a transaction of its own unless `connection` brings one. Raises `InvalidFilter`.
        """
        asked = _chosen("cancel_all", wanted, fields)
        return self._blocking(lambda engine: _in_batches(_cancel, engine, asked), "cancel_all", connection)

    async def acancel_all(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> list[int]:
        """Cancel all jobs that a filter means; awaited. See `cancel_all`."""
        asked = _chosen("acancel_all", wanted, fields)
        return await self._awaited(lambda engine: _in_batches(_cancel, engine, asked), connection)

    def retry_all(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> list[int]:
        """Make all jobs available again that a filter means, as `retry` does; give their ids. See `cancel_all`.

        Those whose unique key another job has stay as they are, and their ids are not given.
        """
        asked = _chosen("retry_all", wanted, fields)
        return self._blocking(lambda engine: _in_batches(_retried, engine, asked), "retry_all", connection)

    async def aretry_all(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> list[int]:
        """Make all jobs available again that a filter means; awaited. See `retry_all`."""
        asked = _chosen("aretry_all", wanted, fields)
        return await self._awaited(lambda engine: _in_batches(_retried, engine, asked), connection)

    def delete_all(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> list[int]:
        """Delete all jobs that a filter means and that are not executing; give their ids. See `cancel_all`."""
        asked = _chosen("delete_all", wanted, fields)
        return self._blocking(lambda engine: _in_batches(_delete, engine, asked), "delete_all", connection)

    async def adelete_all(
        self, wanted: JobFilter | None = None, /, *, connection: Any = None, **fields: Unpack[JobFields]
    ) -> list[int]:
        """Delete all jobs that a filter means; awaited. See `delete_all`."""
        asked = _chosen("adelete_all", wanted, fields)
        return await self._awaited(lambda engine: _in_batches(_delete, engine, asked), connection)

    def update_all(
        self,
        wanted: JobFilter,
        change: Change | None = None,
        /,
        *,
        connection: Any = None,
        **changes: Unpack[Changes],
    ) -> list[int]:
        """Change all jobs that a filter means, as `update` does; give their ids. See `cancel_all`."""
        chosen, asked = _updatable(_chosen("update_all", wanted, {}), changes), change_of(change, changes)
        return self._blocking(
            lambda engine: _in_batches(partial(_update, change=asked), engine, chosen),
            "update_all",
            connection,
        )

    async def aupdate_all(
        self,
        wanted: JobFilter,
        change: Change | None = None,
        /,
        *,
        connection: Any = None,
        **changes: Unpack[Changes],
    ) -> list[int]:
        """Change all jobs that a filter means; awaited. See `update_all`."""
        chosen, asked = _updatable(_chosen("aupdate_all", wanted, {}), changes), change_of(change, changes)
        return await self._awaited(
            lambda engine: _in_batches(partial(_update, change=asked), engine, chosen), connection
        )


# Which jobs


def _by_id(jobs: Iterable[int | AnyJob]) -> JobFilter:
    return JobFilter(ids=[_id(job) for job in jobs])


def _id(job: int | AnyJob | Retried) -> int:
    if isinstance(job, Retried):
        return job.id
    if not isinstance(job, Job):
        return job
    if job.id is None:
        raise InvalidFilter(f"this job of {job.worker} has no id: it was never stored")
    return job.id


def _updatable(wanted: JobFilter, changes: Changes) -> JobFilter:
    """Leave out, where many are meant, those that a change cannot mean."""
    return wanted.only(WAITING) if "scheduled_at" in changes else wanted


def _chosen(called: str, wanted: JobFilter | None, fields: JobFields) -> JobFilter:
    """Read which jobs are meant; all of them only where somebody says so."""
    if wanted is None and all(value is None for value in fields.values()):
        raise InvalidFilter(
            f'{called} was not told which jobs: ask for some, as in states="scheduled",'
            " or give JobFilter() for every job there is"
        )
    return filter_of(wanted, fields)


# What is done, and who must hear of it


async def _cancel(engine: Engine, wanted: JobFilter) -> list[AnyJob]:
    cancelled = await engine.cancel(wanted)
    if running := [
        {"action": "pkill", "job_id": each.job.id, "take": each.job.take}
        for each in cancelled
        if each.was is State.EXECUTING
    ]:
        await engine.tell(SIGNAL, running)
    return [each.job for each in cancelled]


async def _retry(engine: Engine, wanted: JobFilter) -> list[AnyJob]:
    return [each.job for each in await _retried(engine, wanted)]


async def _retried(engine: Engine, wanted: JobFilter) -> list[Retried]:
    retried = await engine.retry(wanted)
    await _tell_queues(engine, [each.job for each in retried if not each.job.conflict])
    return retried


async def _delete(engine: Engine, wanted: JobFilter) -> list[int]:
    return await engine.delete(wanted)


async def _update(engine: Engine, wanted: JobFilter, change: Change) -> list[AnyJob]:
    updated = await engine.update(wanted, change)
    await _tell_queues(engine, [job for job in updated if job.state is State.AVAILABLE])
    return updated


async def _tell_queues(engine: Engine, jobs: Sequence[AnyJob]) -> None:
    if jobs:
        await engine.tell(INSERT, naming_queues(job.queue for job in jobs))


async def _in_batches(
    act: Callable[[Engine, JobFilter], Coroutine[Any, Any, Sequence[int | AnyJob | Retried]]],
    engine: Engine,
    wanted: JobFilter,
) -> list[int]:
    """Act on many jobs, some at a time and in order of id, so that nobody waits for all of them."""
    done: list[int] = []
    left = LARGEST_ID if wanted.limit is None else wanted.limit
    while left:
        size = min(left, BATCH)
        answers = await act(engine, msgspec.structs.replace(wanted, limit=size))
        done += [_id(each) for each in answers if not (isinstance(each, Retried) and each.job.conflict)]
        if not answers:
            break
        left -= size
        wanted = msgspec.structs.replace(wanted, after=_id(answers[-1]))
    return done
