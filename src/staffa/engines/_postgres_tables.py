"""Moving PostgreSQL's tables between versions: one process at a time, and nobody who works is kept waiting."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import IsolationLevel

from staffa._spelling import unknown
from staffa.engine import TablesStatus
from staffa.engines._postgres_session import sql, translating
from staffa.engines._sql.migrations import (
    FOUNDATION,
    JOB_INDEX,
    above,
    checked,
    indexes_jobs,
    lost_tables,
    pending,
    qualified,
    script,
    there,
    way_back,
)
from staffa.engines._sql.statements import COMMENT_LINE, ROOT, quoted_name, split
from staffa.errors import ConfigError, DatabaseUnavailable, SchemaUnsupported

logger = logging.getLogger("staffa")

DIALECT = "postgres"
JOB_TABLE = "oban_jobs"
TRY_LOCK = (
    b"select pg_try_advisory_xact_lock(7823301)"  # without parameters, which would keep a snapshot open
)
LARGE_TABLE_BYTES = 16 * 1024 * 1024  # beyond this, an index is made while others write
LOCK_TIMEOUT_SECONDS = 2.0  # who waits for a lock keeps all others waiting behind it
LOCK_TRIES = 30
LOCK_PAUSE_SECONDS = 2.0
TURN_PAUSE_SECONDS = 0.2

CONTAINMENT_INDEXES = {
    "args": "create index if not exists staffa_jobs_args_index on oban_jobs using gin (args jsonb_path_ops)",
    "meta": "create index if not exists staffa_jobs_meta_index on oban_jobs using gin (meta jsonb_path_ops)",
    "tags": "create index if not exists staffa_jobs_tags_index on oban_jobs using gin (tags)",
}

OLDEST_OBAN, OUR_OBAN = 12, 14
OBAN_COLUMNS = {
    "id": "bigint",
    "queue": "text",
    "worker": "text",
    "args": "jsonb",
    "errors": "jsonb[]",
    "attempt": "integer",
    "max_attempts": "integer",
    "inserted_at": "timestamp without time zone",
    "scheduled_at": "timestamp without time zone",
    "attempted_at": "timestamp without time zone",
    "completed_at": "timestamp without time zone",
    "attempted_by": "text[]",
    "discarded_at": "timestamp without time zone",
    "priority": "integer",
    "tags": "text[]",
    "meta": "jsonb",
    "cancelled_at": "timestamp without time zone",
}
OBAN_INDEXES = {"oban_jobs_state_cancelled_at_index", "oban_jobs_state_discarded_at_index"}
STATE_OF_V14 = "suspended"
Line = psycopg.Connection[Any]


class ObanTable(NamedTuple):
    """The table that is there, whoever made it."""

    comment: str | None
    bytes: int
    columns: Mapping[str, str]
    states: Sequence[str]
    indexes: Sequence[str]
    triggers: Sequence[str]

    @property
    def version(self) -> int | None:
        """The version that Oban wrote down; None where it wrote none, or something that is no number."""
        text = self.comment or ""
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def looks_like(self) -> int:
        """The version that the table has, as far as one can see."""
        if self.triggers or OBAN_COLUMNS.keys() - self.columns.keys():
            return OLDEST_OBAN - 1
        if STATE_OF_V14 in self.states:
            return OUR_OBAN
        return OUR_OBAN - 1 if set(self.indexes) >= OBAN_INDEXES else OLDEST_OBAN


class PostgresTables:
    """The tables in one schema of one PostgreSQL database."""

    def __init__(self, url: str, schema: str, options: Mapping[str, Any]) -> None:
        self._url, self._schema, self._options = url, schema, options

    def status(self) -> TablesStatus:
        with self._line() as line:
            done, found = self._applied(line), found_table(line, self._schema)
        maker = "staffa" if FOUNDATION in done else "oban"
        return TablesStatus(
            applied=[version for version in done if version != FOUNDATION],
            pending=pending(DIALECT, done),
            made_by=maker if found else None,
            oban_version=found.comment if found else None,
            trouble=trouble_with(found, self._schema) if found else None,
        )

    def forward(self, to: int | None = None) -> list[int]:
        wanted = checked(DIALECT, to)
        with self._turn(), self._line() as line:
            done = self._applied(line)
            missing = pending(DIALECT, done, wanted)
            if not missing:
                return []
            found = found_table(line, self._schema)
            if found is not None and not done:
                self._adopt(line, found)
            if found is not None and found.bytes > LARGE_TABLE_BYTES:
                for version in missing:
                    self._apply_beside_others(line, version)
            else:
                self._execute(
                    line,
                    [*self._place(line), *(each for version in missing for each in there(DIALECT, version))],
                )
            return missing

    def back(self, to: int) -> list[int]:
        checked(DIALECT, to)
        with self._turn(), self._line() as line:
            done = self._applied(line)
            if done:
                self._execute(line, way_back(DIALECT, done, to))
            return above(done, to)

    def losses(self, to: int) -> dict[str, int]:
        with self._line() as line:
            done = self._applied(line)
            tables = lost_tables(DIALECT, done, checked(DIALECT, to)) if done else []
            counted = {table: self._rows(line, table) for table in tables}
        return {table: rows for table, rows in counted.items() if rows}

    def index(self, columns: Sequence[str]) -> list[str]:
        for column in columns:
            if column not in CONTAINMENT_INDEXES:
                raise ConfigError(f"indexes: {unknown(column, CONTAINMENT_INDEXES, 'column')}")
        if not columns:
            return []
        with self._turn(), self._line() as line:
            there_are = {row[0] for row in line.execute(sql("containment_indexes", self._schema), {})}
            missing = [column for column in dict.fromkeys(columns) if column not in there_are]
            for column in missing:
                self._make_index(line, CONTAINMENT_INDEXES[column])
            return missing

    def script(self, since: int, to: int | None = None) -> list[str]:
        return script(DIALECT, self._schema, checked(DIALECT, since), checked(DIALECT, to))

    # What is there

    def _applied(self, line: Line) -> list[int]:
        try:
            return [row[0] for row in line.execute(sql("schema_versions", self._schema), {})]
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return []

    def _rows(self, line: Line, table: str) -> int:
        try:
            [(rows,)] = line.execute(qualified(f"select count(*) from {table}", self._schema).encode())  # noqa: S608 - a table of ours
        except psycopg.errors.UndefinedTable:
            return 0
        return int(rows)

    def _place(self, line: Line) -> list[str]:
        """Make the schema where there is none; few roles may, and even asking for `if not exists` needs the right."""
        there_is_one = line.execute("select from pg_namespace where nspname = %s", [self._schema]).fetchall()
        return [] if there_is_one else [f"create schema {quoted_name(self._schema)}"]

    # What Oban made

    def _adopt(self, line: Line, found: ObanTable) -> None:
        """Bring a table that Oban made to the version that we know. Raises `SchemaUnsupported`."""
        if why := trouble_with(found, self._schema):
            raise SchemaUnsupported(why)
        version = found.version if found.version is not None else OUR_OBAN
        steps = [_of_oban(each) for each in range(version + 1, OUR_OBAN + 1)]
        statements = [each for step in steps for each in step]
        if found.bytes > LARGE_TABLE_BYTES:
            for each in filter(indexes_jobs, statements):
                self._make_index(line, each)
        # A new state cannot be used by the transaction that adds it, so ours begins after this one.
        self._execute(line, statements)

    # How it is done

    def _apply_beside_others(self, line: Line, version: int) -> None:
        """Apply a version to a large table; it counts as applied when its last index is made."""
        *statements, record = there(DIALECT, version)
        self._execute(line, [each for each in statements if not indexes_jobs(each)])
        for each in filter(indexes_jobs, statements):
            self._make_index(line, each)
        self._execute(line, [record])

    def _make_index(self, line: Line, statement: str) -> None:
        """Make an index while others write; first take away what an interrupted attempt has left."""
        found = JOB_INDEX.match(statement)
        name = found[2] if found else ""
        # Making it waits for all open transactions; nobody waits behind it, so it may.
        line.execute("set lock_timeout = 0")
        line.execute("set statement_timeout = 0")
        left = line.execute(
            "select from pg_index where not indisvalid and indrelid = to_regclass(%s)"
            " and indexrelid = to_regclass(%s)",
            [f"{quoted_name(self._schema)}.{each}" for each in (JOB_TABLE, name)],
        ).fetchall()
        if left:
            line.execute(f"drop index concurrently {quoted_name(self._schema)}.{name}".encode())
        logger.info(
            "making the index %s; on a large table this takes a while, and keeps nobody waiting", name
        )
        line.execute(qualified(statement.replace("index", "index concurrently", 1), self._schema).encode())

    def _execute(self, line: Line, statements: Sequence[str]) -> None:
        """Execute in one transaction that gives up soon, and tries again, where somebody holds a lock."""
        for tried in range(1, LOCK_TRIES + 1):
            try:
                with line.transaction():
                    line.execute(f"set local lock_timeout = '{LOCK_TIMEOUT_SECONDS:.0f}s'".encode())
                    line.execute("set local statement_timeout = 0")
                    for each in statements:
                        line.execute(qualified(each, self._schema).encode())
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                if tried == LOCK_TRIES:
                    raise DatabaseUnavailable(self._who_holds_it(line)) from error
                if tried == 1:
                    logger.warning("migrate waits for a lock: %s", self._who_holds_it(line))
                time.sleep(random.uniform(0.5, 1.0) * LOCK_PAUSE_SECONDS)  # noqa: S311 - no secret
            else:
                return

    def _who_holds_it(self, line: Line) -> str:
        names = {"schema": self._schema, "job_table": JOB_TABLE}
        held = [
            f"process {pid} (for {seconds or 0} s: {' '.join(query.split())[:80]})"
            for pid, seconds, query in line.execute(sql("lock_holders", self._schema), names)
        ]
        whom = ", ".join(held) or "somebody who has just ended"
        return f"{JOB_TABLE} is locked by {whom}: end it, then run `staffa migrate` again"

    @contextmanager
    def _line(self) -> Iterator[Line]:
        with translating(), psycopg.connect(self._url, **self._options) as line:
            yield line

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep all other processes from migrating.

        The lock belongs to an idle transaction of its own: indexes that are made while others write wait for all
        transactions that still look at something, those that wait for a lock too.
        """
        while True:
            with self._line() as keeper:
                keeper.isolation_level = IsolationLevel.READ_COMMITTED
                with keeper.transaction():
                    keeper.execute("set local idle_in_transaction_session_timeout = 0")
                    [(ours,)] = keeper.execute(TRY_LOCK)
                    if ours:
                        yield
                        return
            time.sleep(TURN_PAUSE_SECONDS)


def _of_oban(version: int) -> tuple[str, ...]:
    """Read what Oban's own migration to a version does."""
    return split(COMMENT_LINE.sub("", (ROOT / DIALECT / "oban" / f"{version:03}.sql").read_text()))


def found_table(line: Line, schema: str) -> ObanTable | None:
    """Look at the table that is there."""
    names = {"schema": schema, "job_table": JOB_TABLE}
    for comment, size, columns, *rest in line.execute(sql("oban_table", schema), names):
        return ObanTable(comment, size, dict(each.split(" ", 1) for each in columns), *rest)
    return None


def trouble_with(found: ObanTable, schema: str) -> str | None:
    """Say why a table cannot be used, and what to do."""
    table = f"{quoted_name(schema)}.{JOB_TABLE}"
    differing = [
        f"{name} is {found.columns[name]} instead of {kind}"
        for name, kind in OBAN_COLUMNS.items()
        if found.columns.get(name, kind) != kind
    ]
    if differing:
        return (
            f"{table} has other columns than Oban's own ({', '.join(differing)}), as Oban for Python makes it:"
            ' keep Staffa\'s tables in a schema of their own, as in schema = "staffa"'
        )
    if (found.version if found.version is not None else found.looks_like) < OLDEST_OBAN:
        return (
            f"{table} is of version {found.comment or 'before 12'} of Oban's migrations, and Staffa needs"
            f" {OLDEST_OBAN} or later: run Oban's own first, as in Oban.Migration.up(version: {OUR_OBAN})"
        )
    if found.comment is None:
        return (
            f"{table} has no version: Oban keeps it in the table's comment, which backups may lose, and would run all"
            f" its migrations again; the table looks like version {found.looks_like}, so say:"
            f" comment on table {table} is '{found.looks_like}'"
        )
    missing = sorted(OBAN_COLUMNS.keys() - found.columns.keys())
    if missing:
        return f"{table} lacks {', '.join(missing)} and is none that Oban made: rename it, or choose another schema"
    if STATE_OF_V14 not in found.states and (found.version is None or found.version >= OUR_OBAN):
        return (
            f"{table} has {found.comment!r} as its comment, but no state {STATE_OF_V14!r}, which version {OUR_OBAN} of"
            f" Oban's migrations adds: run these, or, if the comment is wrong, say: comment on table {table} is"
            f" '{found.looks_like}'"
        )
    return None
