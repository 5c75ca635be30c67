"""An engine for tests that keeps nothing: what is inserted runs at once, and comes back as what it became."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from staffa._bridge import at_once
from staffa._clock import running_from, utc_now
from staffa._cursor import Position
from staffa._executor import execute
from staffa._filter import JobFilter
from staffa._finding import Finding, notice
from staffa._hands import Hands, InThisThread, InThreads
from staffa._job import AnyJob, Progress, State, replace
from staffa._pauses import Pause
from staffa._running import Running
from staffa._threads import Threads
from staffa.engine import (
    Ack,
    Backlog,
    Beat,
    Cancelled,
    Change,
    CronMark,
    CronTick,
    Engine,
    Exchanged,
    ProducerInfo,
    PrunedKeys,
    Reconciled,
    Reindexed,
    Retried,
    Staged,
    TablesStatus,
)
from staffa.notifier import Notifier, Payload
from staffa.notifiers.local import LocalNotifier
from staffa.telemetry import Telemetry, told
from staffa.worker import find, is_async


class InlineDatabase:
    """Runs jobs where they are enqueued. Exceptions of workers reach the caller; scheduled jobs run at once."""

    dialect, schema, channel, reach = "", None, None, None

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self._notifier, self.tables = LocalNotifier(telemetry), NoTables()
        self._threads = Threads("staffa-inline")
        self.engine = InlineEngine(InThreads(self._threads), telemetry)
        self.plain = PlainInlineEngine(InThisThread(), telemetry)

    @contextmanager
    def alone(self) -> Iterator[Engine]:
        yield self.plain

    def joined(self, connection: Any) -> Engine:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self.plain
        return self.engine

    def notifier(self) -> Notifier:
        return self._notifier

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def dispose(self) -> None:
        self._threads.close()

    def examine(self) -> list[Finding]:
        return [
            notice("database", "jobs run where they are enqueued and are kept nowhere", "leave testing out")
        ]

    def leading(self, *, leads: bool) -> None: ...


class NoTables:
    """What there is to migrate where nothing is kept."""

    def status(self) -> TablesStatus:
        return TablesStatus(applied=[], pending=[])

    def forward(self, to: int | None = None) -> list[int]:
        return []

    def back(self, to: int) -> list[int]:
        return []

    def losses(self, to: int) -> dict[str, int]:
        return {}

    def index(self, columns: Sequence[str]) -> list[str]:
        return []

    def script(self, since: int, to: int | None = None) -> list[str]:
        return []


class InlineEngine:
    """Awaited callers: async workers run on their loop, plain ones in a thread, as in production."""

    def __init__(self, hands: Hands, telemetry: Telemetry) -> None:
        self._hands, self._telemetry = hands, telemetry

    async def insert(self, jobs: Sequence[AnyJob], *, now: datetime | None = None) -> list[AnyJob]:
        return await told(self._telemetry, "insert", [jobs], self._run_all(jobs, now or utc_now()))

    async def _run_all(self, jobs: Sequence[AnyJob], now: datetime) -> list[AnyJob]:
        return [await self.run(job, now) for job in jobs]

    async def run(self, job: AnyJob, now: datetime) -> AnyJob:
        taken = replace(
            job,
            state=State.EXECUTING,
            attempt=1,
            attempted_by=["inline", "inline"],
            inserted_at=now,
            scheduled_at=job.scheduled_at or now + (job.schedule_in or timedelta(0)),
            attempted_at=now,
            schedule_in=None,
            unique=None,
            replace=None,
        )
        after = await execute(
            taken,
            Running(),
            hands=self._hands,
            telemetry=self._telemetry,
            clock=running_from(now),
            raising=True,
        )
        return after or taken

    async def exchange(
        self,
        producer: ProducerInfo,
        finished: Sequence[Ack],
        demand: int,
        *,
        after: Position | None = None,
        now: datetime | None = None,
    ) -> Exchanged:
        return Exchanged([], [], [])

    async def reconcile(self, producer: ProducerInfo, held: Sequence[AnyJob]) -> Reconciled:
        return Reconciled([], [])

    async def progress(self, producer: ProducerInfo, told: Sequence[tuple[AnyJob, Progress]]) -> None: ...

    async def stage(self, limit: int, *, now: datetime | None = None) -> Staged:
        return Staged({}, None)

    async def register(self, producers: Sequence[ProducerInfo]) -> None: ...

    async def beat(self, producers: Sequence[str]) -> list[str]:
        return list(producers)

    async def retire(self, producers: Sequence[str]) -> None: ...

    async def expire(self, still: Sequence[Beat]) -> list[str]:
        return []

    async def rescue(self, limit: int, *, now: datetime | None = None) -> list[AnyJob]:
        return []

    async def prune(
        self, ages: Mapping[State, timedelta], limit: int, *, now: datetime | None = None
    ) -> dict[State, int]:
        return {}

    async def prune_keys(self, after: str, limit: int) -> PrunedKeys:
        return PrunedKeys(0, None)

    async def cancel(self, wanted: JobFilter, *, now: datetime | None = None) -> list[Cancelled]:
        return []

    async def retry(self, wanted: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        return []

    async def delete(self, wanted: JobFilter) -> list[int]:
        return []

    async def update(self, wanted: JobFilter, change: Change, *, now: datetime | None = None) -> list[AnyJob]:
        return []

    async def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        return Reindexed([], [], {})

    async def pause(self, queue: str, node: str, ident: str, *, paused: bool) -> Pause:
        return Pause(0, queue, node, paused)

    async def executing(self) -> dict[str, list[int]]:
        return {}

    async def pauses(self) -> list[Pause]:
        return []

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None: ...

    async def lead(self, lease: str, node: str, period: timedelta, *, now: datetime | None = None) -> bool:
        return False

    async def resign(self, lease: str, node: str) -> None: ...

    async def jobs(self, wanted: JobFilter) -> list[AnyJob]:
        return []

    async def count(self, wanted: JobFilter) -> int:
        return 0

    async def ready(self, queues: Sequence[str]) -> list[str]:
        return []

    async def states(self, ids: Sequence[int]) -> dict[int, State]:
        return {}

    async def counts(self) -> dict[str, dict[State, int]]:
        return {}

    async def producers(self) -> list[ProducerInfo]:
        return []

    async def leader(self, lease: str) -> str | None:
        return None

    async def backlog(self) -> Backlog:
        return Backlog([], 0)

    async def clock(self) -> datetime:
        return utc_now()

    async def cron_marks(self, entries: Sequence[str]) -> list[CronMark]:
        return []

    async def record_ticks(self, ticks: Sequence[CronTick], *, now: datetime | None = None) -> list[AnyJob]:
        return []

    async def boot(
        self, ticks: Sequence[CronTick], started: datetime, *, now: datetime | None = None
    ) -> list[AnyJob]:
        return []

    async def prune_ticks(self, age: timedelta, *, now: datetime | None = None) -> None: ...


class PlainInlineEngine(InlineEngine):
    """Blocking callers: plain workers run in the caller's thread, async ones on a loop of their own."""

    async def _run_all(self, jobs: Sequence[AnyJob], now: datetime) -> list[AnyJob]:
        return [self._run_here(job, now) for job in jobs]

    def _run_here(self, job: AnyJob, now: datetime) -> AnyJob:
        if is_async(find(job.worker)):
            with asyncio.Runner() as loop:
                return loop.run(self.run(job, now))
        return at_once(self.run(job, now))
