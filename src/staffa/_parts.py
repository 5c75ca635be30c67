"""Everything that runs while queues run: started together, kept running, stopped in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from staffa._heart import Heart
from staffa._peer import Peer
from staffa._processes import InProcesses
from staffa._producer import Producer

logger = logging.getLogger("staffa")

RESTART_SECONDS = 1.0


class Parts:
    """The parts of one instance."""

    def __init__(
        self,
        producers: Mapping[str, Producer],
        peer: Peer,
        heart: Heart,
        duties: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
        *,
        threads: ThreadPoolExecutor,
        processes: InProcesses,
    ) -> None:
        self.peer = peer
        self._producers, self._heart, self._duties = producers, heart, duties
        self._threads, self._processes = threads, processes
        self._loop = asyncio.get_running_loop()
        self._queue_tasks: list[asyncio.Task[None]] = []
        self._duty_tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._duty_tasks = [
            asyncio.create_task(_kept(name, run), name=name) for name, run in self._duties.items()
        ]
        self._queue_tasks = [
            asyncio.create_task(_kept(name, producer.run), name=f"queue {name}")
            for name, producer in self._producers.items()
        ]
        self._heart.start()

    async def stop(self) -> None:
        """Stop queues first; leading, listening and beating go on until they have ended."""
        for producer in self._producers.values():
            producer.stop()
        try:
            await asyncio.gather(*self._queue_tasks)
        finally:
            await self._processes.close()
            await self._loop.run_in_executor(None, self._heart.stop)
            for task in (*self._duty_tasks, *self._queue_tasks):
                task.cancel()
            await asyncio.gather(*self._duty_tasks, *self._queue_tasks, return_exceptions=True)
            self._threads.shutdown(wait=False, cancel_futures=True)

    def wake(self, queues: Iterable[str]) -> None:
        """Wake those of the queues that run here, from any thread."""
        for queue in queues:
            if queue in self._producers:
                with suppress(RuntimeError):  # the loop has closed meanwhile
                    self._loop.call_soon_threadsafe(self._producers[queue].wake)


async def _kept(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a part to its end, again if it falls."""
    while True:
        try:
            await run()
        except Exception:
            logger.exception("%s fell and is started again", name)
            await asyncio.sleep(RESTART_SECONDS)
        else:
            return
