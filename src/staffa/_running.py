"""A running attempt, as those see it who stop it, hear how far it is, or wait for its thread."""

from __future__ import annotations

from enum import Enum
from typing import Any

from staffa._threads import Stay

LONGEST_NOTE = 500
LONGEST_COUNT_BITS = 63


class Stop(Enum):
    """Why an attempt is being stopped."""

    CANCELLED = "its job was cancelled"
    SHUTDOWN = "the worker shuts down"
    LOST = "its job is no longer this worker's"


class Running:
    """A running attempt: what stops it, what it tells, and the thread it may keep busy."""

    __slots__ = ("heeded", "stopped", "thread", "told")

    def __init__(self) -> None:
        self.stopped: Stop | None = None
        self.heeded = False
        self.told: dict[str, Any] | None = None
        self.thread: Stay | None = None

    @property
    def cancelled(self) -> bool:
        """Whether to stop. Who asks and hears yes is taken to have stopped half way, whatever it answers then."""
        self.heeded = self.heeded or self.stopped is not None
        return self.stopped is not None

    def progress(self, current: int, total: int | None, note: str | None) -> None:
        for count in (current, total):
            if count is not None and int(count).bit_length() > LONGEST_COUNT_BITS:
                raise ValueError("progress counts must fit 64 bits")
        text = (
            None
            if note is None
            else str(note)[:LONGEST_NOTE].replace("\0", "").encode("utf-8", "replace").decode()
        )
        self.told = {"current": int(current), "total": None if total is None else int(total), "note": text}
