"""Connections that died while nobody used them stand in nobody's way."""

import select
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest

from nodes import eventually
from staffa import Staffa, Worker
from staffa.engines._postgres_session import translating
from staffa.engines.postgres import POOL_OPTIONS, PostgresDatabase
from staffa.errors import DatabaseError, DatabaseUnavailable


class Idle(Worker, name="pool.Idle"):
    async def perform(self, job: object) -> None: ...


def cut(url: str) -> None:
    """End all connections but this, as a restart of the server does, and wait until they have heard of it."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


def all_used(database: PostgresDatabase) -> list[psycopg.Connection]:
    """Use all connections of the pool at once; give them, back in the pool."""
    everybody = Barrier(10)

    def use(_: int) -> psycopg.Connection:
        with database.blocking_session() as session:
            everybody.wait(10)
            return session._connection  # type: ignore[attr-defined]

    with ThreadPoolExecutor(10) as threads:
        return list(threads.map(use, range(10)))


def heard_of_it(connection: psycopg.Connection) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def test_a_queue_that_gets_no_connection_says_why(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POOL_OPTIONS, "timeout", 0.2)
    database = PostgresDatabase(postgres_url, pool_size=1)
    await database.open()
    try:
        async with database.awaited_session():
            with pytest.raises(
                DatabaseUnavailable, match=r"no connection to postgresql://.* all 1 were busy"
            ):
                await database.engine.clock()
    finally:
        await database.close()


async def test_after_a_restart_of_the_server_the_first_enqueue_gets_a_living_connection(
    postgres_url: str,
) -> None:
    staffa = Staffa(postgres_url, run_queues=False)
    try:
        connections = all_used(staffa._database)  # type: ignore[arg-type]
        cut(postgres_url)
        await eventually(lambda: all(map(heard_of_it, connections)))
        stored = await staffa.ainsert(Idle.new())
    finally:
        staffa.close()
    assert stored.id


def test_a_connection_whose_prepared_statements_are_refused_is_not_used_again(postgres_url: str) -> None:
    staffa = Staffa(postgres_url, run_queues=False)
    used: list[psycopg.Connection] = []

    def outlive_a_table(admin: psycopg.Connection) -> None:
        database: PostgresDatabase = staffa._database  # type: ignore[assignment]
        with database.blocking_session() as session, translating():
            used.append(session._connection)  # type: ignore[attr-defined]
            used[0].execute("select * from told", prepare=True)
            used[0].commit()
            admin.execute("alter table told alter column what type text")
            used[0].execute("select * from told", prepare=True)

    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("create table told (what int)")
        with pytest.raises(DatabaseError, match="cached plan"):
            outlive_a_table(admin)
        admin.execute("drop table told")
    assert used[0].closed
    assert staffa.get(1) is None
    staffa.close()
