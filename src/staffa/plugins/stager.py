"""Make jobs available when their time has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from staffa.engine import Engine
from staffa.notifier import INSERT, naming_queues


@dataclass(frozen=True, slots=True)
class Stager:
    """Moves due scheduled and retryable jobs to available, at most `limit` at once, and wakes their queues."""

    leader_only: ClassVar[bool] = True

    interval: timedelta = timedelta(seconds=1)
    limit: int = 5_000

    async def tick(self, engine: Engine) -> dict[str, Any]:
        staged = await engine.stage(self.limit)
        if staged:
            await engine.tell(INSERT, naming_queues(staged))
        return {"staged": sum(staged.values()), "queues": staged}
