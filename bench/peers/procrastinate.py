"""procrastinate: the most used job queue on PostgreSQL alone."""

from __future__ import annotations

import asyncio
from typing import Any

from procrastinate import App, PsycopgConnector

from bench.peers.adapter import stored
from bench.tally import Tally

POOL = 20


def prepare(url: str) -> None:
    async def make() -> None:
        async with App(connector=PsycopgConnector(conninfo=url)).open_async() as app:
            await app.schema_manager.apply_schema_async()

    _run(make())


def fill(url: str, jobs: int, seconds: float) -> Any:
    async def insert() -> Any:
        async with App(connector=PsycopgConnector(conninfo=url)).open_async() as app:
            task = _task(app, None)

            async def store(size: int) -> None:
                await task.batch_defer_async(*[{}] * size)

            return await stored(jobs, seconds, store)

    return _run(insert())


def work(url: str, tally: str, setting: int) -> None:
    async def run() -> None:
        connector = PsycopgConnector(conninfo=url, min_size=POOL, max_size=POOL)
        async with App(connector=connector).open_async() as app:
            _task(app, Tally(tally))
            await app.run_worker_async(concurrency=setting)

    _run(run())


def _task(app: App, tally: Tally | None) -> Any:
    @app.task(name="noop")
    async def noop() -> None:
        if tally is not None:
            tally.one()

    return noop


def _run(coroutine: Any) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(coroutine)
