"""What can be wrong with a PostgreSQL server, seen by one who only looks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg

from staffa._clock import utc_now
from staffa._finding import Finding, fine, notice, problem
from staffa.config import without_password
from staffa.engines._postgres_session import sql
from staffa.engines._postgres_tables import found_table, trouble_with
from staffa.engines._sql.migrations import migrations
from staffa.engines._sql.statements import quoted_name

logger = logging.getLogger("staffa")

OLDEST_TESTED = 140_000
LISTEN_SECONDS = 2.0
LOOK_TIMEOUT = "set statement_timeout = '5s'"
LONGEST_TRANSACTION = timedelta(minutes=5)
LARGEST_SKEW = timedelta(seconds=2)
FULL = 0.9
HALF_FULL = 0.5
FEW_DEAD_ROWS = 10_000

ENDING = {
    "transaction": "find out whose it is; `select pg_terminate_backend({})` ends it",
    "prepared transaction": "`commit prepared '{0}'` or `rollback prepared '{0}'`",
    "replication slot": "let its replica catch up, or `select pg_drop_replication_slot('{}')`",
}

Connection = psycopg.Connection[Any]
Check = Callable[[Connection, str], Iterator[Finding]]


def examine(url: str, schema: str, options: Mapping[str, Any]) -> Iterator[Finding]:
    """Look at a server, its tables, and whether it notifies. Nothing is written."""
    place = without_password(url)
    try:
        connection = psycopg.connect(url, **options)
    except psycopg.Error as error:
        yield problem(
            "database",
            f"{place} cannot be reached: {str(error).strip()}",
            "check the URL, and whether the server runs and lets this machine in",
        )
        return
    with connection:
        connection.execute(LOOK_TIMEOUT)
        for check in (_database, _tables, _vacuum, _transactions):
            yield from _guarded(check, connection, schema)
        yield from _listening(url, options, connection)


def _guarded(check: Check, connection: Connection, schema: str) -> Iterator[Finding]:
    try:
        yield from check(connection, schema)
    except psycopg.Error as error:
        if check is _vacuum and isinstance(error, psycopg.errors.UndefinedTable):
            return  # `_tables` has said that it is missing
        name = check.__name__.strip("_")
        yield notice(
            name, f"could not be looked at: {str(error).strip()}", "give this role the right to look"
        )


def _database(connection: Connection, schema: str) -> Iterator[Finding]:
    asked = utc_now()
    [[version, number, reads_only, vacuums, told, used, allowed, clock]] = connection.execute(
        sql("examine_server", schema), {}
    ).fetchall()
    between = asked + (utc_now() - asked) / 2

    if reads_only:
        yield problem(
            "database", f"PostgreSQL {version} takes no writes", "point the URL at the primary server"
        )
    elif number < OLDEST_TESTED:
        yield notice("database", f"PostgreSQL {version} is older than those tested", "upgrade to 14 or newer")
    else:
        yield fine("database", f"PostgreSQL {version}")
    yield _skew(clock - between)
    if used > allowed * FULL:
        yield notice(
            "connections",
            f"{used} of {allowed} connections are in use",
            "raise max_connections, or put a pooler before the server",
        )
    if not vacuums:
        yield problem("vacuum", "autovacuum is off, so tables only grow", "turn autovacuum on")
    if told > HALF_FULL:
        yield problem(
            "notifications",
            f"the queue of notifications is {told:.0%} full; at 100% every commit that notifies fails",
            "end the oldest transaction of a session that listens",
        )


def _skew(skew: timedelta) -> Finding:
    if abs(skew) <= LARGEST_SKEW:
        return fine("clock", "this machine and the database agree about the time")
    ahead = "ahead of" if skew > timedelta(0) else "behind"
    return notice(
        "clock",
        f"the database's clock is {abs(skew.total_seconds()):.1f} s {ahead} this machine's; jobs go by the database's",
        "synchronise both clocks (NTP): instants that programs compute here, as scheduled_at, are off by that much",
    )


def _tables(connection: Connection, schema: str) -> Iterator[Finding]:
    try:
        done = {row[0] for row in connection.execute(sql("schema_versions", schema), {})}
    except psycopg.errors.UndefinedTable:
        done = set()
    known = set(migrations("postgres"))
    if missing := known - done:
        yield problem(
            "tables", f"the tables in schema {schema} lack version {min(missing)}", "run `staffa migrate`"
        )
    elif newer := [version for version in done if version > max(known)]:
        yield notice(
            "tables",
            f"the tables have version {max(newer)}, which this Staffa does not know",
            "upgrade Staffa here too",
        )
    else:
        yield fine("tables", f"schema {schema} has version {max(done)}")
    if (found := found_table(connection, schema)) and (trouble := trouble_with(found, schema)):
        yield notice(
            "Oban's version", trouble, "without it, Oban's own migrations and `staffa migrate` go astray"
        )


def _vacuum(connection: Connection, schema: str) -> Iterator[Finding]:
    for kind, name, dead, live in connection.execute(sql("examine_tables", schema), {}):
        if kind == "invalid":
            yield notice(
                "indexes",
                f"{name} is not valid: building it was interrupted",
                f"drop index concurrently {name}; then `staffa migrate` or the Reindexer makes a good one",
            )
        elif dead > max(FEW_DEAD_ROWS, live):
            yield notice(
                "vacuum",
                f"{dead:,.0f} dead rows stand beside {live:,.0f} living ones in {quoted_name(schema)}.oban_jobs",
                "see whether an open transaction holds vacuum back; let autovacuum run more often on this table",
            )


def _transactions(connection: Connection, schema: str) -> Iterator[Finding]:
    params = {"seconds": LONGEST_TRANSACTION.total_seconds()}
    held = connection.execute(sql("examine_transactions", schema), params).fetchall()
    for kind, name, doing, seconds in held:
        since = "" if seconds is None else f" for {timedelta(seconds=int(seconds))}"
        yield notice(
            "transactions",
            f"{kind} {name} is open{since} ({doing}); vacuum cannot remove what died since, and fetching slows down",
            ENDING[kind].format(name),
        )
    if not held:
        yield fine("transactions", f"none is open for longer than {LONGEST_TRANSACTION}")


def _listening(url: str, options: Mapping[str, Any], connection: Connection) -> Iterator[Finding]:
    """Tell ourselves something, as only a direct connection or a pooler in session mode carries it."""
    channel = f"staffa_examination_{uuid4().hex}"
    try:
        with psycopg.connect(url, **options) as listener:
            listener.execute(f"listen {channel}".encode())
            connection.execute("select pg_notify(%s, '{}')", [channel])
            heard = list(listener.notifies(timeout=LISTEN_SECONDS, stop_after=1))
    except psycopg.Error as error:
        yield notice(
            "notifications", f"could not be tried: {str(error).strip()}", "allow a second connection"
        )
        return
    if heard:
        yield fine("notifications", "LISTEN and NOTIFY work")
    else:
        yield problem(
            "notifications",
            "what is notified is not heard, so queues only find jobs at their next poll",
            "a pooler in transaction mode stands between: connect directly, or by a pooler in session mode",
        )
