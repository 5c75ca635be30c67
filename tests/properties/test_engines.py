"""Whatever happens in whatever order, every engine does what a few plain rules say."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from hypothesis.stateful import run_state_machine_as_test

from properties.machine import Ground, Machine
from staffa.engines.postgres import PostgresDatabase
from staffa.engines.sqlite import SqliteDatabase

TABLES = ("oban_jobs", "staffa_keys", "staffa_producers")


@pytest.fixture
def sqlite_ground(sqlite_url: str) -> Iterator[Ground]:
    database = SqliteDatabase(sqlite_url)
    database.make_tables()
    with closing(sqlite3.connect(database.path, isolation_level=None, timeout=10)) as shell:

        def sql(statement: str) -> list[tuple[Any, ...]]:
            return shell.execute(statement).fetchall()

        def clear() -> None:
            shell.executescript("; ".join(f"delete from {table}" for table in [*TABLES, "sqlite_sequence"]))

        yield Ground(database.plain, sql, clear, looks_behind=False)
    database.dispose()


@pytest.fixture
def postgres_ground(postgres_url: str) -> Iterator[Ground]:
    database = PostgresDatabase(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as shell:

        def sql(statement: str) -> list[tuple[Any, ...]]:
            cursor = shell.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        def clear() -> None:
            statements = [f"delete from {table}" for table in TABLES]
            shell.execute("; ".join([*statements, "select setval('oban_jobs_id_seq', 1, false)"]).encode())

        yield Ground(database.plain, sql, clear, looks_behind=True)
    database.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def ground(request: pytest.FixtureRequest) -> Ground:
    found: Ground = request.getfixturevalue(f"{request.param}_ground")
    return found


@pytest.mark.timeout(900)  # to find a failure takes seconds, to make it short takes minutes
def test_whatever_happens_in_whatever_order_every_job_is_as_the_rules_say(ground: Ground) -> None:
    run_state_machine_as_test(lambda: Machine(ground))
