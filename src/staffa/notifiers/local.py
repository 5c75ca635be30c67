"""Hints within one process, and from the thread that sees the file change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from staffa.notifier import INSERT, Heard, Payload


class LocalNotifier:
    """Tells every instance that listens in this process, on its own event loop."""

    def __init__(self) -> None:
        self._listeners: dict[Heard, asyncio.AbstractEventLoop] = {}

    def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Tell from any thread."""
        for heard, loop in list(self._listeners.items()):
            for payload in payloads:
                with suppress(RuntimeError):  # the loop has closed
                    loop.call_soon_threadsafe(heard, channel, payload)

    def changed(self) -> None:
        """Say that something unknown was written: any queue may have jobs."""
        if self._listeners:
            self.tell(INSERT, [{}])

    async def run(self, heard: Heard) -> None:
        self._listeners[heard] = asyncio.get_running_loop()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            del self._listeners[heard]
