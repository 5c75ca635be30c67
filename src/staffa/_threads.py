"""Threads for plain functions, whose answers come back to an event loop many at a time."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

logger = logging.getLogger("staffa")

MOST = 100_000  # queues bound how many are busy, and a thread is made only where none is idle
IDLE_SECONDS = 60.0


class Stay:
    """How long a call stays in its thread. It does not lead to what was called, which may lead to who holds this."""

    __slots__ = ("_then", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._then: Callable[[], object] | None = None

    def when_ended(self, then: Callable[[], object]) -> None:
        """Call back on the loop when the thread is free again, which it is not yet."""
        self._then = then

    def end(self) -> None:
        self.ended = True
        then, self._then = self._then, None
        if then is not None:
            then()


class Call:
    """A function on its way through a thread. Who awaits `answer` may leave; the thread goes on to `stay`'s end."""

    __slots__ = ("_error", "_ran", "_returns", "_value", "_work", "answer", "stay")

    def __init__(self, work: Callable[[], Any], returns: Returns) -> None:
        self.answer: asyncio.Future[Any] = returns.loop.create_future()
        self.stay = Stay()
        self._work, self._returns = work, returns
        self._ran, self._value = False, None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run in a thread, unless nobody waits any more."""
        if not self.answer.cancelled():
            self._ran = True
            try:
                self._value = self._work()
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                self._error = error
        self.go_back()

    def go_back(self) -> None:
        """Go back to the loop; who never ran has no answer."""
        self._returns.add(self)

    def end(self) -> None:
        """Answer, on the loop."""
        if not self.answer.done():
            if not self._ran:
                self.answer.cancel()
            elif self._error is not None:
                self.answer.set_exception(self._error)
            else:
                self.answer.set_result(self._value)
        self.stay.end()


class Returns:
    """Calls on their way back to one loop: the first wakes it, and all that are there by then go with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Call] = deque()
        self._coming = False

    def add(self, call: Call) -> None:
        self._calls.append(call)
        if not self._coming:
            self._coming = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._coming = False  # first, so that who comes meanwhile is taken along or wakes us again
        while self._calls:
            self._calls.popleft().end()


class Threads:
    """Runs functions in threads, at once while fewer than `most` are busy. Idle ones go after a minute.

    Whoever takes a call while others wait sends for one more thread first, and takes the next if that has not
    come by then: short calls are run by few threads, which do not wait for each other, and none waits for a long one.

    An executor of `concurrent.futures` wakes the loop for each answer and costs about six times as much.
    The threads are daemons: a program that ends does not wait for what still runs.
    """

    def __init__(self, name: str, most: int = MOST) -> None:
        self._name, self._most = name, most
        self._waiting: deque[Call] = deque()
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._made = self._idle = self._named = 0
        self._coming = False  # a thread that was sent for, and looks for calls when it is here
        self._closed = False
        self._returns: Returns | None = None

    def call(self, function: Callable[..., Any], *args: Any) -> Call:
        """Run a function in a thread; to be called on a running event loop, which gets the answer."""
        call = Call(partial(function, *args), self._returns_to(asyncio.get_running_loop()))
        with self._lock:
            if self._closed:
                raise RuntimeError("these threads were dismissed")
            self._waiting.append(call)
        try:
            if not self._coming:
                self._send_for_one()
        except RuntimeError:
            call.answer.cancel()  # else it would run after all, whenever a thread can be made again
            raise
        return call

    def close(self) -> None:
        """Begin nothing more; the idle end now, the busy when they are done."""
        with self._lock:
            self._closed = True
            while call := self._next():
                call.go_back()
            for _ in range(self._idle):
                self._woken.put(None)
            self._idle = 0

    def _returns_to(self, loop: asyncio.AbstractEventLoop) -> Returns:
        returns = self._returns
        if returns is None or returns.loop is not loop:
            returns = self._returns = Returns(loop)
        return returns

    def _send_for_one(self) -> None:
        """Wake an idle thread or make one, where it may be made; the busy look by themselves."""
        with self._lock:
            if self._coming:
                return
            if self._idle:
                self._coming = True
                self._idle -= 1
                self._woken.put(None)
            elif self._made < self._most and not self._closed:
                self._make_one()

    def _make_one(self) -> None:
        name = f"{self._name}_{self._named + 1}"
        self._coming = True
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except RuntimeError as error:
            self._coming = False
            if not self._made:
                raise
            logger.warning("%d threads take turns, as no more can be made: %s", self._made, error)
        else:
            self._made += 1
            self._named += 1

    # In the threads

    def _serve(self) -> None:
        woken = True
        while woken:
            self._coming = False  # first, so that whoever adds a call from now on sends for another one
            while call := self._next():
                if self._waiting and not self._coming:
                    self._send_for_one()
                call.run()
            woken = self._is_woken()

    def _next(self) -> Call | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _is_woken(self) -> bool:
        """Wait until there are calls again; tell whether to go on."""
        with self._lock:
            if self._waiting:
                return True
            if self._closed:
                return False
            self._idle += 1
        try:
            self._woken.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                if self._idle:
                    self._idle -= 1
                    self._made -= 1
                    return False
            self._woken.get()  # as all who are not idle any more were woken
        return True
