"""Rebuild the indexes of the jobs' table, which swell as rows come and go."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from staffa._cron import DEFAULT_ZONE, Schedule
from staffa._texts import texts
from staffa.engine import Engine
from staffa.errors import ConfigError

logger = logging.getLogger("staffa")

LONGEST_LOOK_BACK = timedelta(minutes=2)


class Reindexer:
    """Rebuilds `indexes` (all of the jobs' table by default) whenever `schedule`, a cron expression, is due.

    Each index gets the time `within`; on PostgreSQL writers go on meanwhile, and halves that an interrupted
    rebuilding left behind are dropped. A night that is missed is not caught up. Raises `InvalidCron`,
    and `ConfigError` for indexes that are no list.
    """

    leader_only: ClassVar[bool] = True
    interval: ClassVar[timedelta] = timedelta(seconds=30)

    def __init__(
        self,
        *,
        schedule: str = "@midnight",
        timezone: str = DEFAULT_ZONE,
        indexes: Sequence[str] = (),
        within: timedelta = timedelta(minutes=5),
    ) -> None:
        self._schedule = Schedule(schedule, timezone)
        self.indexes, self.within = texts("Reindexer: indexes", indexes, ConfigError), within
        self._looked: datetime | None = None

    async def tick(self, engine: Engine, *, now: datetime | None = None) -> dict[str, Any]:
        if not self._is_due(now or await engine.clock()):
            return {}
        done = await engine.reindex(self.indexes, self.within)
        for index, error in done.failed.items():
            logger.warning("index %s could not be rebuilt: %s", index, error)
        return {"rebuilt": done.rebuilt, "dropped": done.dropped, "failed": done.failed}

    def _is_due(self, now: datetime) -> bool:
        """Tell whether the time has come since the last look; one who begins to lead looks back a moment."""
        since = max(self._looked or now - LONGEST_LOOK_BACK, now - LONGEST_LOOK_BACK)
        self._looked = now
        return bool(self._schedule.between(since, now))
