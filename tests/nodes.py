"""Instances whose times are short, and ways to wait for what they do."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from staffa import Job, Lifeline, Staffa, Stager
from staffa.errors import DatabaseUnavailable

BEAT = timedelta(seconds=0.1)
SILENCE = timedelta(seconds=0.8)
FINAL = {"completed", "discarded", "cancelled"}


async def eventually(check: Callable[[], Any], what: str = "", *, within: float = 20) -> None:
    """Wait until a check, awaited or not, is true; fail when it never is."""
    deadline = time.monotonic() + within
    while True:
        answer = check()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < deadline, what or f"never became true: {inspect.getsource(check).strip()}"
        await asyncio.sleep(0.01)


async def finished(staffa: Staffa, jobs: Sequence[Job], *, within: float = 20) -> list[Job]:
    """Wait until jobs are finished; give them as they became, in order."""
    ids = [job.id for job in jobs if job.id is not None]
    found: list[Job] = []

    async def all_finished() -> bool:
        try:
            listed = await staffa.ajobs(ids=ids, limit=len(ids))
        except DatabaseUnavailable:  # a test may have cut it
            return False
        found[:] = sorted(listed, key=lambda job: job.id or 0)
        return len(found) == len(ids) and all(job.state in FINAL for job in found)

    await eventually(all_finished, f"unfinished: {found}", within=within)
    return found


def quick(url: str, **options: Any) -> Staffa:
    """Make an instance whose times are short."""
    given = {
        "queues": {"default": 10},
        "heartbeat": BEAT,
        "poll": timedelta(seconds=0.2),
        "grace": timedelta(seconds=5),
        "plugins": [
            Stager(interval=timedelta(seconds=0.1)),
            Lifeline(interval=timedelta(seconds=0.1), silence=SILENCE),
        ],
        **options,
    }
    return Staffa(url, **given)


class OtherNode:
    """An instance on an event loop of its own, in another thread: it lives while ours is blocked."""

    def __init__(self, instance: Staffa) -> None:
        self._instance = instance
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        async def live() -> None:
            async with self._instance:
                self._ready.set()
                while not self._stop.is_set():
                    await asyncio.sleep(0.02)

        asyncio.run(live())

    def __enter__(self) -> Staffa:
        self._thread.start()
        assert self._ready.wait(10)
        return self._instance

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        self._instance.close()


def is_idle(staffa: Staffa) -> bool:
    """Tell whether nothing runs here, and all outcomes are handed in."""
    return all(producer.idle for producer in staffa._queues._all())
