"""Where plain code calls awaited code that has nothing to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from staffa.errors import InsideEventLoop

T = TypeVar("T")


class WouldWait(RuntimeError):
    """A coroutine that was to end at its first step has something to wait for."""


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits: it ends at its first step. Raises `WouldWait`."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    coroutine.close()
    raise WouldWait("this coroutine waits; it cannot be run without an event loop")


def refuse_inside_loop(called: str, instead: str) -> None:
    """Raise `InsideEventLoop` where a blocking call would stop the running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise InsideEventLoop(f"{called} blocks, and this thread runs an event loop: use `await {instead}` here")
