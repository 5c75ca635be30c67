"""pgqueuer: the fastest of the peers on PostgreSQL; it deletes its jobs when they are done."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers.adapter import stored
from bench.tally import Tally


def prepare(url: str) -> None:
    async def install() -> None:
        connection = await asyncpg.connect(url)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    _run(install())


def fill(url: str, jobs: int, seconds: float) -> Any:
    async def insert() -> Any:
        connection = await asyncpg.connect(url)
        queries = Queries(AsyncpgDriver(connection))

        async def store(size: int) -> None:
            await queries.enqueue(["noop"] * size, [b"{}"] * size, [0] * size)

        found = await stored(jobs, seconds, store)
        await connection.close()
        return found

    return _run(insert())


def work(url: str, tally: str, setting: int) -> None:
    async def run() -> None:
        counted = Tally(tally)
        queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

        @queuer.entrypoint("noop")
        async def noop(job: Job) -> None:  # noqa: ARG001 - an entrypoint gets its job
            counted.one()

        await queuer.run(batch_size=setting)

    _run(run())


def _run(coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
