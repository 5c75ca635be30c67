"""A hint that something happened, never a promise: everything works without it, only slower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Payload = Mapping[str, Any]
Heard = Callable[[str, Payload], None]

INSERT = "insert"
SIGNAL = "signal"


class Notifier(Protocol):
    """Tells and hears of channels: `insert` carries `{"queue": …}`, `signal` `{"action": …}`.

    An insert that names no queue means any of them.
    """

    async def notify(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Tell everyone who listens, this process included."""

    async def run(self, heard: Heard) -> None:
        """Call `heard(channel, payload)` for all that is told, until cancelled; survive a lost database."""
