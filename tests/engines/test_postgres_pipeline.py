"""A caller's connection may be in pipeline mode; jobs join its transaction all the same."""

import psycopg
import pytest

from staffa import Staffa, Worker


class Piped(Worker, name="pipeline.Piped"):
    async def perform(self, job: object) -> None: ...


@pytest.fixture
def staffa(postgres_url: str):
    instance = Staffa(postgres_url, run_queues=False)
    yield instance
    instance.close()


def test_a_job_joins_a_transaction_in_pipeline_mode(staffa: Staffa) -> None:
    with psycopg.connect(staffa.url) as connection, connection.pipeline():
        kept = Piped.using(connection=connection, instance=staffa).enqueue()
        connection.execute("select 1")
        connection.commit()
        Piped.using(connection=connection, instance=staffa).enqueue()
        connection.rollback()
    assert [job.id for job in staffa.jobs()] == [kept.id]


async def test_a_job_joins_an_awaited_transaction_in_pipeline_mode(staffa: Staffa) -> None:
    async with await psycopg.AsyncConnection.connect(staffa.url) as connection, connection.pipeline():
        kept = await Piped.using(connection=connection, instance=staffa).aenqueue()
        await connection.execute("select 1")
        await connection.commit()
        await Piped.using(connection=connection, instance=staffa).aenqueue()
        await connection.rollback()
    assert [job.id for job in await staffa.ajobs()] == [kept.id]


def test_a_unique_job_joins_a_transaction_in_pipeline_mode(staffa: Staffa) -> None:
    once = Piped.using(unique=True, replace=["priority"])
    with psycopg.connect(staffa.url) as connection, connection.pipeline():
        kept = staffa.insert(once.new(), connection=connection)
        again = staffa.insert(once.new(), connection=connection)
        connection.commit()
    assert (again.id, again.conflict) == (kept.id, True)
    assert [job.id for job in staffa.jobs()] == [kept.id]
