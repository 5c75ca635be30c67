"""huey: the best known job queue on SQLite; it deletes a job before it runs."""

from __future__ import annotations

import asyncio
from typing import Any

from huey import SqliteHuey

from bench.peers.adapter import stored
from bench.tally import Tally


def prepare(url: str) -> None:
    _huey(url)


def fill(url: str, jobs: int, seconds: float) -> Any:
    """Store jobs one by one: there is no way in bulk."""
    task = _task(_huey(url), None)

    async def store(size: int) -> None:
        for _ in range(size):
            task()

    return asyncio.run(stored(jobs, seconds, store))  # noqa: TID251 - a program of its own


def work(url: str, tally: str, setting: int) -> None:
    huey = _huey(url)
    _task(huey, Tally(tally))
    huey.create_consumer(workers=setting, periodic=False, initial_delay=0.001, max_delay=0.01).run()


def _task(huey: SqliteHuey, tally: Tally | None) -> Any:
    @huey.task()
    def noop() -> None:
        if tally is not None:
            tally.one()

    return noop


def _huey(url: str) -> SqliteHuey:
    return SqliteHuey(filename=url.removeprefix("sqlite:///"), results=False)
