"""Hints within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from staffa.notifier import CHANNELS, Heard, Payload
from staffa.telemetry import NotifierListening, Telemetry


class LocalNotifier:
    """Tells every instance that listens in this process, on its own event loop."""

    def __init__(self, telemetry: Telemetry | None = None) -> None:
        self._telemetry = telemetry or Telemetry()
        self._listeners: dict[object, tuple[asyncio.AbstractEventLoop, Heard, Sequence[str]]] = {}

    def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Tell from any thread."""
        for loop, heard, channels in list(self._listeners.values()):
            for payload in payloads if channel in channels else ():
                with suppress(RuntimeError):  # the loop has closed
                    loop.call_soon_threadsafe(heard, channel, payload)

    @contextmanager
    def listening(self, heard: Heard, channels: Sequence[str]) -> Iterator[None]:
        """Call `heard` on this event loop meanwhile."""
        seat = (
            object()
        )  # the same function may listen twice, for a moment: on a thread that ends, and on the next
        self._listeners[seat] = asyncio.get_running_loop(), heard, channels
        try:
            yield
        finally:
            del self._listeners[seat]

    async def run(self, heard: Heard, *, channels: Sequence[str] = CHANNELS) -> None:
        with self.listening(heard, channels):
            self._telemetry.emit(NotifierListening())
            await asyncio.get_running_loop().create_future()
