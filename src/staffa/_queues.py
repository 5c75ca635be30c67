"""The queues that run on this node: started, stopped and told what to do, each by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

from staffa._kept import kept
from staffa._pauses import EVERY
from staffa._producer import Producer
from staffa._signals import Action, Signal
from staffa.engine import Engine
from staffa.errors import DatabaseError

logger = logging.getLogger("staffa")


class Queues:
    """Producers by queue, and those that are stopping.

    `make` gives a producer for a queue and its limit, paused or not.
    """

    def __init__(self, make: Callable[[str, int, bool], Producer], configured: Iterable[str] = ()) -> None:
        self._make, self._configured = make, frozenset(configured)
        self._running: dict[str, Producer] = {}
        self._leaving: list[Producer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    # Who is here

    @property
    def taking(self) -> frozenset[str]:
        """Name the queues from which jobs are taken now."""
        return frozenset(name for name, producer in self._running.items() if not producer.info.paused)

    def living(self) -> list[str]:
        """Name the producers for which the heart beats."""
        return [each.info.id for each in self._all() if each.registered]

    @property
    def unstopped(self) -> int:
        return sum(producer.unstopped for producer in self._all())

    def _all(self) -> list[Producer]:
        return [*self._running.values(), *self._leaving]

    # Starting and stopping

    def start(self, queue: str, limit: int, *, paused: bool = False) -> None:
        """Run a queue, unless it runs already or everything is being stopped."""
        if queue in self._running or self._closed:
            return
        self._loop = asyncio.get_running_loop()
        producer = self._running[queue] = self._make(queue, limit, paused)
        task = asyncio.create_task(self._run(producer), name=f"queue {queue}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self, queue: str) -> None:
        """Take no more jobs of a queue; those that run get the grace period."""
        if (producer := self._running.pop(queue, None)) is not None:
            self._leaving.append(producer)
            producer.stop()

    async def stop_all(self) -> None:
        """Stop every queue and wait until they have ended."""
        self._closed = True
        for queue in list(self._running):
            self.stop(queue)
        await asyncio.gather(*self._tasks)

    async def cancel(self) -> None:
        """End at once what has not ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def hand_back(self) -> None:
        """Put back the jobs that did not stop; only for a process that exits at once afterwards."""
        for producer in self._all():
            await producer.hand_back_unstoppable()

    async def _run(self, producer: Producer) -> None:
        await kept(f"queue {producer.queue}", producer.run)
        if producer.idle and not self._closed:  # else some of its jobs may still have to be put back
            self._leaving.remove(producer)

    # What is told

    async def poll(self, engine: Engine, interval: timedelta) -> None:
        """Look now and then for jobs that nobody told of, once for all queues without jobs."""
        while True:
            await asyncio.sleep(interval.total_seconds())
            resting = sorted(name for name, producer in self._running.items() if producer.resting)
            if not resting:
                continue
            try:
                for queue in await engine.ready(resting):
                    self.wake(queue)
            except DatabaseError as error:
                logger.debug("nobody could look for jobs: %s", error)

    def wake(self, queue: object = None) -> None:
        """Look for jobs of one queue, or of all."""
        for producer in self._running.values():
            if queue is None or queue == producer.queue:
                producer.wake()

    def wake_from_anywhere(self, queues: Iterable[str]) -> None:
        """Wake those of the queues that run here, from any thread."""
        for queue in queues:
            if (producer := self._running.get(queue)) is not None and self._loop is not None:
                with suppress(RuntimeError):  # the loop has closed meanwhile
                    self._loop.call_soon_threadsafe(producer.wake)

    def expire(self, producer_id: str) -> None:
        for producer in self._all():
            producer.expire(producer_id)

    def obey(self, signal: Signal) -> None:
        """Do what a signal says, as far as it concerns queues that run here."""
        match signal.action:
            case Action.KILL:
                for producer in self._all():
                    producer.kill(signal.job_id, signal.take)
            case Action.START:
                self._start_by(signal)
            case Action.STOP if signal.queue in self._running:
                logger.info("queue %s is stopped", signal.queue)
                self.stop(signal.queue)
            case Action.SCALE if signal.queue in self._running:
                self._running[signal.queue].scale(signal.limit)
            case Action.PAUSE | Action.RESUME if signal.queue in (EVERY, *self._running):
                for queue, producer in self._running.items():
                    if signal.queue in (EVERY, queue):
                        producer.pause(signal.number, paused=signal.action is Action.PAUSE)
            case _:
                logger.debug("queue %s does not run here, so nobody obeys: %s", signal.queue, signal.action)

    def _start_by(self, signal: Signal) -> None:
        """Start a queue; by a signal to everyone, who may be Elixir's, only one of our own."""
        if signal.to_everyone and signal.queue not in self._configured:
            logger.info("queue %s is not started, as it may belong to others", signal.queue)
        elif signal.queue in self._running:
            logger.debug("queue %s runs already", signal.queue)
        else:
            logger.info("queue %s is started with a limit of %d", signal.queue, signal.limit)
            self.start(signal.queue, signal.limit, paused=signal.paused)
