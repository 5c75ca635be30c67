"""When a plugin ticks, and whether it may."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

from staffa._backoff import lengthened
from staffa._peer import Peer
from staffa.engine import Engine
from staffa.errors import DatabaseUnavailable
from staffa.plugin import Plugin
from staffa.telemetry import PluginFailed, PluginStarted, PluginTicked, Telemetry

logger = logging.getLogger("staffa")


async def repeat(plugin: Plugin, *, engine: Engine, peer: Peer, telemetry: Telemetry) -> None:
    """Tick at every interval, on the leader alone where a plugin asks for it; survive its errors."""
    name = type(plugin).__name__
    telemetry.emit(PluginStarted(name, plugin.interval))
    while True:
        if peer.leads or not plugin.leader_only:
            began = time.monotonic()
            try:
                report = await plugin.tick(engine)
            except DatabaseUnavailable as error:
                logger.warning("%s waits for the database: %s", name, error)
                telemetry.emit(PluginFailed(name, _since(began), error))
            except Exception as error:
                logger.exception("%s failed; it ticks again in %s", name, plugin.interval)
                telemetry.emit(PluginFailed(name, _since(began), error))
            else:
                telemetry.emit(PluginTicked(name, _since(began), report))
        await asyncio.sleep(lengthened(plugin.interval).total_seconds())


def _since(began: float) -> timedelta:
    return timedelta(seconds=time.monotonic() - began)
