"""Work that repeats. A plugin says what to do; when, and whether it may, is decided elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

from staffa.engine import Engine


class Plugin(Protocol):
    """A repeated duty of an instance.

    `interval` is the time between two ticks; a tick of a `leader_only` plugin happens on one node at a time.
    """

    @property
    def interval(self) -> timedelta: ...

    @property
    def leader_only(self) -> bool: ...

    async def tick(self, engine: Engine) -> dict[str, Any]:
        """Do the work once; return what was counted, for telemetry."""
