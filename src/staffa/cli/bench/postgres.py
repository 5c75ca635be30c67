"""Measure in a schema of its own of the configured PostgreSQL: the same server, nobody's jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg

from staffa._cursor import START
from staffa.cli.bench.place import QUEUE, Raw, in_peace
from staffa.engines._postgres_session import translated
from staffa.engines._sql.statements import PARAMETER, quoted_name, statement
from staffa.engines.postgres import CONNECTION_OPTIONS, conninfo_of
from staffa.errors import DatabaseError
from staffa.instance import Staffa

HEARING_SECONDS = 10.0
ACKED, ID, SCHEDULED_AT, TAKE = 0, 4, 14, 17  # columns of an exchange


class PostgresBench:
    """One PostgreSQL database."""

    hears_across_processes = True

    def __init__(self, url: str) -> None:
        self._url = url
        self._rooms: list[PostgresRoom] = []

    @contextmanager
    def room(self) -> Iterator[PostgresRoom]:
        room = PostgresRoom(self._url, f"staffa_bench_{uuid4().hex[:12]}")
        self._rooms.append(room)
        try:
            room.make()
        except DatabaseError:  # migrating is one transaction: nothing was made
            self._rooms.remove(room)
            raise
        with _translating():
            yield room
        in_peace(self.clear)

    def clear(self) -> None:
        while self._rooms:
            _drop(self._rooms.pop())


class PostgresRoom:
    """A schema that is gone soon."""

    def __init__(self, url: str, schema: str) -> None:
        self._url, self.schema = url, schema

    def make(self) -> None:
        staffa = self.staffa(1, runs=False)
        staffa.migrate()
        staffa.close()

    def drop(self) -> None:
        with psycopg.connect(conninfo_of(self._url), **CONNECTION_OPTIONS) as connection:
            connection.execute(f"drop schema if exists {quoted_name(self.schema)} cascade".encode())

    def staffa(self, limit: int, *, runs: bool = True) -> Staffa:
        return Staffa(self._url, schema=self.schema, queues={QUEUE: limit}, run_queues=runs)

    @contextmanager
    def raw(self) -> Iterator[Raw]:
        url = conninfo_of(self._url)
        with (
            psycopg.connect(url, **CONNECTION_OPTIONS) as connection,
            psycopg.connect(url, **CONNECTION_OPTIONS) as other,
        ):
            yield RawPostgres(connection, other, self.schema)


class RawPostgres:
    """The statements on one connection; another one stores jobs of which the first is told."""

    def __init__(
        self, connection: psycopg.Connection[Any], other: psycopg.Connection[Any], schema: str
    ) -> None:
        self._connection, self._other, self._producer = connection, other, str(uuid4())
        self._channel = f"{schema}.oban_insert"
        self._listening = False
        self._after: tuple[int, datetime | str, int] = START
        self._insert, self._exchange = _sql("insert_jobs", schema), _sql("exchange_jobs", schema)
        producer = {"id": self._producer, "node": "bench", "queue": QUEUE, "capacity": 1, "paused": False}
        connection.execute(
            _sql("register_producers", schema),
            {"producers": json.dumps([producer])},
        )

    def insert(self, jobs: Mapping[str, str]) -> None:
        self._insert_on(self._connection, jobs)

    def exchange(self, fences: Sequence[int], demand: int) -> list[tuple[int, int]]:
        """Look behind the job that was taken last, as a queue under load does."""
        priority, time, job_id = self._after
        cursor = self._connection.execute(
            self._exchange,
            {
                "fences": f"{{{','.join(map(str, fences))}}}",
                "producer": self._producer,
                "node": "bench",
                "queue": QUEUE,
                "demand": demand,
                "after_priority": priority,
                "after_time": time,
                "after_id": job_id,
                "now": None,
            },
        )
        result = cursor.pgresult
        assert result is not None  # noqa: S101 - the statement has just run
        value = result.get_value
        taken = [
            (int(value(row, ID) or 0), int(value(row, TAKE) or 0), row)
            for row in range(result.ntuples)
            if value(row, ACKED) is None
        ]
        if taken:
            last, _, row = max(taken)
            self._after = 0, f"{(value(row, SCHEDULED_AT) or b'').decode()}Z", last
        return [(job_id, take) for job_id, take, _ in taken]

    def arrival(self, job: Mapping[str, str]) -> tuple[int, int]:
        self._listen()
        self._insert_on(self._other, job)
        if not list(self._connection.notifies(timeout=HEARING_SECONDS, stop_after=1)):
            raise DatabaseError(
                f"no notification came within {HEARING_SECONDS:.0f} s; is there a pooler between?"
            )
        [taken] = self.exchange([], 1)
        return taken

    def _listen(self) -> None:
        if not self._listening:
            self._connection.execute(f"listen {quoted_name(self._channel)}".encode())
            self._listening = True

    def _insert_on(self, connection: psycopg.Connection[Any], jobs: Mapping[str, str]) -> None:
        connection.execute(self._insert, {**jobs, "now": None, "channel": self._channel})


def _sql(name: str, schema: str) -> bytes:
    return PARAMETER.sub(r"%(\1)s", statement("postgres", name, schema)).encode()


def _drop(room: PostgresRoom) -> None:
    try:
        room.drop()
    except psycopg.Error as error:
        raise DatabaseError(
            f"the schema {room.schema} could not be dropped; drop it by hand: {translated(error)}"
        ) from error


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translated(error) from error
