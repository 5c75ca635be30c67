"""Run one worker on arguments, and store nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, TypedDict

import msgspec
from typing_extensions import Unpack

from staffa._admission import admitted
from staffa._bridge import refuse_inside_loop
from staffa._hands import InThreads
from staffa._job import AnyJob, Job, State, current, replace
from staffa._job_functions import AnyWorker
from staffa._running import Running
from staffa._threads import Threads
from staffa.testing._shared import check_options, kind_of
from staffa.worker import Worker, is_async, performed


class PerformOptions(TypedDict, total=False):
    """What `perform_job` takes besides the arguments: fields of the job that the worker may look at."""

    id: int
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    tags: Sequence[str]
    meta: Mapping[str, Any]
    errors: Sequence[Mapping[str, Any]]
    scheduled_at: datetime


def perform_job(worker: AnyWorker, args: object = None, /, **options: Unpack[PerformOptions]) -> Any:
    """Run a worker on arguments, and give its answer or raise what it raises. Nothing is stored.

    The arguments go through JSON and through the worker's declared type, as they would on their way through
    the database. A plain worker runs in this thread, an async one on an event loop of its own.
    """
    kind, job = _prepared(worker, args, options)
    if not is_async(kind):
        with _as_current(job):
            return performed(kind(), job)

    refuse_inside_loop("perform_job", "aperform_job(...)")
    with asyncio.Runner() as loop, _as_current(job):
        return loop.run(kind().perform(job))


async def aperform_job(worker: AnyWorker, args: object = None, /, **options: Unpack[PerformOptions]) -> Any:
    """Run a worker on arguments; awaited. A plain worker runs in a thread. See `perform_job`."""
    kind, job = _prepared(worker, args, options)
    with _as_current(job):
        if is_async(kind):
            return await kind().perform(job)
        with closing(Threads("staffa-perform", 1)) as threads:
            return await InThreads(threads).call(Running(), performed, kind(), job)


def _prepared(worker: AnyWorker, args: object, options: PerformOptions) -> tuple[type[Worker], AnyJob]:
    """Build the job that a worker would see, as if it came from the database."""
    kind = kind_of(worker)
    check_options("perform_job", options, PerformOptions)
    chosen: dict[str, Any] = {
        "queue": kind.options.queue,
        "priority": kind.options.priority,
        "max_attempts": kind.options.max_attempts,
        **{key: value for key, value in options.items() if key not in ("id", "attempt", "errors")},
    }
    chosen["tags"] = [*kind.options.tags, *options.get("tags", ())]
    stored = kind.shape.store({} if args is None else args)
    job = admitted(Job(worker=kind.options.name, args=stored, **chosen))
    now = datetime.now(UTC)
    return kind, replace(
        job,
        args=kind.shape.load(msgspec.json.decode(msgspec.json.encode(job.args))),
        id=options.get("id"),
        state=State.EXECUTING,
        attempt=options.get("attempt", 1),
        errors=[dict(error) for error in options.get("errors", ())],
        inserted_at=now,
        scheduled_at=job.scheduled_at or now,
        attempted_at=now,
    )


@contextmanager
def _as_current(job: AnyJob) -> Iterator[None]:
    token = current.set(job)
    try:
        yield
    finally:
        current.reset(token)
