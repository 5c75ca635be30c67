"""Which entries the crontab of an instance has: those of its workers, and those it was configured with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from staffa._admission import admitted
from staffa._cron import Cron, CronEntry, entry_name, schedule
from staffa._job import AnyJob
from staffa._job_functions import class_of
from staffa._spelling import unknown
from staffa.errors import InvalidCron, JobError, UnknownWorker
from staffa.worker import Worker, find, registered


def crontab(configured: Sequence[Cron], timezone: str, *, with_workers: bool) -> list[CronEntry]:
    """Read all entries, each with the job that it inserts. Raises `InvalidCron` naming the entry that is wrong."""
    given = [*(_of_workers() if with_workers else ()), *((_worker_of(cron), cron) for cron in configured)]
    entries = [_entry(worker, cron, cron.timezone or timezone) for worker, cron in given]
    _refuse_twins(entries)
    return entries


def _of_workers() -> Iterator[tuple[type[Worker], Cron]]:
    for worker in dict.fromkeys(registered().values()):
        for cron in worker.options.cron:
            yield worker, cron


def _worker_of(cron: Cron) -> type[Worker]:
    given: Any = cron.worker
    if (worker := class_of(given)) is not None:
        return worker
    if not isinstance(given, str):
        raise InvalidCron(
            f"{_label(cron)} has no worker: give worker=, a name, a Worker class or a job function, not {given!r}"
        )
    try:
        return find(given)
    except UnknownWorker as error:
        raise InvalidCron(
            f"{_label(cron)}: {unknown(given, registered(), 'worker')} (its module belongs in `modules`)"
        ) from error


def _entry(worker: type[Worker], cron: Cron, timezone: str) -> CronEntry:
    try:
        job = _job(worker, cron)
    except (JobError, TypeError) as error:
        raise InvalidCron(f"{_label(cron)} of {worker.options.name}: {error}") from error
    return CronEntry(
        name=entry_name(cron, job, timezone),
        cron=cron,
        timezone=timezone,
        job=job,
        schedule=schedule(cron.expression, timezone),
    )


def _job(worker: type[Worker], cron: Cron) -> AnyJob:
    return admitted(worker.using(**cron.options).new(cron.args))


def _refuse_twins(entries: Iterable[CronEntry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise InvalidCron(f"two cron entries are named {entry.name!r}: give one of them another name=")
        seen.add(entry.name)


def _label(cron: Cron) -> str:
    return f"the cron entry {cron.name or cron.expression!r}"
