"""oban: the official Python port of Oban, on the same table as Staffa."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from oban import Job, Oban, worker
from oban.schema import install

from bench.peers.adapter import stored
from bench.tally import Tally

counted: Tally | None = None


@worker(queue="bench")
class Noop:
    async def process(self, job: Job) -> None:  # noqa: ARG002 - a worker gets its job
        if counted is not None:
            counted.one()


def prepare(url: str) -> None:
    async def make() -> None:
        pool = await Oban.create_pool(url)
        await install(pool)
        await pool.close()

    _run(make())


def fill(url: str, jobs: int, seconds: float) -> Any:
    async def insert() -> Any:
        pool = await Oban.create_pool(url)
        oban = Oban(pool=pool)

        async def store(size: int) -> None:
            await oban.enqueue_many(Noop.new({}) for _ in range(size))  # type: ignore[attr-defined]

        found = await stored(jobs, seconds, store)
        await pool.close()
        return found

    return _run(insert())


def work(url: str, tally: str, setting: int) -> None:
    global counted  # noqa: PLW0603 - workers are found by their name
    counted = Tally(tally)

    async def run() -> None:
        async with Oban(pool=await Oban.create_pool(url), queues={"bench": setting}):
            await asyncio.Event().wait()

    _run(run())


def _run(coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
