"""What SQLite could do: a bare loop on Staffa's own table, with the settings that Staffa uses."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from bench.databases import path_of
from staffa.cli.bench.sqlite import RawSqlite
from staffa.engines._sql.rows import fenced
from staffa.engines._sqlite_writer import PRAGMAS
from staffa.engines.sqlite import LEADER_CHECKPOINT_PAGES

BATCHES = (100, 500, 1000)


@contextmanager
def _connected(url: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as connection:
        for pragma in (
            *PRAGMAS,
            "journal_mode = wal",
            f"wal_autocheckpoint = {LEADER_CHECKPOINT_PAGES}",
        ):
            connection.execute(f"pragma {pragma}")
        yield connection


def drain(url: str, batch: int) -> float:
    """Take and complete all jobs; give the rate per second."""
    with _connected(url) as connection:
        raw = RawSqlite(connection)
        count = 0
        fences: list[int] = []
        began = time.perf_counter()
        while taken := raw.exchange(fences, batch):
            count += len(taken)
            fences = [fenced(each, take) for each, take in taken]
        return count / (time.perf_counter() - began)


def insert_all(url: str, jobs: int) -> float:
    """Store jobs in one transaction; give the rate per second."""
    with _connected(url) as connection:
        began = time.perf_counter()
        connection.execute("begin immediate")
        connection.executemany(
            "insert into oban_jobs (queue, worker, args) values (?, ?, ?)",
            [("bench", "bench.noop", "{}")] * jobs,
        )
        connection.execute("commit")
        return jobs / (time.perf_counter() - began)
