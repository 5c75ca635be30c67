"""Delete finished jobs when they are old enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from staffa._job import FINAL, State
from staffa.engine import Engine
from staffa.errors import ConfigError

DAY = timedelta(days=1)
WEEK = timedelta(days=7)


class Sweep:
    """Goes round the unique keys, a part at each tick, and on at once while most of them can go."""

    def __init__(self) -> None:
        self._after = ""

    async def go_on(self, engine: Engine, limit: int) -> int:
        total = 0
        while True:
            pruned, last = await engine.prune_keys(self._after, limit)
            self._after = last or ""
            total += pruned
            if 2 * pruned < limit:
                return total


@dataclass(frozen=True, slots=True)
class Pruner:
    """Deletes completed jobs after a day, cancelled and discarded ones after a week.

    `max_age` is one age for all three, or None to keep everything; `completed`, `cancelled` and `discarded`
    set one each. Unique keys whose job has vanished go with them. Raises `ConfigError` for an age below zero.
    """

    leader_only: ClassVar[bool] = True

    interval: timedelta = timedelta(seconds=30)
    limit: int = 10_000
    max_age: timedelta | str | None = "by state"
    completed: timedelta | None = DAY
    cancelled: timedelta | None = WEEK
    discarded: timedelta | None = WEEK
    ages: Mapping[State, timedelta] = field(init=False, repr=False)
    keys: Sweep = field(init=False, repr=False, compare=False, default_factory=Sweep)

    def __post_init__(self) -> None:
        chosen: dict[State, timedelta] = {}
        for state in sorted(FINAL):
            age = getattr(self, state) if self.max_age == "by state" else self.max_age
            if isinstance(age, timedelta) and age >= timedelta(0):
                chosen[state] = age
            elif age is not None:
                raise ConfigError(
                    f"Pruner: the age of {state} jobs must be a timedelta of at least 0, not {age!r}"
                )
        object.__setattr__(self, "ages", chosen)

    async def tick(self, engine: Engine) -> dict[str, Any]:
        total: dict[State, int] = {}
        while self.ages:
            pruned = await engine.prune(self.ages, self.limit)
            for state, jobs in pruned.items():
                total[state] = total.get(state, 0) + jobs
            if max(pruned.values(), default=0) < self.limit:
                break
        keys = await self.keys.go_on(engine, self.limit)
        return {str(state): jobs for state, jobs in total.items()} | ({"keys": keys} if keys else {})
