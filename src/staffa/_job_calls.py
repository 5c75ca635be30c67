"""What callers ask about jobs: store them, look at them, act on them; blocking, and awaited."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from staffa._admission import admitted
from staffa._calls import Calls
from staffa._job import AnyJob, State
from staffa.engine import Engine, JobFilter, ProducerInfo
from staffa.notifier import INSERT, SIGNAL


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

        Raises `InvalidJob` or `InvalidArguments` before anything is written, `UnsupportedConnection` for a
        connection that cannot be joined, `InsideEventLoop` where blocking would stop a loop.
        """
        admissible = [admitted(job) for job in jobs]
        stored = self._blocking(lambda engine: engine.insert(admissible), "enqueue", connection)
        if connection is None:
            self._wake_here(stored)
        return stored

    async def ainsert_all(self, jobs: Sequence[AnyJob], /, *, connection: Any = None) -> list[AnyJob]:
        """Store jobs, all or none; awaited. See `insert_all`."""
        admissible = [admitted(job) for job in jobs]
        stored = await self._awaited(lambda engine: engine.insert(admissible), connection)
        if connection is None:
            self._wake_here(stored)
        return stored

    # Looking at jobs

    def get(self, id: int) -> AnyJob | None:
        """Return a job by its id."""
        return next(iter(self.jobs(ids=[id])), None)

    async def aget(self, id: int) -> AnyJob | None:
        """Return a job by its id."""
        return next(iter(await self.ajobs(ids=[id])), None)

    def jobs(self, **wanted: Any) -> list[AnyJob]:
        """List jobs, newest first. Takes the fields of `JobFilter`: ids, states, queues, workers, before, limit."""
        return self._blocking(lambda engine: engine.jobs(JobFilter(**wanted)), "jobs")

    async def ajobs(self, **wanted: Any) -> list[AnyJob]:
        """List jobs, newest first. Takes the fields of `JobFilter`."""
        return await self._awaited(lambda engine: engine.jobs(JobFilter(**wanted)))

    def counts(self) -> dict[str, dict[State, int]]:
        """Count jobs by queue and state."""
        return self._blocking(lambda engine: engine.counts(), "counts")

    async def acounts(self) -> dict[str, dict[State, int]]:
        """Count jobs by queue and state."""
        return await self._awaited(lambda engine: engine.counts())

    def producers(self) -> list[ProducerInfo]:
        """List the queues that run anywhere, as the database knows them."""
        return self._blocking(lambda engine: engine.producers(), "producers")

    async def aproducers(self) -> list[ProducerInfo]:
        """List the queues that run anywhere, as the database knows them."""
        return await self._awaited(lambda engine: engine.producers())

    # Acting on jobs

    def cancel(self, *ids: int) -> list[AnyJob]:
        """Cancel jobs that are not finished, those that run too; give them back."""
        return self._blocking(lambda engine: _cancel(engine, ids), "cancel")

    async def acancel(self, *ids: int) -> list[AnyJob]:
        """Cancel jobs that are not finished, those that run too; give them back."""
        return await self._awaited(lambda engine: _cancel(engine, ids))

    def retry(self, *ids: int) -> list[AnyJob]:
        """Make jobs available again that are neither so nor executing, with an attempt left; give them back."""
        return self._blocking(lambda engine: _retry(engine, ids), "retry")

    async def aretry(self, *ids: int) -> list[AnyJob]:
        """Make jobs available again that are neither so nor executing, with an attempt left; give them back."""
        return await self._awaited(lambda engine: _retry(engine, ids))

    def delete(self, *ids: int) -> list[int]:
        """Delete jobs that are not executing; give their ids."""
        return self._blocking(lambda engine: engine.delete(ids), "delete")

    async def adelete(self, *ids: int) -> list[int]:
        """Delete jobs that are not executing; give their ids."""
        return await self._awaited(lambda engine: engine.delete(ids))


async def _cancel(engine: Engine, ids: Sequence[int]) -> list[AnyJob]:
    cancelled = await engine.cancel(ids)
    if running := [
        {"action": "pkill", "job_id": each.job.id} for each in cancelled if each.was is State.EXECUTING
    ]:
        await engine.tell(SIGNAL, running)
    return [each.job for each in cancelled]


async def _retry(engine: Engine, ids: Sequence[int]) -> list[AnyJob]:
    retried = await engine.retry(ids)
    if queues := sorted({job.queue for job in retried}):
        await engine.tell(INSERT, [{"queue": queue} for queue in queues])
    return retried
