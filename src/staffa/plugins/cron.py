"""Insert the jobs of the crontab when they are due."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from staffa._cron import CronEntry, Known, due
from staffa._job import AnyJob
from staffa.engine import CronTick, Engine
from staffa.errors import ConfigError, UnstorableData
from staffa.notifier import INSERT, naming_queues

logger = logging.getLogger("staffa")

KEPT_BEYOND_WINDOW = timedelta(days=1)
PRUNED_EVERY = timedelta(hours=1)
SHOWN_EVERY = timedelta(seconds=5)
LONGEST_TRUST = timedelta(seconds=5)
EARLIEST = datetime.min.replace(tzinfo=UTC)


class Crontab:
    """Inserts a job for each tick of each entry, once, however many nodes do so.

    Ticks within `grace` are always inserted; `window` bounds how far an entry catches up. The time is the
    database's. Raises `ConfigError` for lengths below zero.
    """

    leader_only: ClassVar[bool] = True

    def __init__(
        self,
        *,
        interval: timedelta = timedelta(seconds=1),
        grace: timedelta = timedelta(minutes=2),
        window: timedelta = timedelta(days=1),
    ) -> None:
        for option, length in (("grace", grace), ("window", window)):
            if not isinstance(length, timedelta) or length < timedelta(0):
                raise ConfigError(f"Crontab: {option} must be a timedelta of at least 0, not {length!r}")
        self.interval, self.grace, self.window = interval, grace, window
        self.begin([])

    def begin(self, entries: Sequence[CronEntry]) -> None:
        """Take the entries of an instance that starts now."""
        self._timed = [entry for entry in entries if entry.schedule is not None]
        self._at_boot = [entry for entry in entries if entry.schedule is None]
        self._began = time.monotonic()
        self._started: datetime | None = None
        self._judged, self._next = EARLIEST, EARLIEST
        self._shown = self._pruned = EARLIEST

    async def tick(self, engine: Engine, *, now: datetime | None = None) -> dict[str, Any]:
        if not self._timed and not self._at_boot:
            return {"inserted": 0}
        now = now or await engine.clock()
        inserted = await self._boot(engine, now)
        if self._is_time(now):
            inserted += await self._judge(engine, now)
        if _passed(self._pruned, now, PRUNED_EVERY):
            await engine.prune_ticks(self.window + KEPT_BEYOND_WINDOW, now=now)
            self._pruned = now
        new = [job for job in inserted if not job.conflict]
        if new:
            await engine.tell(INSERT, naming_queues(job.queue for job in new))
        return {"inserted": len(new)}

    async def _boot(self, engine: Engine, now: datetime) -> list[AnyJob]:
        """Insert the jobs of @reboot if no leader was seen since this process started, and be seen."""
        if not self._at_boot or not _passed(self._shown, now, SHOWN_EVERY):
            return []
        if self._started is None:
            self._started = now - timedelta(seconds=time.monotonic() - self._began)
        inserted: list[AnyJob] = []
        for entry in self._at_boot:
            tick = CronTick(entry.name, now, entry.job_at(now))
            inserted += await _stored(entry, engine.boot([tick], self._started, now=now))
        self._shown = now
        return inserted

    def _is_time(self, now: datetime) -> bool:
        """Tell whether something may be due; also after a while, since databases' clocks can be set."""
        return now >= self._next or _passed(self._judged, now, LONGEST_TRUST)

    async def _judge(self, engine: Engine, now: datetime) -> list[AnyJob]:
        marks = {mark.entry: mark for mark in await engine.cron_marks([entry.name for entry in self._timed])}
        inserted: list[AnyJob] = []
        for entry in self._timed:
            if mark := marks.get(entry.name):
                known = Known(mark.since, mark.newest)
                ticks = [
                    CronTick(entry.name, tick, entry.job_at(tick))
                    for tick in due(entry, known, now, grace=self.grace, window=self.window)
                ]
            else:
                ticks = [CronTick(entry.name, now, None)]
            if ticks:
                inserted += await _stored(entry, engine.record_ticks(ticks, now=now))
        self._judged = now
        self._next = min((tick for entry in self._timed for tick in entry.next_runs(1, now)), default=now)
        return inserted


async def _stored(entry: CronEntry, word: Awaitable[list[AnyJob]]) -> list[AnyJob]:
    """Await a word about one entry; one whose jobs the database refuses keeps no other from its turn."""
    try:
        return await word
    except UnstorableData as error:
        logger.error("the jobs of cron entry %s cannot be stored: %s", entry.name, error)  # noqa: TRY400 - the database is to blame, no code
        return []


def _passed(last: datetime, now: datetime, length: timedelta) -> bool:
    """Tell whether so much time has passed, or the clock was put back."""
    return not timedelta(0) <= now - last < length
