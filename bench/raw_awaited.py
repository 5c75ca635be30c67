"""The raw loops laid out as Staffa is: awaited, and heard by another process than the one that stores."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import psycopg

from bench.raw_postgres import CHANNEL, INSERT_ONE, lean, lean_values, one
from bench.tally import Tally
from staffa.engines._sql.rows import fenced
from staffa.engines.postgres import CONNECTION_OPTIONS

MOST = 10
EXCHANGE = lean("id", "bigint")

Connection = psycopg.AsyncConnection[Any]


async def connected(url: str) -> Connection:
    return await psycopg.AsyncConnection.connect(url, **CONNECTION_OPTIONS)


async def insert(connection: Connection, **args: Any) -> None:
    """Store one job and wake listeners."""
    await (await connection.execute(INSERT_ONE, one(**args))).fetchone()


async def listen(url: str, tally: Tally) -> None:
    """Take the jobs that are told of and note when each began, for ever."""
    async with await connected(url) as listening, await connected(url) as taking:
        await listening.execute(f'listen "{CHANNEL}"'.encode())
        await _take(taking, tally)
        async for _ in listening.notifies():
            await _take(taking, tally)


async def _take(connection: Connection, tally: Tally) -> None:
    rows = await (await connection.execute(EXCHANGE, lean_values([], [], MOST))).fetchall()
    for *_, args in rows:
        tally.mark(args["slot"])
    ids, fences = [row[0] for row in rows], [fenced(row[0], row[1]) for row in rows]
    await connection.execute(EXCHANGE, lean_values(ids, fences, 0))


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        runner.run(listen(sys.argv[1], Tally(sys.argv[2])))
