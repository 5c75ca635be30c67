"""How long the disk takes for a small write: alone, and watched while something else is measured."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import BinaryIO

SYNCS = 100
PAGE = bytes(8192)
PAUSE_SECONDS = 0.02
STALL_SECONDS = 0.02


@dataclass
class Syncs:
    """When each write began and ended, in seconds of the monotonic clock."""

    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        return max((ended - began for began, ended in self.spans), default=0.0)

    def stalled(self, since: float, until: float) -> bool:
        """Tell whether a write that took more than 20 ms was under way within a time."""
        return any(
            began < until and ended > since for began, ended in self.spans if ended - began > STALL_SECONDS
        )


@contextmanager
def watched(folder: Path) -> Iterator[Syncs]:
    """Write a page and have it synced to the disk again and again, in a thread, as long as this lasts."""
    syncs = Syncs()
    done = threading.Event()

    def watch() -> None:
        with (folder / "watched-disk").open("wb", buffering=0) as file:
            while not done.wait(PAUSE_SECONDS):
                file.seek(0)
                syncs.spans.append(_synced(file))

    thread = threading.Thread(target=watch, name="watched-disk")
    thread.start()
    try:
        yield syncs
    finally:
        done.set()
        thread.join()


def usual(folder: Path) -> float:
    """Give the median of the seconds that it takes to write a page for good."""
    with (folder / "sync").open("wb", buffering=0) as file:
        return median(ended - began for began, ended in (_synced(file) for _ in range(SYNCS)))


def _synced(file: BinaryIO) -> tuple[float, float]:
    """Write a page for good; tell when that began and ended."""
    began = time.monotonic()
    file.write(PAGE)
    os.fdatasync(file.fileno())
    return began, time.monotonic()
