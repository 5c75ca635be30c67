"""Who leads. One node at a time holds the lease; what leaders do is safe for two."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from staffa.engine import Engine
from staffa.notifier import Payload
from staffa.telemetry import ElectionFailed, LeaderChanged, Telemetry

logger = logging.getLogger("staffa")

RENEWALS_PER_LEASE = 3


def lease_of(name: str) -> str:
    """Name the lease of a system."""
    return f"staffa:{name}"


class Peer:
    """A node that would lead. It believes in its lease no longer than it lasts."""

    def __init__(
        self,
        lease: str,
        node: str,
        *,
        engine: Engine,
        telemetry: Telemetry,
        changed: Callable[[bool], None],
        period: timedelta = timedelta(seconds=15),
    ) -> None:
        self._lease, self._node, self._engine, self._telemetry = lease, node, engine, telemetry
        self._changed, self._period = changed, period
        self._until = 0.0
        self._led = False
        self._vacant = asyncio.Event()

    @property
    def leads(self) -> bool:
        return time.monotonic() < self._until

    async def run(self) -> None:
        try:
            while True:
                await self.elect()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._period.total_seconds() / RENEWALS_PER_LEASE):
                        await self._vacant.wait()
                self._vacant.clear()
        finally:
            await self._resign()

    def hear(self, payload: Payload) -> None:
        """Hear that somebody gave a lease up; if it is ours, ask for it at once."""
        if payload.get("down") == self._lease:
            self._vacant.set()

    async def elect(self) -> None:
        asked = time.monotonic()
        try:
            elected = await self._engine.lead(self._lease, self._node, self._period)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, try again
            logger.warning("could not ask for the lease %s: %s", self._lease, error)
            self._telemetry.emit(ElectionFailed(self._lease, self._node, error))
        else:
            self._until = asked + self._period.total_seconds() if elected else 0.0
        self._tell()

    async def _resign(self) -> None:
        led, self._until = self.leads, 0.0
        self._tell()
        if led:
            try:
                await self._engine.resign(self._lease, self._node)
            except Exception as error:  # noqa: BLE001 - the lease ends by itself
                logger.warning("could not give the lease %s up: %s", self._lease, error)

    def _tell(self) -> None:
        if self._led != self.leads:
            self._led = self.leads
            self._changed(self._led)
            self._telemetry.emit(LeaderChanged(self._led, self._lease, self._node))
