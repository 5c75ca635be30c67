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


@dataclass(frozen=True, slots=True)
class Pruner:
    """Deletes completed jobs after a day, cancelled and discarded ones after a week.

    `max_age` is one age for all three, or None to keep everything; `completed`, `cancelled` and `discarded`
    set one each. Raises `ConfigError` for an age below zero.
    """

    leader_only: ClassVar[bool] = True

    interval: timedelta = timedelta(seconds=30)
    limit: int = 10_000
    max_age: timedelta | str | None = "by state"
    completed: timedelta | None = DAY
    cancelled: timedelta | None = WEEK
    discarded: timedelta | None = WEEK
    ages: Mapping[State, timedelta] = field(init=False, repr=False)

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
        return {str(state): jobs for state, jobs in total.items()}
