"""A hint that something happened, never a promise: everything works without it, only slower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

Payload = Mapping[str, Any]
Heard = Callable[[str, Payload], None]

INSERT = "insert"
SIGNAL = "signal"
LEADER = "leader"


class Notifier(Protocol):
    """Hears what engines tell: `insert` carries `{"queue": …}`, `signal` `{"action": …}`, `leader` `{"down": …}`.

    An insert that names no queue means any of them. What is down is a lease that was given up.
    """

    async def run(self, heard: Heard) -> None:
        """Call `heard(channel, payload)` for all that is told, until cancelled; survive a lost database."""
