"""Everything that runs while queues run: started together, kept running, stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from staffa._heart import Heart
from staffa._kept import kept
from staffa._peer import Peer
from staffa._processes import InProcesses
from staffa._queues import Queues
from staffa._threads import Threads
from staffa.config import QueueConfig


class Parts:
    """The parts of one instance."""

    def __init__(
        self,
        queues: Queues,
        limits: Mapping[str, QueueConfig],
        peer: Peer,
        heart: Heart,
        duties: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
        *,
        threads: Threads,
        processes: InProcesses,
    ) -> None:
        self.peer = peer
        self._queues, self._limits = queues, limits
        self._heart, self._duties = heart, duties
        self._threads, self._processes = threads, processes
        self._loop = asyncio.get_running_loop()
        self._duty_tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._duty_tasks = [
            asyncio.create_task(kept(name, run), name=name) for name, run in self._duties.items()
        ]
        for name, queue in self._limits.items():
            self._queues.start(name, queue.limit)
        self._heart.start()

    async def stop(self) -> None:
        """Stop queues first; leading, listening and beating go on until they have ended."""
        try:
            await self._queues.stop_all()
        finally:
            await self._processes.close()
            await self._loop.run_in_executor(None, self._heart.stop)
            await self._queues.cancel()
            for task in self._duty_tasks:
                task.cancel()
            await asyncio.gather(*self._duty_tasks, return_exceptions=True)
            self._threads.close()
