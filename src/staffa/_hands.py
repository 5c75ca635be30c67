"""Where plain functions run, and how workers are run elsewhere."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from staffa._job import AnyJob
from staffa._running import Running
from staffa._threads import Threads
from staffa.worker import Worker


class ReadyProcess(Protocol):
    """A process that waits for one job."""

    async def perform(self, running: Running, worker: type[Worker], job: AnyJob) -> Any: ...


class Apart(Protocol):
    """Where workers run that asked for a process."""

    def process(self, running: Running) -> AbstractAsyncContextManager[ReadyProcess]: ...


class Hands(Protocol):
    """Where plain functions run, and workers that asked for a process: here too, where `apart` is None."""

    @property
    def apart(self) -> Apart | None: ...

    async def call(self, running: Running, function: Callable[..., Any], *args: Any) -> Any: ...


class RaisedApart(Exception):
    """Carries what a worker raised in another process, with the traceback it had there."""

    def __init__(self, error: BaseException, text: str) -> None:
        super().__init__(text)
        self.error, self.text = error, text
        error.__cause__ = error.__cause__ or self


class InThisThread:
    """Plain functions run where they are called; nothing waits."""

    apart = None

    async def call(self, running: Running, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ARG002 - a Hands
        return function(*args)


class InThreads:
    """Plain functions run in threads; a running attempt remembers the one it keeps busy."""

    def __init__(self, threads: Threads, apart: Apart | None = None) -> None:
        self._threads, self.apart = threads, apart

    async def call(self, running: Running, function: Callable[..., Any], *args: Any) -> Any:
        call = self._threads.call(contextvars.copy_context().run, _failing_alone, function, *args)
        if running.thread is None or running.thread.ended:  # a hook must not hide a thread that still runs
            running.thread = call.stay
        return await call.answer


def _failing_alone(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a thread, where what would end a generator, a loop or the process is but its own failure."""
    try:
        return function(*args)
    except (StopIteration, GeneratorExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"perform raised {type(error).__name__}") from error
