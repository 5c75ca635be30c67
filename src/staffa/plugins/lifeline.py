"""Bring back jobs whose worker died under them."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any, ClassVar

from staffa._job import State
from staffa.engine import Beat, Engine
from staffa.notifier import INSERT, naming_queues

logger = logging.getLogger("staffa")


class Lifeline:
    """Takes a producer for dead when its beat stood still through `silence`, and rescues its jobs.

    Only time counts in which this node reached the database without interruption, at least every
    three intervals: an outage, a long lock or a blocked event loop makes nobody look dead.
    """

    leader_only: ClassVar[bool] = False

    def __init__(
        self,
        *,
        interval: timedelta = timedelta(seconds=2),
        silence: timedelta = timedelta(seconds=20),
        limit: int = 1_000,
    ) -> None:
        self.interval, self.silence, self.limit = interval, silence, limit
        self._since: dict[Beat, float] = {}
        self._reached: float | None = None

    async def tick(self, engine: Engine) -> dict[str, Any]:
        now = time.monotonic()
        self._forget_after_interruption(now)

        still = self._still(now)
        expired = await engine.expire(still) if still else []
        # It writes, so that it fails where nobody can: then beats stand still although nobody is dead.
        rescued = await engine.rescue(self.limit)
        self._look({Beat(each.id, each.beat) for each in await engine.producers() if not each.expired})

        if rescued:
            logger.warning(
                "jobs of dead processes brought back: %d, job %s first", len(rescued), rescued[0].id
            )
            await engine.tell(INSERT, naming_queues(job.queue for job in rescued))
        self._reached = time.monotonic()
        discarded = sum(job.state is State.DISCARDED for job in rescued)
        return {"expired": expired, "rescued": len(rescued) - discarded, "discarded": discarded}

    def _forget_after_interruption(self, now: float) -> None:
        if self._reached is None or now - self._reached > 3 * self.interval.total_seconds():
            self._since.clear()
        self._reached = None

    def _still(self, now: float) -> list[Beat]:
        return [beat for beat, since in self._since.items() if now - since >= self.silence.total_seconds()]

    def _look(self, beats: set[Beat]) -> None:
        """Remember since when each beat is as it is."""
        now = time.monotonic()
        self._since = {beat: self._since.get(beat, now) for beat in beats}
