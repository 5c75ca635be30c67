"""A thread that shows the database that this process lives, whatever its event loop does."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

from staffa._bridge import at_once
from staffa.engine import Database, Engine
from staffa.telemetry import EngineCalled, LoopStuck, Telemetry

logger = logging.getLogger("staffa")

LAST_BEAT_SECONDS = 1.0


class Heart:
    """Beats for producers from a thread and a connection of its own, and listens to the event loop."""

    def __init__(
        self,
        database: Database,
        *,
        telemetry: Telemetry,
        producers: Callable[[], Sequence[str]],
        expired: Callable[[str], None],
        interval: timedelta,
        stuck_after: timedelta,
    ) -> None:
        self._database, self._telemetry = database, telemetry
        self._producers, self._expired = producers, expired
        self._interval, self._stuck_after = interval.total_seconds(), stuck_after.total_seconds()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answered = 0.0
        self._away = False
        self._reported = self._telling = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._answered = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="staffa heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; waits a moment for a beat under way, so that it does not open the database again."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(LAST_BEAT_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._database.alone() as engine:
                    self._beat_on(engine)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, try again
                # one line for each outage: the queues go on saying that they wait
                logger.log(
                    logging.DEBUG if self._away else logging.WARNING,
                    "the heartbeat could not reach the database: %s",
                    error,
                )
                self._away = True
                self._listen()
                self._stopped.wait(min(self._interval, 1.0))

    def _beat_on(self, engine: Engine) -> None:
        while not self._stopped.is_set():
            producers = list(self._producers())
            if producers:
                living = set(self._beat(engine, producers))
                self._reached()
                for lost in set(producers) - living:
                    self._call(partial(self._expired, lost))
            self._listen()
            self._stopped.wait(self._interval)

    def _beat(self, engine: Engine, producers: list[str]) -> list[str]:
        """Beat once; whoever listens hears of it on the event loop, where it holds up no heart."""
        began = time.monotonic()
        living = at_once(engine.beat(producers))
        if not self._telling and self._telemetry.hears(EngineCalled):
            self._telling = True  # one at a time: on a slow loop they would gather
            took = timedelta(seconds=time.monotonic() - began)
            self._call(partial(self._tell, EngineCalled("beat", took, len(producers), len(living), None)))
        return living

    def _tell(self, event: EngineCalled) -> None:
        self._telemetry.emit(event)
        self._telling = False

    def _reached(self) -> None:
        if self._away:
            logger.info("the heartbeat reaches the database again")
            self._away = False

    def _listen(self) -> None:
        """Ask the event loop for a sign of life, and report it once when it has been silent for too long."""
        silent = time.monotonic() - self._answered
        if silent < self._stuck_after:
            self._reported = False
        elif not self._reported:
            self._reported = True
            self._report(silent)
        self._call(self._answer)

    def _answer(self) -> None:
        self._answered = time.monotonic()

    def _report(self, silent: float) -> None:
        stacks = _stacks()
        logger.error("the event loop has not answered for %.0f s; all threads:\n%s", silent, stacks)
        told = LoopStuck(timedelta(seconds=silent), stacks)
        # From a thread of its own: the loop does not answer, and a listener must not hold up a heartbeat.
        threading.Thread(target=self._telemetry.emit, args=[told], name="staffa stuck", daemon=True).start()

    def _call(self, function: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function)


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - the documented way to see all threads
    )
