"""Unique jobs while many insert, roll back, die, retry, delete and prune at once."""

import asyncio
import multiprocessing
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from nodes import eventually
from staffa import Job, JobFilter, Staffa, Unique, Worker
from staffa._bridge import at_once
from staffa.engines import _postgres_session
from staffa.errors import DatabaseBusy, DatabaseUnavailable

PRODUCERS = 50


class Welcome(Worker, name="at_once.Welcome", unique=True):
    def perform(self, job):
        return None


class Only(Worker, name="at_once.Only", unique=Unique(period=None, states="incomplete")):
    def perform(self, job):
        return None


@pytest.fixture
def staffa(make: Callable[..., Staffa]) -> Staffa:
    instance = make(run_queues=False)
    instance.migrate()
    return instance


def all_at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Let as many threads begin together, and give what they answered."""
    begin = threading.Barrier(count)

    def one(number: int) -> Any:
        begin.wait(30)
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@contextmanager
def connection_to(url: str) -> Iterator[Any]:
    """A connection of the caller's own, in no transaction yet."""
    if url.startswith("postgres"):
        with closing(psycopg.connect(url)) as connection:
            yield connection
    else:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            yield connection


def everything(staffa: Staffa) -> list[Job]:
    return staffa.jobs(limit=10_000)


# Producers


@pytest.fixture(params=["new ones together", "one after the other"])
def keys_written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the keys of any batch as those of a large one are, or none."""
    worth_a_try = 1 if request.param == "new ones together" else 10_000
    monkeypatch.setattr("staffa.engines._sql.keys.WORTH_A_TRY", worth_a_try)


@pytest.mark.usefixtures("keys_written")
def test_of_fifty_producers_at_once_one_stores_the_job_and_all_get_it(staffa: Staffa):
    answers = all_at_once(PRODUCERS, lambda n: staffa.insert(Welcome.new(user_id=1)))

    [stored] = everything(staffa)
    assert Counter(each.conflict for each in answers) == {False: 1, True: PRODUCERS - 1}
    assert {each.id for each in answers} == {stored.id}


def test_of_fifty_producers_at_once_one_takes_over_from_jobs_that_are_no_longer_in_the_way(staffa: Staffa):
    batch = [Only.new(n=n) for n in range(30)]
    staffa.cancel(*staffa.insert_all(batch))

    answers = [each for one in all_at_once(PRODUCERS, lambda n: staffa.insert_all(batch)) for each in one]

    assert staffa.count(states="cancelled") == staffa.count(states="available") == 30
    assert Counter(each.conflict for each in answers) == {False: 30, True: 30 * (PRODUCERS - 1)}
    assert len({each.id for each in answers}) == 30


@pytest.mark.usefixtures("keys_written")
def test_fifty_producers_with_batches_in_any_order_store_each_job_once_and_never_block_each_other(staffa):
    def insert(number: int) -> list[Job]:
        users = [n % 20 for n in range(40)]
        random.Random(number).shuffle(users)
        return staffa.insert_all([Welcome.new(user_id=user) for user in users])

    answers = [each for batch in all_at_once(PRODUCERS, insert) for each in batch]

    assert Counter(each.args["user_id"] for each in everything(staffa)) == dict.fromkeys(range(20), 1)
    assert Counter(each.conflict for each in answers) == {False: 20, True: PRODUCERS * 40 - 20}


def test_large_batches_in_any_order_store_each_job_once_and_never_block_each_other(staffa: Staffa):
    def insert(number: int) -> list[Job]:
        users = [*range(number, number + 200)]
        random.Random(number).shuffle(users)
        return staffa.insert_all([Welcome.new(user_id=user) for user in users])

    answers = [each for batch in all_at_once(10, insert) for each in batch]

    ids = {job.args["user_id"]: job.id for job in everything(staffa)}
    assert len(ids) == len(everything(staffa)) == 209
    assert all(ids[each.args["user_id"]] == each.id for each in answers)
    assert Counter(each.conflict for each in answers) == {False: 209, True: 2_000 - 209}


def test_large_batches_by_two_rules_in_opposite_order_never_block_each_other(staffa: Staffa):
    def insert(number: int) -> list[Job]:
        kinds = [Welcome, Only] if number % 2 else [Only, Welcome]
        return staffa.insert_all([kind.new(user_id=user) for kind in kinds for user in range(100)])

    answers = [each for batch in all_at_once(6, insert) for each in batch]

    assert staffa.count() == 200
    assert Counter(each.conflict for each in answers) == {False: 200, True: 5 * 200}


def produce(url: str, seed: int) -> list[tuple[int, int, bool]]:
    """Insert from several threads of another process."""
    staffa = Staffa(url, run_queues=False)

    def insert(number: int) -> list[Job]:
        users = list(range(10))
        random.Random(seed + number).shuffle(users)
        one_by_one = [staffa.insert(Welcome.new(user_id=user)) for user in users[:5]]
        return one_by_one + staffa.insert_all([Welcome.new(user_id=user) for user in users[5:]])

    try:
        return [
            (each.args["user_id"], each.id or 0, each.conflict)
            for batch in all_at_once(10, insert)
            for each in batch
        ]
    finally:
        staffa.close()


def test_producers_of_several_processes_store_each_job_once(staffa: Staffa):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        told = pool.starmap(produce, [(staffa.url, 100 * n) for n in range(3)], chunksize=1)

    ids = {job.args["user_id"]: job.id for job in everything(staffa)}
    assert len(ids) == len(everything(staffa)) == 10
    assert {(user, stored) for each in told for user, stored, _ in each} == set(ids.items())
    assert sum(not conflict for each in told for _, _, conflict in each) == 10


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_what_the_server_isolates_by_default_does_not_matter(postgres_url: str, level: str):
    joint = "&" if "?" in postgres_url else "?"
    strict = (
        f"{postgres_url}{joint}options=-c%20default_transaction_isolation%3D{level.replace(' ', '%5C%20')}"
    )
    staffa = Staffa(strict, run_queues=False)
    with closing(psycopg.connect(strict)) as connection:
        assert connection.execute("show transaction_isolation").fetchall() == [(level,)]

    answers = all_at_once(10, lambda n: staffa.insert_all([Welcome.new(user_id=1), Welcome.new(user_id=2)]))

    assert len(everything(staffa)) == 2
    assert sum(not each.conflict for batch in answers for each in batch) == 2
    staffa.close()


# Somebody's open transaction


def waiting_insert(staffa: Staffa, pool: ThreadPoolExecutor, **args: Any) -> Future[Job]:
    return pool.submit(lambda: staffa.insert(Welcome.new(**args)))


def wait_until_it_waits(url: str, future: Future[Job]) -> None:
    """See that an insert waits for a lock; SQLite shows nobody who waits."""
    if not url.startswith("postgres"):
        assert not future.done()
        return
    question = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with closing(psycopg.connect(url, autocommit=True)) as watch:
        asyncio.run(eventually(lambda: watch.execute(question).fetchall() == [(1,)]))


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_who_waits_for_a_transaction_stores_the_job_if_that_one_does_not(staffa: Staffa, ending: str):
    with connection_to(staffa.url) as connection, ThreadPoolExecutor() as pool:
        staffa.insert(Welcome.new(), connection=connection)
        waiting = waiting_insert(staffa, pool)
        wait_until_it_waits(staffa.url, waiting)
        getattr(connection, ending)()
        second = waiting.result(20)

    assert second.conflict == (ending == "commit")
    assert [job.id for job in everything(staffa)] == [second.id]


def test_a_transaction_that_is_rolled_back_leaves_neither_job_nor_key_nor_change(staffa: Staffa):
    there = staffa.insert(Welcome.new(user_id=1))
    with connection_to(staffa.url) as connection:
        staffa.insert_all(
            [
                Welcome.using(replace=["priority"], priority=5).new(user_id=1),
                Welcome.new(user_id=2),
                Welcome.new(user_id=2),
            ],
            connection=connection,
        )
        staffa.cancel(there, connection=connection)
        connection.rollback()

    assert everything(staffa) == [there]
    assert not staffa.insert(Welcome.new(user_id=2)).conflict


def test_a_transaction_sees_the_jobs_it_stored_itself(staffa: Staffa):
    with connection_to(staffa.url) as connection:
        first = staffa.insert(Welcome.new(), connection=connection)
        second = staffa.insert(Welcome.new(), connection=connection)
        connection.commit()

    assert (second.id, second.conflict) == (first.id, True)
    assert everything(staffa) == [first]


def test_waiting_for_a_transaction_ends_with_advice(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_postgres_session, "LONGEST_LOCK", "100ms")
    staffa = Staffa(postgres_url, run_queues=False)
    with connection_to(postgres_url) as connection:
        staffa.insert(Welcome.new(), connection=connection)
        with pytest.raises(DatabaseBusy, match=r"using\(connection=...\)"):
            staffa.insert(Welcome.new())
        connection.commit()

    assert staffa.insert(Welcome.new()).conflict
    staffa.close()


def test_a_caller_s_transaction_waits_as_long_as_its_owner_says(postgres_url: str):
    staffa = Staffa(postgres_url, run_queues=False)
    with connection_to(postgres_url) as connection:
        staffa.insert(Welcome.new(), connection=connection)
        assert connection.execute("show lock_timeout").fetchall() == [("0",)]
    staffa.close()


DIES = """
    import os, sys
    sys.path[:0] = {path!r}
    from staffa import Staffa, Worker
    from test_unique_at_once import Welcome, connection_to

    staffa = Staffa({url!r}, run_queues=False)
    with connection_to({url!r}) as connection:
        staffa.insert(Welcome.new(), connection=connection)
        print("stored", flush=True)
        sys.stdin.read()
"""


def test_a_process_that_dies_between_insert_and_commit_keeps_no_key(staffa: Staffa):
    program = textwrap.dedent(DIES).format(path=[str(Path(__file__).parent)], url=staffa.url)
    with (
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
        ThreadPoolExecutor() as pool,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "stored\n"
        waiting = waiting_insert(staffa, pool)
        wait_until_it_waits(staffa.url, waiting)
        process.send_signal(signal.SIGKILL)
        answer = waiting.result(20)

    assert not answer.conflict
    assert everything(staffa) == [answer]


# Transactions that see an older snapshot


STRICT = [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE]


@pytest.fixture
def strict(postgres_url: str, request: pytest.FixtureRequest) -> Iterator[tuple[Staffa, Any]]:
    """An instance, and a caller's transaction that sees what was there when it began."""
    staffa = Staffa(postgres_url, run_queues=False)
    with connection_to(postgres_url) as connection:
        connection.isolation_level = request.param
        yield staffa, connection
    staffa.close()


@pytest.mark.parametrize("strict", STRICT, indirect=True)
def test_a_strict_transaction_that_nobody_crosses_stores_and_answers_as_any(strict):
    staffa, connection = strict
    there = staffa.insert(Welcome.new(user_id=1))
    connection.execute("select count(*) from oban_jobs")
    known, new = staffa.insert_all([Welcome.new(user_id=1), Welcome.new(user_id=2)], connection=connection)
    connection.commit()

    assert (known.id, known.conflict, new.conflict) == (there.id, True, False)
    assert len(everything(staffa)) == 2


@pytest.mark.parametrize("strict", STRICT, indirect=True)
@pytest.mark.parametrize("before", ["nothing", "a finished job", "a deleted job"])
def test_a_strict_transaction_that_was_crossed_is_refused_and_stores_nothing(strict, before: str):
    staffa, connection = strict
    if before != "nothing":
        staffa.cancel(staffa.insert(Only.new()))
    if before == "a deleted job":
        staffa.delete_all(JobFilter())
    connection.execute("select count(*) from oban_jobs")
    crossing = staffa.insert(Only.new())
    with pytest.raises(DatabaseUnavailable, match="could not serialize"):
        staffa.insert(Only.new(), connection=connection)
    connection.rollback()

    assert staffa.insert(Only.new(), connection=connection).id == crossing.id


@pytest.mark.parametrize("strict", STRICT, indirect=True)
def test_a_strict_transaction_does_not_overlook_a_retry(strict):
    staffa, connection = strict
    old = staffa.insert(Only.new())
    staffa.cancel(old)
    connection.execute("select count(*) from oban_jobs")
    staffa.retry(old)
    with pytest.raises(DatabaseUnavailable, match="could not serialize"):
        staffa.insert(Only.new(), connection=connection)


# Retrying, deleting and pruning meanwhile


def test_of_many_who_retry_equal_jobs_at_once_one_gets_the_key(staffa: Staffa):
    twins = []
    for _ in range(12):
        twins.append(staffa.insert(Only.new()))
        staffa.cancel(twins[-1])

    answers = [each for batch in all_at_once(len(twins), lambda n: staffa.retry(twins[n])) for each in batch]

    [available] = staffa.jobs(states="available")
    assert Counter(each.conflict for each in answers) == {False: 1, True: len(twins) - 1}
    assert {each.id for each in answers} == {available.id}


def test_all_that_can_be_retried_are_and_the_rest_does_not_stop_it(staffa: Staffa):
    twins = []
    for n in range(6):
        twins.append(staffa.insert(Only.new(n=n % 2)))
        staffa.cancel(twins[-1])

    assert staffa.retry_all(states="cancelled") == [twins[0].id, twins[1].id]
    assert staffa.count(states="cancelled") == 4


def test_while_some_delete_and_prune_no_key_is_ever_held_twice(staffa: Staffa):
    over = threading.Event()
    stored: list[Job] = []
    deleted: list[int] = []

    def insert(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            batch = [Welcome.new(user_id=chance.randrange(4)) for _ in range(3)]
            stored.extend(each for each in staffa.insert_all(batch) if not each.conflict)

    def delete() -> None:
        while not over.is_set():
            deleted.extend(staffa.delete(*everything(staffa)[:2]))

    def prune() -> None:
        while not over.is_set():
            at_once(staffa.plain_engine.prune_keys("", 100))

    with ThreadPoolExecutor() as pool:
        others = [pool.submit(delete), pool.submit(prune), pool.submit(prune)]
        try:
            all_at_once(6, insert)
        finally:
            over.set()
        for other in others:
            other.result(20)

    left = everything(staffa)
    assert len(stored) - len(deleted) == len(left)
    assert max(Counter(each.unique_key for each in left).values(), default=1) == 1
    assert len({each.id for each in stored}) == len(stored)


def test_a_pruner_passes_over_keys_that_somebody_is_claiming(postgres_url: str):
    staffa = Staffa(postgres_url, run_queues=False)
    gone, other = staffa.insert_all([Welcome.new(user_id=1), Welcome.new(user_id=2)])
    staffa.delete(gone, other)
    with connection_to(postgres_url) as connection:
        again = staffa.insert(Welcome.new(user_id=1), connection=connection)
        assert at_once(staffa.plain_engine.prune_keys("", 10)).pruned == 1
        connection.commit()

    assert (again.conflict, staffa.insert(Welcome.new(user_id=1)).id) == (False, again.id)
    staffa.close()


def test_a_period_counts_by_the_clock_of_the_moment_in_which_the_lock_was_got(postgres_url: str):
    """A transaction may be older than what it asks about."""
    staffa = Staffa(postgres_url, run_queues=False)
    short = Welcome.using(unique=Unique(period=timedelta(milliseconds=1)))
    with connection_to(postgres_url) as connection:
        connection.execute("select now()")
        staffa.insert(short.new())
        connection.execute("select pg_sleep(0.01)")
        assert not staffa.insert(short.new(), connection=connection).conflict
        connection.commit()
    staffa.close()
