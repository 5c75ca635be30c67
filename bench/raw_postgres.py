"""What PostgreSQL could do: bare loops on Staffa's own table, without Python work per job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from bench.jobs import QUEUE
from staffa.cli.bench.postgres import RawPostgres
from staffa.engines._sql.rows import fenced
from staffa.engines.postgres import CONNECTION_OPTIONS

WORKER = "bench.noop"
CHANNEL = "public.oban_insert"
BATCHES = (100, 500, 1000)
LEAN_EXCHANGE = """
with acked as (
  update oban_jobs set state = 'completed', completed_at = now() at time zone 'UTC'
  where {which} and state::text = 'executing' and (id << 20) + take = any(%(fences)s::bigint[])
),
taken as (
  update oban_jobs set state = 'executing', attempt = attempt + 1, take = take + 1,
    attempted_at = now() at time zone 'UTC', attempted_by = array['bench', %(producer)s]
  where {key} = any(array(
    select {key} from oban_jobs where state = 'available' and queue = %(queue)s
    order by priority, scheduled_at, id limit %(demand)s for update skip locked))
  returning id, take, {key} as handle, args
)
select * from taken
"""
INSERT_HEAD = "insert into oban_jobs (queue, worker, args)"
INSERT_ONE = (
    f"{INSERT_HEAD} values (%(queue)s, %(worker)s, %(args)s)"
    " returning id, pg_notify(%(channel)s, json_build_object('queue', queue)::text)"
).encode()

Handles = Sequence[Any]
Exchange = Callable[[Handles, Sequence[int], int], tuple[Handles, Sequence[int]]]


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, **CONNECTION_OPTIONS) as connection:
        yield connection


# Draining


def drain(url: str, statement: str, batch: int) -> float:
    """Take and complete all jobs with one of `EXCHANGES`; give the rate per second."""
    with _connected(url) as connection, _connected(url) as other:
        exchange = EXCHANGES[statement](connection, other)
        count, handles, fences = 0, [], []  # type: tuple[int, Handles, Sequence[int]]
        began = time.perf_counter()
        while True:
            handles, fences = exchange(handles, fences, batch)
            if not handles:
                return count / (time.perf_counter() - began)
            count += len(handles)


def _own(connection: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> Exchange:
    """Exchange with the statement that Staffa uses."""
    raw = RawPostgres(connection, other, "public")

    def exchange(_: Handles, fences: Sequence[int], demand: int) -> tuple[Handles, Sequence[int]]:
        taken = raw.exchange(fences, demand)
        return [each for each, _ in taken], [fenced(each, take) for each, take in taken]

    return exchange


def _lean(key: str, kind: str) -> Callable[[psycopg.Connection[Any], psycopg.Connection[Any]], Exchange]:
    """Exchange with a statement that is fenced too, but does and gives only what it must."""
    statement = lean(key, kind)

    def on(connection: psycopg.Connection[Any], _: psycopg.Connection[Any]) -> Exchange:
        def exchange(handles: Handles, fences: Sequence[int], demand: int) -> tuple[Handles, Sequence[int]]:
            rows = connection.execute(statement, lean_values(handles, fences, demand)).fetchall()
            return [row[2] for row in rows], [fenced(row[0], row[1]) for row in rows]

        return exchange

    return on


def lean(key: str, kind: str) -> bytes:
    """Write the lean statement for one way of finding rows again."""
    return LEAN_EXCHANGE.format(key=key, which=f"{key} = any(%(handles)s::{kind}[])").encode()


def lean_values(handles: Handles, fences: Sequence[int], demand: int) -> dict[str, Any]:
    return {
        "handles": _array(handles),
        "fences": list(fences),
        "producer": "raw",
        "queue": QUEUE,
        "demand": demand,
    }


def _array(values: Sequence[Any]) -> str:
    """Write an array as the database reads it."""
    quoted = ",".join(f'"{each}"' for each in values)
    return f"{{{quoted}}}"


EXCHANGES = {
    "Staffa's statement": _own,
    "lean, by id": _lean("id", "bigint"),
    "lean, by ctid": _lean("ctid", "tid"),
}


# Inserting


def insert_all(url: str, form: str, jobs: int, chunk: int) -> float:
    """Store jobs in one transaction with one of `INSERTS`, getting their ids; give the rate per second."""
    statement, values = INSERTS[form]
    chunks = [values(min(chunk, jobs - first)) for first in range(0, jobs, chunk)]
    ids = 0
    with _connected(url) as connection:
        began = time.perf_counter()
        with connection.transaction():
            for each in chunks:
                ids += _inserted(connection, statement, each)
            connection.execute("select pg_notify(%s, %s)", [CHANNEL, json.dumps({"queue": QUEUE})])
        took = time.perf_counter() - began
    if ids != jobs:
        raise RuntimeError(f"of {jobs} jobs, {ids} were stored")
    return jobs / took


def _inserted(connection: psycopg.Connection[Any], statement: str, values: Any) -> int:
    if statement == EXECUTEMANY:
        cursor = connection.cursor()
        cursor.executemany(statement.encode(), values, returning=True)
        return sum(len(results.fetchall()) for results in cursor.results())
    if isinstance(values, list):
        rows = ", ".join(["(%s, %s, %s)"] * (len(values) // 3))
        return len(connection.execute(statement.format(rows=rows).encode(), values).fetchall())
    return len(connection.execute(statement.encode(), values).fetchall())


IDS, COLUMNS = "returning id", "queue text, worker text, args jsonb"
EXECUTEMANY = f"{INSERT_HEAD} values (%s, %s, %s) {IDS}"
INSERTS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "unnest": (
        f"{INSERT_HEAD} select * from unnest(%(queues)s::text[], %(workers)s::text[], %(args)s::jsonb[]) {IDS}",
        lambda size: {"queues": [QUEUE] * size, "workers": [WORKER] * size, "args": ["{}"] * size},
    ),
    "json": (
        f"{INSERT_HEAD} select * from json_to_recordset(%(jobs)s::json) as given({COLUMNS}) {IDS}",
        lambda size: {"jobs": json.dumps([{"queue": QUEUE, "worker": WORKER, "args": {}}] * size)},
    ),
    "values": (
        f"{INSERT_HEAD} values {{rows}} {IDS}",
        lambda size: [QUEUE, WORKER, "{}"] * size,
    ),
    "executemany": (EXECUTEMANY, lambda size: [(QUEUE, WORKER, "{}")] * size),
}


def one(**args: Any) -> dict[str, str]:
    """Write the values of one job."""
    return {"queue": QUEUE, "worker": WORKER, "args": json.dumps(args), "channel": CHANNEL}


class Single:
    """Single-row inserts that wake listeners, one after another on one connection."""

    def __init__(self, url: str) -> None:
        self._connection, self._values = psycopg.connect(url, **CONNECTION_OPTIONS), one()

    def one(self) -> None:
        self._connection.execute(INSERT_ONE, self._values).fetchone()

    def close(self) -> None:
        self._connection.close()


# Hearing


@contextmanager
def listening(url: str) -> Iterator[Callable[[], float]]:
    """Give what stores a job on one connection, hears of it on another one, takes it, and says how long that took."""
    with _connected(url) as connection, _connected(url) as other:
        exchange, values = EXCHANGES["lean, by id"](connection, other), one()
        connection.execute(f'listen "{CHANNEL}"'.encode())

        def arrival() -> float:
            began = time.perf_counter()
            other.execute(INSERT_ONE, values)
            for _ in connection.notifies(timeout=10, stop_after=1):
                pass
            handles, fences = exchange([], [], 1)
            took = time.perf_counter() - began
            exchange(handles, fences, 0)
            return took

        yield arrival
