"""dbos: durable workflows on PostgreSQL; a job is a workflow without steps."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient, EnqueueOptions

from bench.peers.adapter import stored
from bench.tally import Tally

QUEUE = "bench"
POLLING_SECONDS = 0.05
counted: Tally | None = None


@DBOS.workflow(name="noop")
async def noop() -> None:
    if counted is not None:
        counted.one()


def prepare(url: str) -> None:
    _dbos(url)
    DBOS.launch()
    DBOS.destroy()


def fill(url: str, jobs: int, seconds: float) -> Any:
    client = DBOSClient(system_database_url=url)
    options: EnqueueOptions = {"queue_name": QUEUE, "workflow_name": "noop"}
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))

    async def store(size: int) -> None:
        with engine.begin() as connection:
            for _ in range(size):
                client.enqueue_in_transaction(connection, options)

    return asyncio.run(stored(jobs, seconds, store))  # noqa: TID251 - a program of its own


def work(url: str, tally: str, setting: int) -> None:
    global counted  # noqa: PLW0603 - workflows are found by their name
    counted = Tally(tally)
    _dbos(url)
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=setting, polling_interval_sec=POLLING_SECONDS)
    threading.Event().wait()


def _dbos(url: str) -> None:
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "WARNING"})
