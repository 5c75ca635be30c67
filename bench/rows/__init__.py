"""The rows of the table, each one measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.lab import Lab
from bench.results import RowResult
from bench.rows import draining, inserting, living, starting, waiting


@dataclass(frozen=True)
class Row:
    """What is measured under which name, and at which scale it begins to be."""

    key: str
    what: str
    measure: Callable[[Lab, str, str], RowResult]
    only_full: bool = False


ROWS = (
    Row("drain", "PostgreSQL, one process, async jobs", draining.one_process),
    Row("drain-two", "PostgreSQL, two processes, async jobs", draining.two_processes),
    Row("backlog", "PostgreSQL, backlogs and statistics", draining.backlogs),
    Row("drain-sync", "PostgreSQL, one process, sync jobs in threads", draining.threads),
    Row("drain-sqlite", "SQLite, one process, async jobs", draining.sqlite),
    Row("bulk", "bulk insert, PostgreSQL", inserting.bulk_postgres),
    Row("bulk-sqlite", "bulk insert, SQLite", inserting.bulk_sqlite),
    Row("single", "single aenqueue in a loop, PostgreSQL", inserting.single),
    Row("latency", "idle latency, PostgreSQL", waiting.latency_postgres),
    Row("latency-sqlite", "idle latency, SQLite", waiting.latency_sqlite),
    Row("scheduled", "scheduled jobs, lateness", waiting.scheduled),
    Row("history", "a million finished rows in the table", draining.history, only_full=True),
    Row("pinned", "a transaction held open for the whole run", draining.pinned, only_full=True),
    Row("mixed", "producer at full speed, one worker", living.mixed),
    Row("idle", "idle worker, 5 queues", living.idle),
    Row("memory", "memory of a worker over many jobs", living.memory, only_full=True),
    Row("import", "import and --help", starting.imports),
)
