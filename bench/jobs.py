"""The jobs that Staffa's workers run while they are measured: `staffa run` imports them."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from bench.tally import Tally
from staffa import Job, Worker

QUEUE = "bench"
TALLY, STATEMENTS = "BENCH_TALLY", "BENCH_STATEMENTS"

_tally = Tally(os.environ[TALLY]) if TALLY in os.environ else None


class Noop(Worker, queue=QUEUE, name="bench.noop"):
    """Does nothing on the event loop."""

    async def perform(self, job: Job[Any]) -> None:  # noqa: ARG002 - a worker gets its job
        if _tally is not None:
            _tally.one()


class Plain(Worker, queue=QUEUE, name="bench.plain"):
    """Does nothing in a thread."""

    def perform(self, job: Job[Any]) -> None:  # noqa: ARG002 - a worker gets its job
        if _tally is not None:
            _tally.one()


class Marking(Worker, queue=QUEUE, name="bench.marking"):
    """Notes when it began."""

    async def perform(self, job: Job[Any]) -> None:
        if _tally is not None:
            _tally.mark(job.args["slot"])


def _count_statements(tally: Tally) -> None:
    """Count what is said to SQLite from now on, but for the look whether another process has written."""
    connect = sqlite3.connect

    def counting(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_trace_callback(lambda said: None if "data_version" in said.lower() else tally.one())
        return connection

    sqlite3.connect = counting  # type: ignore[assignment]


if STATEMENTS in os.environ:
    _count_statements(Tally(os.environ[STATEMENTS]))
