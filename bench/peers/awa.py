"""awa: a job queue on PostgreSQL, written in Rust, with handlers in Python."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from awa import AsyncClient

from bench.peers.adapter import stored
from bench.tally import Tally

QUEUE = "bench"


@dataclass
class Noop:
    number: int = 0


def prepare(url: str) -> None:
    async def make() -> None:
        async with _client(url) as client:
            await client.migrate()
            await client.install_queue_storage()

    _run(make())


def fill(url: str, jobs: int, seconds: float) -> Any:
    async def insert() -> Any:
        async with _client(url) as client:

            async def store(size: int) -> None:
                await client.enqueue_many_copy([Noop()] * size, queue=QUEUE)

            return await stored(jobs, seconds, store)

    return _run(insert())


def work(url: str, tally: str, setting: int) -> None:
    counted = Tally(tally)

    async def run() -> None:
        client = _client(url)

        @client.task(Noop, queue=QUEUE)
        async def noop(job: Any) -> None:  # noqa: ARG001 - a handler gets its job
            counted.one()

        await client.start([(QUEUE, setting)])
        await asyncio.Event().wait()

    _run(run())


def _client(url: str) -> AsyncClient:
    """Name a host, which its URLs need although a socket is named too."""
    return AsyncClient(url.replace("@/", "@localhost/"))


def _run(coroutine: Any) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(coroutine)
