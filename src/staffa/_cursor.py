"""Where a queue's next look for jobs begins: behind those it took, whose dead entries it need not pass again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from staffa._job import AnyJob

SHORTEST_REST = 1.0
LONGEST_REST = 10.0
REST_PER_SECOND = 20.0


class Position(NamedTuple):
    """Where a job stands in the order in which jobs are taken."""

    priority: int
    scheduled_at: datetime
    id: int


START = Position(-1, datetime.min.replace(tzinfo=UTC), 0)


class Look(NamedTuple):
    """One look for jobs behind a position, or for all of them."""

    after: Position | None
    began: float
    round: int


class Cursor:
    """Remembers the last job that was taken.

    Jobs that come before it, as those of a higher priority do, are found by whole looks. One of these is due when
    twenty times as long has passed as the last one took longer than the quickest look; while as much is found as
    was asked for, not before a second has passed. Times are seconds of any clock that goes forward.
    """

    def __init__(self) -> None:
        self._position: Position | None = None
        self._round = 0
        self._rest = 0.0
        self._quickest = math.inf
        self._whole_ended = -math.inf
        self._ran_dry = True
        self._owes = False

    def look(self, now: float) -> Look:
        """Begin a look; several may be under way."""
        whole = self._position is None or now >= self._whole_at
        return Look(None if whole else self._position, now, self._round)

    def found(self, look: Look, jobs: Sequence[AnyJob], demand: int, now: float) -> None:
        """Hear what a look found, in order, and when it ended."""
        if not demand:
            self._owes = False  # to a queue without room; it looks again when it has some
            return
        whole, took = look.after is None, now - look.began
        self._quickest = min(self._quickest, took)
        self._ran_dry = len(jobs) < demand
        self._owes = self._ran_dry and not whole
        if whole:
            self._round += 1
            self._whole_ended = now
            self._rest = min(REST_PER_SECOND * (took - self._quickest), LONGEST_REST)
        if not jobs:
            return
        position = position_of(jobs[-1])
        # A look that began before the last whole one knows nothing of what that one left behind.
        if whole or (look.round == self._round and position > (self._position or START)):
            self._position = position

    def owed(self, now: float) -> float:
        """Tell in how many seconds a whole look is due although nobody asks for it: where the last one ran dry."""
        return max(self._whole_at - now, 0.0) if self._owes else math.inf

    @property
    def _whole_at(self) -> float:
        return self._whole_ended + (self._rest if self._ran_dry else max(self._rest, SHORTEST_REST))


def position_of(job: AnyJob) -> Position:
    return Position(job.priority, job.scheduled_at or START.scheduled_at, job.id or START.id)
