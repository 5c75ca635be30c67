"""Ticks of the crontab, each recorded once, with its job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from staffa._clock import instant
from staffa._job import AnyJob
from staffa.engine import CronTick
from staffa.engines._sql.keys import Insert
from staffa.engines._sql.rows import moment_of, written
from staffa.engines._sql.session import Session


async def record(db: Session, ticks: Sequence[CronTick], now: datetime | None, store: Insert) -> list[AnyJob]:
    """Record ticks; a row that somebody else is about to record is waited for."""
    if not ticks:
        return []
    ticks = [each._replace(tick=each.tick.astimezone(UTC)) for each in ticks]
    given = [{"entry": each.entry, "tick": instant(each.tick)} for each in ticks]
    recorded = {
        (entry, moment_of(tick))
        for entry, tick in await db.run("record_ticks", ticks=written(given), now=now)
    }
    new = [(each, job) for each in ticks if (job := each.job) and (each.entry, each.tick) in recorded]
    stored = await store(db, [job for _, job in new], now)
    named = [
        {"entry": each.entry, "tick": instant(each.tick), "job_id": job.id}
        for (each, _), job in zip(new, stored, strict=True)
    ]
    if named:
        await db.run("name_ticks", ticks=written(named))
    return stored
