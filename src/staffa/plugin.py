"""Work that repeats. A plugin says what to do; when, and whether it may, is decided elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

from staffa.engine import Engine


class Report(dict[str, Any]):
    """What a tick counted, and in how long to tick again, where that is sooner than the interval."""

    def __init__(self, *, again_in: timedelta | None = None, **counted: Any) -> None:
        super().__init__(counted)
        self.again_in = again_in


class Plugin(Protocol):
    """A repeated duty of an instance.

    `interval` is the time between two ticks; a tick of a `leader_only` plugin happens on one node at a time.
    """

    @property
    def interval(self) -> timedelta: ...

    @property
    def leader_only(self) -> bool: ...

    async def tick(self, engine: Engine) -> dict[str, Any]:
        """Do the work once; return what was counted, for telemetry, as a `Report` to tick again sooner."""
