"""Those who wait for jobs in this process: one thread listens and looks for all of them."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

from staffa._filter import JobFilter
from staffa._job import FINAL, AnyJob
from staffa._watched import named
from staffa.engine import Database
from staffa.errors import DatabaseUnavailable, InstanceError
from staffa.notifier import ENDED, WATCH, Payload, naming

logger = logging.getLogger("staffa")

Waiter = Future[AnyJob | None]

FIRST_LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 5.0
GATHERING_SECONDS = 0.005
LINGERING_SECONDS = 2.0
LISTEN_AGAIN_SECONDS = 1.0


class Waiting:
    """Answers each waiter with its job in a final state, or None where there is no such job.

    While anybody waits, one thread says which jobs are waited for, and listens for those that have ended. As
    notifications are hints, it also looks by itself, ever less often. Each look is for all at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._reset()

    def _reset(self) -> None:
        self._waiters: dict[int, set[Waiter]] = {}
        self._new: set[int] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = self._listens = self._began = False
        self._ended: set[int] = set()

    def add(self, job_id: int) -> Waiter:
        """Wait for a job, from any thread."""
        waiter: Waiter = Future()
        with self._lock:
            if self._pid != os.getpid():  # the thread stayed with the parent
                self._pid = os.getpid()
                self._reset()
            self._waiters.setdefault(job_id, set()).add(waiter)
            self._new.add(job_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="staffa results", daemon=True)
                self._thread.start()
            else:
                self._wake()
        return waiter

    def remove(self, job_id: int, waiter: Waiter) -> None:
        """Wait no longer."""
        with self._lock:
            waiters = self._waiters.get(job_id, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(job_id, None)

    def close(self) -> None:
        """Listen no longer; whoever still waits gets an `InstanceError`."""
        with self._lock:
            thread, self._closing = self._thread, True
            self._wake()
        if thread is not None and self._pid == os.getpid():
            thread.join()
        with self._lock:
            self._closing = False
            for job_id in list(self._waiters):
                self._settle(job_id, None, InstanceError("this Staffa was closed while somebody waited"))

    def _wake(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._news.set)

    # In the thread

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        except Exception as error:
            logger.exception("the thread that waits for results fell")
            self._fall(error)

    def _fall(self, error: Exception) -> None:
        """Tell those who wait; whoever comes next starts another thread."""
        with self._lock:
            if self._thread is threading.current_thread():
                self._thread = self._loop = None
                for job_id in list(self._waiters):
                    self._settle(job_id, None, InstanceError(f"nothing can be waited for here: {error!r}"))

    async def _serve(self) -> None:
        self._news = asyncio.Event()
        self._ended, self._listens, self._began = set(), False, False
        with self._lock:
            self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen())
            try:
                await self._look_on()
            finally:
                listening.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                await self._database.notifier().run(self._heard, channels=(ENDED,))
            except Exception as error:  # noqa: BLE001 - looking goes on without
                logger.warning("listening for results failed, trying again: %s", error)
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def _heard(self, _: str, payload: Payload) -> None:
        if payload:
            self._ended.update(named(payload))
        else:  # listening begins, and anything may have been told before
            self._listens = self._began = True
        self._news.set()

    async def _look_on(self) -> None:
        """Look for what is new or said to have ended, and now and then for all; end when nobody waits."""
        pause = FIRST_LOOK_SECONDS
        next_look = time.monotonic() + pause
        idle_since: float | None = None
        while True:
            now = time.monotonic()
            with self._lock:
                new, self._new = self._new, set()
                waited_for = set(self._waiters)
                idle_since = None if waited_for else idle_since or now
                if self._closing or (idle_since is not None and now - idle_since >= LINGERING_SECONDS):
                    self._thread = self._loop = None
                    return
            if new:
                pause = FIRST_LOOK_SECONDS
                next_look = min(next_look, now + pause)
            if self._began or now >= next_look:
                self._began = False
                new = waited_for
                pause, next_look = min(1.5 * pause, LONGEST_LOOK_SECONDS), now + pause
            ended, self._ended = self._ended, set()
            await self._look((new | ended) & waited_for, new & waited_for)
            await self._rest(next_look if waited_for else now + LINGERING_SECONDS)

    async def _rest(self, until: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                await self._news.wait()
                await asyncio.sleep(GATHERING_SECONDS)  # one look for all who come or end together
        self._news.clear()

    async def _look(self, ids: set[int], watch: set[int]) -> None:
        """Tell workers who is waited for, then look: whatever ends from then on is told."""
        if not ids:
            return
        engine = self._database.engine
        try:
            if watch and self._listens:
                await engine.tell(WATCH, naming(watch))
            states = await engine.states(sorted(ids))
            final = [job_id for job_id, state in states.items() if state in FINAL]
            found = await engine.jobs(JobFilter(ids=final)) if final else []
        except DatabaseUnavailable as error:
            logger.debug("who waits for results waits for the database: %s", error)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            self._settle_all(ids, error)
        else:
            for job in found:
                if job.id is not None and job.state in FINAL:
                    self._settle_all([job.id], job)
            self._settle_all(ids - states.keys(), None)

    def _settle_all(self, ids: Iterable[int], answer: AnyJob | Exception | None) -> None:
        with self._lock:
            for job_id in ids:
                if isinstance(answer, Exception):
                    self._settle(job_id, None, answer)
                else:
                    self._settle(job_id, answer)

    def _settle(self, job_id: int, job: AnyJob | None, error: Exception | None = None) -> None:
        for waiter in self._waiters.pop(job_id, ()):
            if not waiter.set_running_or_notify_cancel():
                continue
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(job)
