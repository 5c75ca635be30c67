"""chancy: a job queue on PostgreSQL that updates its jobs in batches, once a second."""

from __future__ import annotations

import asyncio
from typing import Any

from chancy import Chancy, Queue, Worker, job

from bench.peers.adapter import stored
from bench.tally import Tally

QUEUE = "bench"
counted: Tally | None = None


@job(queue=QUEUE)
async def noop() -> None:
    if counted is not None:
        counted.one()


def prepare(url: str) -> None:
    async def make() -> None:
        async with Chancy(url) as chancy:
            await chancy.migrate()

    _run(make())


def fill(url: str, jobs: int, seconds: float) -> Any:
    async def insert() -> Any:
        async with Chancy(url) as chancy:

            async def store(size: int) -> None:
                async for _ in chancy.push_many([noop.job] * size):
                    pass

            return await stored(jobs, seconds, store)

    return _run(insert())


def work(url: str, tally: str, setting: int) -> None:
    global counted  # noqa: PLW0603 - jobs are found by their name
    counted = Tally(tally)

    async def run() -> None:
        async with Chancy(url) as chancy:
            await chancy.declare(
                Queue(
                    QUEUE,
                    concurrency=setting,
                    executor=Chancy.Executor.Async,
                    polling_interval=1,
                    eager_polling=True,
                ),
                upsert=True,
            )
            async with Worker(chancy) as worker:
                await worker.wait_for_shutdown()

    _run(run())


def _run(coroutine: Any) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(coroutine)
