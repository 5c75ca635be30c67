"""Statements stay on their indexes, whatever the table holds and whatever the statistics say.

A sequential scan of the jobs, or of a history that nobody asked for, is the slowness that shows only in production.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import msgspec
import psycopg
import pytest
from psycopg.sql import SQL, Composed, Literal

from staffa import Staffa
from staffa._lifecycle import CANCELLABLE, DELETABLE
from staffa.engines._postgres_session import sql as sql_of
from staffa.engines._sql.rows import fenced
from staffa.engines._sql.statements import PARAMETER, Filtered, Statement, statement
from staffa.engines._sqlite_session import statements

Explained = Callable[[psycopg.Connection, Statement, dict[str, object]], str]

NOW = "2030-01-01T00:00:00.000000Z"
FILL_POSTGRES = """
    insert into staffa_producers (id, node, queue, capacity)
      values ('p', 'n', 'default', 10), ('dead', 'n', 'default', 10);
    update staffa_producers set expired_at = now() where id = 'dead';
    insert into oban_jobs (worker, state, completed_at)
      select 'w', 'completed', now() - i * interval '1 second' from generate_series(1, 200000) as i;
    insert into oban_jobs (worker, state) select 'w', 'available' from generate_series(1, 50000) as i;
    insert into oban_jobs (worker, state, scheduled_at)
      select 'w', 'scheduled', now() + i * interval '1 second' from generate_series(-500, 500) as i;
    insert into oban_jobs (worker, state, attempt, take, attempted_by)
      select 'w', 'executing', 1, 1, array['n', case i % 2 when 0 then 'dead' else 'p' end]
      from generate_series(1, 500) as i;
    insert into staffa_keys (key, job_id) select 'key ' || i, i from generate_series(1, 50000) as i
"""
FILL_SQLITE = """
    with recursive n (i) as (select 1 union all select i + 1 from n where i < 20000)
    insert into oban_jobs (worker, state, completed_at) select 'w', 'completed', '2020-01-01T00:00:00.000000Z' from n;
    with recursive n (i) as (select 1 union all select i + 1 from n where i < 5000)
    insert into oban_jobs (worker) select 'w' from n;
    insert into staffa_keys (key, job_id) select 'key ' || id, id from oban_jobs;
"""
ASKED = ("delete_jobs", "keys_of_jobs", "list_jobs", "lock_jobs", "tally_jobs")
UNFINISHED = {
    "lock_jobs": tuple(sorted(CANCELLABLE)),
    "delete_jobs": tuple(sorted(DELETABLE)),
}
ALL_DONE = "update oban_jobs set state = 'completed', completed_at = scheduled_at where state = 'available'"


def _settled(id: int) -> dict[str, object]:
    row = dict.fromkeys(("scheduled_at", "completed_at", "discarded_at", "cancelled_at"))
    return {
        **row,
        "id": id,
        "take": 1,
        "was": "executing",
        "producer": "p",
        "state": "retryable",
        "attempt": 1,
        "max_attempts": 20,
        "errors": [],
        "meta": {},
        "replaced": {},
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _calls(ids: list[int]) -> dict[str, dict[str, object]]:
    """Give each statement what the engine gives it."""
    ages = {"completed": 86_400.0, "cancelled": 86_400.0, "discarded": None}
    fences = [fenced(each, 1) for each in ids]
    keys = [f"key {each}" for each in ids]
    return {
        "exchange_jobs": {
            "fences": fences,
            "producer": "p",
            "node": "n",
            "queue": "default",
            "demand": len(ids),
            "after_priority": 0,
            "after_time": NOW,
            "after_id": 5,
        },
        "settle_jobs": {"settled": _json([_settled(each) for each in ids]), "ids": ids},
        "progress_jobs": {
            "told": _json([{"id": each, "take": 1, "progress": {}} for each in ids]),
            "ids": ids,
            "producer": "p",
        },
        "stage_jobs": {"limit": 5_000},
        "ready_queues": {"queues": ["default", "other"]},
        "orphaned_jobs": {"limit": 1_000},
        "hand_back_jobs": {"producer": "p", "fences": fences},
        "held_jobs": {"ids": ids},
        "prune_jobs": {"limit": 10_000, **ages},
        "delete_jobs": {"ids": ids, "limit": None},
        "lock_jobs": {"ids": ids, "limit": None},
        "tally_jobs": {"ids": ids},
        "keys_of_jobs": {"ids": ids, "limit": None},
        "lock_keys": {"keys": _json(keys), "patience": None},
        "find_holders": {"keys": _json(keys)},
        "claim_keys": {
            "holders": _json(dict(zip(keys, ids, strict=True))),
            "states": '["available"]',
            "period": None,
            "timestamp": "inserted_at",
        },
        "next_keys": {"after": "key 2", "limit": 100},
        "lock_vacant_keys": {"after": "key 2", "until": "key 21"},
        "delete_vacant_keys": {"keys": keys},
        "forget_producers": {},
        "list_jobs": {"ids": ids[:1], "limit": 50},
    }


def _statement(name: str) -> Statement:
    """Find the statement that the engine would use: by id, where one can ask in many ways."""
    if name in ASKED:
        return Filtered(name, ("ids", *(["states"] if name in UNFINISHED else [])), UNFINISHED.get(name, ()))
    return name


# PostgreSQL


@pytest.fixture
def postgres_plans(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A database whose statistics change only when told."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("alter table oban_jobs set (autovacuum_enabled = false)")
        connection.execute("analyze oban_jobs")
        connection.execute(FILL_POSTGRES.encode())
        yield connection


def _explained(connection: psycopg.Connection, asked: Statement, params: dict[str, object]) -> str:
    """Tell the plan for these values, which a server makes for the first few times that a statement runs."""
    return _plan(connection.execute(b"explain (costs off) " + sql_of(asked, "public"), params))


def _explained_for_any_values(
    connection: psycopg.Connection, asked: Statement, params: dict[str, object]
) -> str:
    """Tell the plan that a server makes once for a prepared statement, whatever its values will be."""
    names = [*dict.fromkeys(PARAMETER.findall(statement("postgres", asked)))]
    numbered = PARAMETER.sub(
        lambda found: f"${names.index(found[1]) + 1}", statement("postgres", asked, "public")
    )
    values = Composed([Literal(params[name]) for name in names]).join(", ")
    connection.execute("set plan_cache_mode = force_generic_plan")
    connection.execute(f"prepare asked as {numbered}".encode())
    try:
        given = SQL("({})").format(values) if names else SQL("")
        return _plan(connection.execute(SQL("explain (costs off) execute asked {}").format(given)))
    finally:
        connection.execute("deallocate asked")
        connection.execute("reset plan_cache_mode")


def _plan(lines: Iterable[tuple[str]]) -> str:
    return "\n".join(line for (line,) in lines)


def _postgres_plans(connection: psycopg.Connection, batch: int, explained: Explained) -> dict[str, str]:
    found = connection.execute("select id from oban_jobs where state = 'executing' limit %s", [batch])
    ids = [each for (each,) in found]
    calls = {**_calls(ids), "used_keys": {"keys": _json([f"key {each}" for each in ids])}}
    return {
        name: explained(connection, _statement(name), {"now": None, **params})
        for name, params in calls.items()
    }


def _refuse_scans(plans: dict[str, str]) -> None:
    scans = {
        name: plan
        for name, plan in plans.items()
        if "Seq Scan on oban_jobs" in plan or "Seq Scan on staffa_keys" in plan
    }
    assert scans == {}
    exchange = plans["exchange_jobs"]
    assert "Index Scan using staffa_jobs_available_index" in exchange
    assert "(ROW(priority, scheduled_at, id) > ROW(" in next(
        line for line in exchange.splitlines() if "Index Cond: ((queue = " in line
    )
    assert "Join" not in exchange
    assert exchange.count("oban_jobs_pkey") >= 3
    assert plans["stage_jobs"].count("staffa_jobs_due_index") == 2
    assert "staffa_jobs_available_index" in plans["ready_queues"]
    assert "staffa_jobs_executing_index" in plans["orphaned_jobs"]
    assert "staffa_jobs_executing_index" in plans["hand_back_jobs"]
    assert "staffa_jobs_completed_index" in plans["prune_jobs"]
    assert "Index Cond: (id = ANY" in plans["list_jobs"]


@pytest.mark.parametrize("explained", [_explained, _explained_for_any_values])
def test_no_statement_scans_the_jobs_of_postgres_with_stale_or_fresh_statistics(
    postgres_plans: psycopg.Connection, explained: Explained
):
    for change in (
        "select 'statistics of an empty table'",
        "analyze oban_jobs",
        ALL_DONE,
        "analyze oban_jobs",
    ):
        postgres_plans.execute(change)
        for batch in (10, 500):
            _refuse_scans(_postgres_plans(postgres_plans, batch, explained))


# SQLite


@pytest.fixture
def sqlite_plans(sqlite_url: str) -> Iterator[sqlite3.Connection]:
    instance = Staffa(sqlite_url, run_queues=False)
    instance.migrate()
    instance.close()
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.executescript(FILL_SQLITE)
        yield connection


def _sqlite_plans(connection: sqlite3.Connection) -> dict[str, str]:
    return {
        name: "\n".join(
            row[3]
            for sql in statements(_statement(name))
            for row in connection.execute(
                f"explain query plan {sql}",
                {key: _json(value) if isinstance(value, list) else value for key, value in params.items()}
                | {"now": NOW},
            )
        )
        for name, params in _calls([1, 2]).items()
    }


@pytest.mark.parametrize("statistics", ["none", "fresh", "all done"])
def test_no_statement_scans_the_jobs_of_sqlite(sqlite_plans: sqlite3.Connection, statistics: str):
    if statistics == "all done":
        sqlite_plans.execute(ALL_DONE)
    if statistics != "none":
        sqlite_plans.execute("analyze")
    plans = _sqlite_plans(sqlite_plans)

    whole = {
        name: plan
        for name, plan in plans.items()
        for line in plan.splitlines()
        if line.startswith(("SCAN oban_jobs", "SCAN staffa_keys", "SCAN held"))
        and "staffa_jobs_executing_index" not in line
    }
    assert whole == {}
    for name in (
        "exchange_jobs",
        "settle_jobs",
        "progress_jobs",
        "held_jobs",
        "delete_jobs",
        "lock_jobs",
        "list_jobs",
    ):
        assert "SEARCH oban_jobs USING INTEGER PRIMARY KEY" in plans[name]
    assert "SEARCH oban_jobs USING INDEX staffa_jobs_available_index (queue=?)" in plans["exchange_jobs"]
    assert "SEARCH oban_jobs USING INDEX staffa_jobs_due_index (scheduled_at<?)" in plans["stage_jobs"]
    assert "staffa_jobs_due_index (scheduled_at>? AND scheduled_at<?)" in plans["stage_jobs"]
    assert "staffa_jobs_available_index (queue=?)" in plans["ready_queues"]
    assert "USING INDEX staffa_jobs_executing_index" in plans["orphaned_jobs"]
    assert "USING INDEX staffa_jobs_executing_index" in plans["hand_back_jobs"]
    for state in ("completed", "cancelled", "discarded"):
        assert f"SEARCH oban_jobs USING INDEX staffa_jobs_{state}_index ({state}_at<?)" in plans["prune_jobs"]
    assert "TEMP B-TREE" not in plans["exchange_jobs"] + plans["stage_jobs"] + plans["list_jobs"]


# What filters ask for


@pytest.mark.parametrize(
    ("states", "index"),
    [
        (("executing",), "staffa_jobs_executing_index"),
        (("discarded",), "staffa_jobs_discarded_index"),
        (("completed",), "oban_jobs_pkey"),
    ],
)
def test_a_listing_by_state_reads_few_rows_whether_many_jobs_are_in_it_or_none(
    postgres_plans: psycopg.Connection, states: tuple[str, ...], index: str
):
    postgres_plans.execute("analyze oban_jobs")
    asked = Filtered("list_jobs", ("states",), states)
    plan = _explained(postgres_plans, asked, {"limit": 50})
    assert index in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("name", ["list_jobs", "tally_jobs", "lock_jobs"])
def test_containment_is_found_by_its_index(postgres_plans: psycopg.Connection, postgres_url: str, name: str):
    postgres_plans.execute(
        """update oban_jobs set args = jsonb_build_object('id', id) where state in ('completed', 'available')"""
    )
    instance = Staffa(postgres_url, run_queues=False)
    instance.migrate(indexes=["args"])
    instance.close()
    try:
        postgres_plans.execute("analyze oban_jobs")
        plan = _explained(
            postgres_plans,
            Filtered(name, ("args",), ()),
            {"args": '{"id": 777}', "limit": 50},
        )
    finally:
        postgres_plans.execute("drop index staffa_jobs_args_index")
    assert "staffa_jobs_args_index" in plan
