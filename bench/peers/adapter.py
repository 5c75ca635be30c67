"""What adapters share: storing jobs in chunks until there are enough, or the time is up.

Only the standard library is imported here, since every peer's environment has to have it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

CHUNK = 1_000


def chunks(jobs: int, seconds: float) -> Iterator[int]:
    """Give sizes of chunks until so many jobs are stored, or the time is up."""
    ends = time.monotonic() + seconds
    for first in range(0, jobs, CHUNK):
        if time.monotonic() > ends:
            return
        yield min(CHUNK, jobs - first)


async def stored(jobs: int, seconds: float, store: Callable[[int], Awaitable[Any]]) -> dict[str, float]:
    """Store jobs in chunks; tell how many, and how long it took."""
    count, began = 0, time.monotonic()
    for size in chunks(jobs, seconds):
        await store(size)
        count += size
    return {"stored": count, "seconds": time.monotonic() - began}
