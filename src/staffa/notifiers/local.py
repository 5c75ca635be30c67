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
        self._listeners: dict[Heard, tuple[asyncio.AbstractEventLoop, Sequence[str]]] = {}

    def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Tell from any thread."""
        for heard, (loop, channels) in list(self._listeners.items()):
            for payload in payloads if channel in channels else ():
                with suppress(RuntimeError):  # the loop has closed
                    loop.call_soon_threadsafe(heard, channel, payload)

    @contextmanager
    def listening(self, heard: Heard, channels: Sequence[str]) -> Iterator[None]:
        """Call `heard` on this event loop meanwhile."""
        self._listeners[heard] = asyncio.get_running_loop(), channels
        try:
            yield
        finally:
            del self._listeners[heard]

    async def run(self, heard: Heard, *, channels: Sequence[str] = CHANNELS) -> None:
        with self.listening(heard, channels):
            self._telemetry.emit(NotifierListening())
            await asyncio.get_running_loop().create_future()
