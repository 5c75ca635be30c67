"""Rebuild indexes beside those who write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg

from staffa.engine import Reindexed
from staffa.engines._postgres_session import sql
from staffa.engines._sql.statements import quoted_name

REINDEX_LOCK = 7_823_302  # any number will do, if it is always the same


def rebuild(
    connection: psycopg.Connection[Any], schema: str, indexes: Sequence[str], within: timedelta
) -> Reindexed:
    """Rebuild indexes, then drop what was left behind by rebuilding that was interrupted.

    Each in a transaction of its own, so that one that fails stops no other; one process at a time.
    """
    if not connection.execute("select pg_try_advisory_lock(%s)", [REINDEX_LOCK]).fetchall()[0][0]:
        return Reindexed([], [], {})
    milliseconds = str(int(within.total_seconds() * 1000))
    connection.execute("select set_config('statement_timeout', %s, false)", [milliseconds])

    failed: dict[str, str] = {}
    wanted = list(indexes) or _indexes(connection, schema, leftover=False)
    rebuilt = [name for name in wanted if _done(connection, "reindex", schema, name, failed)]
    left = _indexes(connection, schema, leftover=True)
    dropped = [name for name in left if _done(connection, "drop", schema, name, failed)]
    return Reindexed(rebuilt, dropped, failed)


def _indexes(connection: psycopg.Connection[Any], schema: str, *, leftover: bool) -> list[str]:
    rows = connection.execute(sql("list_indexes", schema), {}).fetchall()
    return [name for name, is_leftover in rows if is_leftover == leftover]


def _done(
    connection: psycopg.Connection[Any], verb: str, schema: str, name: str, failed: dict[str, str]
) -> bool:
    """Do something to an index; note why where it failed."""
    qualified = f"{quoted_name(schema)}.{quoted_name(name)}"
    try:
        connection.execute(f"{verb} index concurrently {qualified}".encode())
    except psycopg.Error as error:
        failed[name] = str(error).strip()
    return name not in failed
