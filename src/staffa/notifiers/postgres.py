"""Hints across processes by LISTEN and NOTIFY, on Oban's channels."""

from __future__ import annotations

import asyncio
import base64
import binascii
import gzip
import logging
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg

from staffa._backoff import reconnect_delay
from staffa.notifier import CHANNELS, Heard, Payload, begin, read_payload
from staffa.telemetry import NotificationMalformed, NotifierListening, NotifierLost, Telemetry

logger = logging.getLogger("staffa")

PING_SECONDS = 30.0


class PostgresNotifier:
    """Listens on a connection of its own, opened again whenever it is lost."""

    def __init__(
        self, url: str, schema: str, options: dict[str, Any], telemetry: Telemetry | None = None
    ) -> None:
        self._url, self._schema, self._options = url, schema, options
        self._telemetry = telemetry or Telemetry()

    async def run(self, heard: Heard, *, channels: Sequence[str] = CHANNELS) -> None:
        failures = 0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._url, **self._options) as connection:
                    connection.add_notify_handler(
                        lambda told: self._pass_on(told.channel, told.payload, heard)
                    )
                    await self._listen(connection, channels)
                    self._telemetry.emit(NotifierListening())
                    begin(heard, channels)
                    failures = 0
                    await self._hear(connection, heard)
            except (psycopg.Error, OSError) as error:
                failures += 1
                logger.log(
                    logging.WARNING if failures == 1 else logging.DEBUG,
                    "listening for notifications failed, trying again: %s",
                    str(error).strip(),
                )
                if failures == 1:
                    self._telemetry.emit(NotifierLost(error))
                await asyncio.sleep(reconnect_delay(failures).total_seconds())

    async def _listen(self, connection: psycopg.AsyncConnection[Any], channels: Sequence[str]) -> None:
        for channel in channels:
            name = f"{self._schema}.oban_{channel}".replace('"', '""')
            await connection.execute(f'listen "{name}"'.encode())

    async def _hear(self, connection: psycopg.AsyncConnection[Any], heard: Heard) -> None:
        """Pass on what comes; ask the server for a sign of life where nothing does.

        The driver's own way of waiting for notifications looks ten times a second, which a machine at rest feels.
        """
        loop, pgconn, socket = asyncio.get_running_loop(), connection.pgconn, connection.pgconn.socket
        encoding, lost = connection.info.encoding, asyncio.Event()

        def hear() -> None:
            try:
                pgconn.consume_input()
            except psycopg.Error:
                loop.remove_reader(socket)
                lost.set()
                return
            while told := pgconn.notifies():
                channel, payload = (each.decode(encoding, "replace") for each in (told.relname, told.extra))
                self._pass_on(channel, payload, heard)

        while True:
            loop.add_reader(socket, hear)
            loop.call_soon(hear)  # what came with an answer of the server wakes nobody
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PING_SECONDS):
                        await lost.wait()
            finally:
                loop.remove_reader(socket)
            await connection.execute("select 1")  # or raise what befell it

    def _pass_on(self, name: str, text: str, heard: Heard) -> None:
        payload = decoded(text)
        if payload is None:
            logger.warning("a malformed notification on %s was ignored", name)
            self._telemetry.emit(NotificationMalformed(name, text))
        else:
            heard(name.rpartition(".oban_")[2], payload)


def decoded(text: str) -> Payload | None:
    """Read a payload in any of Oban's three forms: JSON, `Z:` and gzip in base64, gzip in base64. None: neither."""
    with suppress(ValueError, binascii.Error, OSError, EOFError, zlib.error):
        if text.startswith(("Z:", "H4sI")):
            text = gzip.decompress(base64.b64decode(text.removeprefix("Z:"))).decode()
        return read_payload(text)
    return None
