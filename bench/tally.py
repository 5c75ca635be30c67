"""What jobs leave behind for whoever measures from another process: how many began, and when each did.

Only the standard library is imported here, since jobs of other systems use it in environments of their own.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path

WORD = 8
BEGAN, FIRST, SLOTS = range(3)


class Tally:
    """A small file that is mapped into memory by the process that works and by the one that looks."""

    def __init__(self, path: str | Path, slots: int = 0) -> None:
        self.path = Path(path)
        if not self.path.exists():
            self.path.write_bytes(bytes(WORD * (SLOTS + slots)))
        with self.path.open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def one(self) -> None:
        """Count a job that begins."""
        words = self._words
        if not words[BEGAN]:
            words[FIRST] = time.monotonic_ns()
        words[BEGAN] += 1

    def mark(self, slot: int) -> None:
        """Count a job that begins, and note when."""
        self._words[SLOTS + slot] = time.monotonic_ns()
        self.one()

    @property
    def began(self) -> int:
        """Jobs that began."""
        return self._words[BEGAN]

    @property
    def first(self) -> float:
        """When the first began, in seconds of the monotonic clock, which all processes of a machine share."""
        return self._words[FIRST] / 1e9

    def marked(self, slot: int) -> float | None:
        """When a job began; None where it has not."""
        return self._words[SLOTS + slot] / 1e9 or None
