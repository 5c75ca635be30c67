"""When a plugin ticks, and whether it may."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import timedelta

from staffa._backoff import lengthened
from staffa._peer import Peer
from staffa.engine import Engine
from staffa.errors import DatabaseUnavailable
from staffa.plugin import Plugin, Report
from staffa.telemetry import PluginFailed, PluginStarted, PluginTicked, Telemetry

logger = logging.getLogger("staffa")

LEAST_PAUSE = timedelta(seconds=0.02)
PAUSES_PER_TICK = 2


class Repeated:
    """A plugin that ticks at every interval, or sooner if it asked for that or is woken; it survives its errors.

    Where a plugin asks for it, the leader alone ticks.
    """

    def __init__(self, plugin: Plugin, *, engine: Engine, peer: Peer, telemetry: Telemetry) -> None:
        self.plugin, self._name = plugin, type(plugin).__name__
        self._engine, self._peer, self._telemetry = engine, peer, telemetry
        self._woken = asyncio.Event()
        self._took = timedelta(0)

    def wake(self) -> None:
        """Tick now, or a moment after the last tick."""
        self._woken.set()

    async def run(self) -> None:
        self._telemetry.emit(PluginStarted(self._name, self.plugin.interval))
        while True:
            began = time.monotonic()
            pause = lengthened(self.plugin.interval)
            again_in = None
            if self._peer.leads or not self.plugin.leader_only:
                again_in = await self._tick(began)
            least = self._least_pause(_since(began))
            if again_in is not None:
                pause = min(pause, max(again_in, least) if again_in else again_in)
            await self._rest(min(least, pause), pause)

    async def _tick(self, began: float) -> timedelta | None:
        """Tick once; return how soon the plugin asks to tick again, if it does."""
        try:
            report = await self.plugin.tick(self._engine)
        except DatabaseUnavailable as error:
            logger.warning("%s waits for the database: %s", self._name, error)
            self._telemetry.emit(PluginFailed(self._name, _since(began), error))
        except Exception as error:
            logger.exception("%s failed; it ticks again in %s", self._name, self.plugin.interval)
            self._telemetry.emit(PluginFailed(self._name, _since(began), error))
        else:
            self._telemetry.emit(PluginTicked(self._name, _since(began), report))
            return report.again_in if isinstance(report, Report) else None
        return None

    def _least_pause(self, took: timedelta) -> timedelta:
        """Leave the database alone for longer than ticks use it; one that was slow by chance does not count."""
        usual, self._took = min(took, self._took), took
        return max(LEAST_PAUSE, PAUSES_PER_TICK * usual)

    async def _rest(self, least: timedelta, most: timedelta) -> None:
        """Wait until it is time or somebody wakes us, who may have to wait a little: one tick is for all who do."""
        await asyncio.sleep(least.total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout((most - least).total_seconds()):
                await self._woken.wait()
        self._woken.clear()


def _since(began: float) -> timedelta:
    return timedelta(seconds=time.monotonic() - began)
