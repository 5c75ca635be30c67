"""What can be wrong with a system of jobs: the database's own findings, then what the tables tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from staffa._bridge import at_once
from staffa._clock import utc_now
from staffa._cron import CronEntry
from staffa._finding import Finding, Level, fine, notice, problem
from staffa._job import State
from staffa.config import QueueConfig
from staffa.engine import Backlog, Database, ProducerInfo, Waiting
from staffa.errors import DatabaseError, InvalidCron

LATE = timedelta(minutes=1)
SILENT = timedelta(seconds=30)


def examined(
    database: Database,
    *,
    lease: str,
    queues: Mapping[str, QueueConfig],
    workers: Sequence[str],
    crontab: Callable[[], Sequence[CronEntry]],
) -> Iterator[Finding]:
    """Look at a database, then at who runs which queues, what waits for whom, and what comes by itself."""
    blocked = False
    for finding in database.examine():
        blocked = blocked or (
            finding.level is Level.PROBLEM and finding.check in ("database", "tables", "file")
        )
        yield finding
    if blocked:
        return
    try:
        backlog = at_once(database.plain.backlog())
        producers = at_once(database.plain.producers())
        leader = at_once(database.plain.leader(lease))
    except DatabaseError as error:
        yield problem("jobs", f"could not be looked at: {error}", "mend what stands above, then ask again")
        return

    now = utc_now()
    living = [each for each in producers if not each.expired and not is_silent(each.beat_at, now)]
    yield from _queues(queues, living, backlog.waiting)
    yield from _silence(producers, now)
    yield _leader(leader, running=bool(living))
    yield from _late(backlog.waiting, now)
    yield from _workers(workers, backlog.waiting)
    yield from _cron(crontab)
    yield from _strays(backlog)


def _queues(
    configured: Mapping[str, QueueConfig], living: Sequence[ProducerInfo], waiting: Sequence[Waiting]
) -> Iterator[Finding]:
    running = {each.queue for each in living}
    jobs: dict[str, int] = {}
    for each in waiting:
        jobs[each.queue] = jobs.get(each.queue, 0) + each.jobs
    for queue in sorted(jobs.keys() - running):
        known, command = (
            ("it is configured, but no living process runs it", "staffa run")
            if queue in configured
            else ("it is configured nowhere here", f"staffa run --queue {queue}:10")
        )
        yield problem(
            "queues",
            f"{_wait(jobs[queue])} in {queue!r}, which runs nowhere; {known}",
            f"start `{command}` where its workers are, or move the jobs to a queue that runs",
        )
    for queue in sorted(configured.keys() - running - jobs.keys()):
        yield notice("queues", f"{queue!r} runs nowhere; nothing waits in it", "start `staffa run`")
    for queue in sorted(running):
        yield from _running_queue(queue, [each for each in living if each.queue == queue], jobs.get(queue, 0))


def _wait(jobs: int) -> str:
    return "1 job waits" if jobs == 1 else f"{jobs} jobs wait"


def _running_queue(queue: str, living: Sequence[ProducerInfo], jobs: int) -> Iterator[Finding]:
    paused = sorted({each.node for each in living if each.paused})
    taking = sorted({each.node for each in living if not each.paused})
    if taking:
        yield fine("queues", f"{queue!r} runs on {', '.join(taking)}; {_wait(jobs)}")
    if paused:
        yield notice(
            "queues",
            f"{queue!r} is paused on {', '.join(paused)}; {_wait(jobs)}",
            f"`staffa queues resume {queue}` lets it take jobs again",
        )


def _silence(producers: Sequence[ProducerInfo], now: datetime) -> Iterator[Finding]:
    for each in producers:
        if not each.expired and is_silent(each.beat_at, now):
            yield problem(
                "processes",
                f"{each.node} ran {each.queue!r} and has been silent since {each.beat_at:%Y-%m-%d %H:%M:%S} UTC",
                "see whether it died or hangs; any running process takes its jobs back within 30 s",
            )


def is_silent(beat_at: datetime | None, now: datetime) -> bool:
    """Tell whether nothing was heard of a producer for so long that it looks dead."""
    return beat_at is not None and now - beat_at > SILENT


def _leader(leader: str | None, *, running: bool) -> Finding:
    if leader is not None:
        return fine("leader", f"{leader} leads")
    if running:
        return notice(
            "leader", "nobody leads, though queues run", "wait 15 s; if it stays so, read their logs"
        )
    return notice("leader", "nobody leads, so nothing is staged, pruned or rescued", "start `staffa run`")


def _late(waiting: Sequence[Waiting], now: datetime) -> Iterator[Finding]:
    for each in waiting:
        if each.state is not State.AVAILABLE and each.oldest is not None and now - each.oldest > LATE:
            yield problem(
                "staging",
                f"{each.state} jobs of {each.queue!r} have been due since {each.oldest:%Y-%m-%d %H:%M:%S} UTC",
                "the leader makes due jobs available: see whether one leads, and what its log says",
            )


def _workers(known: Sequence[str], waiting: Sequence[Waiting]) -> Iterator[Finding]:
    unknown: dict[str, int] = {}
    for each in waiting:
        if each.worker not in known:
            unknown[each.worker] = unknown.get(each.worker, 0) + each.jobs
    for worker, jobs in sorted(unknown.items()):
        yield problem(
            "workers",
            f"{jobs} {'job names' if jobs == 1 else 'jobs name'} {worker!r}, which no module known here defines",
            "name its module in `modules`, or its former name in `aliases`",
        )
    if not unknown:
        yield fine("workers", f"{len(known)} known; none of those that jobs wait for is missing")


def _cron(crontab: Callable[[], Sequence[CronEntry]]) -> Iterator[Finding]:
    try:
        entries = crontab()
    except InvalidCron as error:
        yield problem("cron", str(error), "mend this entry: queues do not start before")
        return
    if entries:
        yield fine(
            "cron", f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}, each as it should be"
        )


def _strays(backlog: Backlog) -> Iterator[Finding]:
    if backlog.strays:
        yield notice(
            "executing",
            f"{backlog.strays} executing jobs belong to no process that Staffa knows, so it never rescues them",
            "they belong to Elixir nodes; if none runs here, cancel and retry them",
        )
