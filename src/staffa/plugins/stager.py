"""Make jobs available when their time has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from staffa.engine import Engine
from staffa.notifier import INSERT, naming_queues
from staffa.plugin import Report


@dataclass(frozen=True, slots=True)
class Stager:
    """Moves due scheduled and retryable jobs to available, at most `limit` at once, and wakes their queues.

    It ticks when the next job is due that it knows of; `interval` is the longest time between two looks.
    """

    leader_only: ClassVar[bool] = True

    interval: timedelta = timedelta(seconds=1)
    limit: int = 5_000

    async def tick(self, engine: Engine) -> Report:
        queues, next_in = await engine.stage(self.limit)
        staged = sum(queues.values())
        if staged:
            await engine.tell(INSERT, naming_queues(queues))
        if staged >= self.limit:  # there may be more of them
            next_in = timedelta(0)
        return Report(staged=staged, queues=queues, again_in=next_in)
