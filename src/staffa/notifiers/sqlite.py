"""Hints across processes: a file that changes, and the notices in it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from staffa.engines._sqlite_writer import News, Writer
from staffa.notifier import CHANNELS, INSERT, Heard, begin, read_payload
from staffa.notifiers.local import LocalNotifier
from staffa.telemetry import NotificationMalformed, NotifierListening, Telemetry

logger = logging.getLogger("staffa")


class SqliteNotifier:
    """Passes on what this process tells, and what others do while anybody listens."""

    def __init__(
        self, local: LocalNotifier, writer: Writer, telemetry: Telemetry, make_tables: Callable[[], None]
    ) -> None:
        self._local, self._writer, self._telemetry = local, writer, telemetry
        self._make_tables = make_tables
        self._lock = threading.Lock()  # listeners may live on several event loops
        self._listeners = 0
        self._watched: Future[Any] | None = None

    async def run(self, heard: Heard, *, channels: Sequence[str] = CHANNELS) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._make_tables)
        with self._local.listening(heard, channels), self._watching() as watched:
            await asyncio.shield(asyncio.wrap_future(watched))
            self._telemetry.emit(NotifierListening())
            begin(heard, channels)
            await asyncio.get_running_loop().create_future()

    @contextmanager
    def _watching(self) -> Iterator[Future[Any]]:
        """Let the file be watched until the last listener has gone."""
        with self._lock:
            self._listeners += 1
            if self._watched is None or (self._watched.done() and self._watched.exception() is not None):
                self._watched = self._writer.watch(self._hear)
            watched = self._watched
        try:
            yield watched
        finally:
            with self._lock:
                self._listeners -= 1
                if self._listeners == 0:
                    self._watched = None
                    self._writer.look_away()

    def _hear(self, news: News) -> None:
        """Pass on what was told; nobody elsewhere tells of inserts, so any queue may have jobs."""
        if news.from_elsewhere:
            self._local.tell(INSERT, [{}])
        for notice in news.notices:
            payload = read_payload(notice.text)
            if payload is None:
                logger.warning("a malformed notice on %s was ignored", notice.channel)
                self._telemetry.emit(NotificationMalformed(notice.channel, notice.text))
            else:
                self._local.tell(notice.channel, [payload])
