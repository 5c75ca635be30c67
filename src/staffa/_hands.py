"""Where plain functions run."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from staffa._running import Running


class Hands(Protocol):
    """Where plain functions run."""

    async def call(self, running: Running, function: Callable[..., Any], *args: Any) -> Any: ...


class InThisThread:
    """Plain functions run where they are called; nothing waits."""

    async def call(self, running: Running, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ARG002 - a Hands
        return function(*args)


class InThreads:
    """Plain functions run in threads of a pool; a running attempt remembers the one it keeps busy."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    async def call(self, running: Running, function: Callable[..., Any], *args: Any) -> Any:
        context = contextvars.copy_context()
        thread = self._pool.submit(context.run, _failing_alone, function, *args)
        if running.thread is None or running.thread.done():  # a hook must not hide a thread that still runs
            running.thread = thread
        return await asyncio.wrap_future(thread)


def _failing_alone(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a thread, where what would end a generator, a loop or the process is but its own failure."""
    try:
        return function(*args)
    except (StopIteration, GeneratorExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"perform raised {type(error).__name__}") from error
