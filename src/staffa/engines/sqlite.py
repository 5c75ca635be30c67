"""SQLite: one file, one writer, no server."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from staffa._finding import Finding
from staffa.engine import Engine, Reindexed, TablesStatus
from staffa.engines import _sqlite_tables as tables
from staffa.engines._containment import teach
from staffa.engines._sql.connection import Connection, InsideTransaction
from staffa.engines._sql.engine import SqlEngine
from staffa.engines._sql.migrations import checked, script
from staffa.engines._sql.session import Session
from staffa.engines._sqlite_examination import examine
from staffa.engines._sqlite_session import Execute, SqliteSession, translating
from staffa.engines._sqlite_writer import BACKSTOP_CHECKPOINT_PAGES, Writer
from staffa.errors import ConfigError, DatabaseError, UnsupportedConnection
from staffa.notifier import Notifier
from staffa.notifiers.local import LocalNotifier
from staffa.notifiers.sqlite import SqliteNotifier
from staffa.telemetry import Telemetry

T = TypeVar("T")
Body = Callable[[Session], Coroutine[Any, Any, T]]

LEADER_CHECKPOINT_PAGES = 1_000
ACKS_WORTH_A_STEP = 16  # fewer are done sooner by the plain statements
IN_MEMORY = "a database in memory has one connection, and no other can join it: connection= needs a file"


class SqliteDatabase:
    """One SQLite file, or one database in memory. Its tables are made on first use."""

    dialect, schema, channel = "sqlite", None, None

    def __init__(self, url: str, *, telemetry: Telemetry | None = None) -> None:
        self.path = path_of(url)
        self.reach = None if self.path == ":memory:" else f"sqlite:///{quote(self.path)}"
        self.telemetry = telemetry or Telemetry()
        local = LocalNotifier(self.telemetry)
        self.writer = Writer(self.path, tell=local.tell)
        self._notifier = SqliteNotifier(local, self.writer, self.telemetry, self.make_tables)
        self.reader = self.writer if self.path == ":memory:" else Writer(self.path, reads_only=True)
        self.has_tables = False
        self.tables = SqliteTables(self)
        self.engine = SqlEngine(Awaited(self), telemetry=self.telemetry)
        self.plain = SqlEngine(Blocking(self), telemetry=self.telemetry)

    @contextmanager
    def alone(self) -> Iterator[Engine]:
        """Use the writer's thread: it beats whatever the event loop does."""
        yield SqlEngine(Blocking(self))

    def joined(self, connection: Any) -> Engine:
        if not isinstance(connection, sqlite3.Connection):
            raise UnsupportedConnection(
                f"this instance keeps its jobs in SQLite; it cannot join a {type(connection).__module__}."
                f"{type(connection).__qualname__}: give a sqlite3.Connection to {self.path}"
            )
        if self.path == ":memory:":
            raise UnsupportedConnection(IN_MEMORY)
        with translating():
            self._prepare(connection)
        return SqlEngine(Joined(connection), telemetry=self.telemetry)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Refuse a connection that leads elsewhere or would commit by itself; make the tables it will need."""
        if not self._is_ours(connection):
            raise UnsupportedConnection(
                f"this connection leads to another database than this instance, which keeps its jobs in {self.path}"
            )
        if commits_by_itself(connection):
            raise UnsupportedConnection(
                "this connection is in no transaction and would commit at once: begin one first"
            )
        teach(connection, _own_rows(connection))
        if connection.in_transaction:
            self.make_tables_inside(_own_rows(connection))
        else:
            self.make_tables()

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Tell whether a connection's main file is ours; one that is not there yet is compared by its name."""
        cursor = connection.cursor()
        cursor.row_factory = None
        files = [str(file) for _, name, file in cursor.execute("pragma database_list") if name == "main"]
        return [os.path.realpath(file) for file in files if file] == [os.path.realpath(self.path)]

    def notifier(self) -> Notifier:
        return self._notifier

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.make_tables)

    async def close(self) -> None:
        self.leading(leads=False)

    def dispose(self) -> None:
        self.writer.stop()
        self.reader.stop()
        if self.path == ":memory:":
            self.has_tables = False

    def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        """Rebuild indexes, each in a turn of its own, so that others write in between."""
        self.make_tables()
        found = [name for name, _ in self.writer.do(lambda session: session.run("list_indexes")).result()]
        rebuilt, failed = [], {}
        for name in indexes or found:
            try:
                self.writer.do(partial(SqliteSession.reindex, name=name, within=within)).result()
            except DatabaseError as error:
                failed[name] = str(error)
            else:
                rebuilt.append(name)
        return Reindexed(rebuilt, [], failed)

    def make_tables(self) -> None:
        if not self.has_tables:
            self.tables.forward()

    def make_tables_inside(self, execute: Execute) -> None:
        """Make missing tables in a caller's transaction, which keeps everyone else from making them."""
        if not self.has_tables:
            with translating():
                tables.forward(execute)

    def examine(self) -> Iterator[Finding]:
        return examine(self.path)

    def leading(self, *, leads: bool) -> None:
        """Let only the leader checkpoint; others would race it (sqlite.org/wal.html, the WAL-reset bug)."""
        self.writer.pragma(
            "wal_autocheckpoint", LEADER_CHECKPOINT_PAGES if leads else BACKSTOP_CHECKPOINT_PAGES
        )


class SqliteTables:
    """The tables of one file; each way is one transaction."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def status(self) -> TablesStatus:
        return self._do(tables.status)

    def forward(self, to: int | None = None) -> list[int]:
        applied = self._do(lambda execute: tables.forward(execute, to))
        self._database.has_tables = to in (None, checked("sqlite", None))
        return applied

    def back(self, to: int) -> list[int]:
        self._database.has_tables = False
        return self._do(lambda execute: tables.back(execute, to))

    def losses(self, to: int) -> dict[str, int]:
        return self._do(lambda execute: tables.losses(execute, to))

    def index(self, columns: Sequence[str]) -> list[str]:
        if columns:
            raise ConfigError(
                "indexes: SQLite has none for what args, meta and tags contain; it looks at every job that the rest"
                " of a filter leaves, so ask for states, queues, workers or instants too"
            )
        return []

    def script(self, since: int, to: int | None = None) -> list[str]:
        return script("sqlite", None, checked("sqlite", since), checked("sqlite", to))

    def _do(self, work: Callable[[Execute], T]) -> T:
        return self._database.writer.do(lambda session: session.on_tables(work)).result()


# Connections: how a word gets its session


class Awaited(Connection):
    """Words are awaited; the writer's thread runs each from its first to its last statement."""

    looks_first = True  # they need no turn of the one writer

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def write(self, body: Body[T]) -> T:
        await self._ready()
        return await asyncio.wrap_future(self._database.writer.do(body))

    async def exchange(self, body: Body[T], acks: int) -> T:
        await self._ready()
        writer = self._database.writer
        if acks < ACKS_WORTH_A_STEP:
            return await asyncio.wrap_future(writer.do(body))
        exchanged = await asyncio.wrap_future(writer.exchange(body))
        writer.give_head_start()  # a burst of jobs follows, and another exchange may wait
        return exchanged

    async def read(self, body: Body[T]) -> T:
        await self._ready()
        return await asyncio.wrap_future(self._database.reader.do(body))

    async def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        return await asyncio.get_running_loop().run_in_executor(None, self._database.reindex, indexes, within)

    async def _ready(self) -> None:
        if not self._database.has_tables:
            await asyncio.get_running_loop().run_in_executor(None, self._database.make_tables)


class Blocking(Connection):
    """Words block until the writer's thread has run them, so their coroutines never wait."""

    looks_first = True  # they need no turn of the one writer

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def write(self, body: Body[T]) -> T:
        self._database.make_tables()
        return self._database.writer.do(body).result()

    async def read(self, body: Body[T]) -> T:
        self._database.make_tables()
        return self._database.reader.do(body).result()

    async def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        return self._database.reindex(indexes, within)


class Joined(InsideTransaction):
    """Words run at once on a connection that the caller owns; its transaction is never begun or ended here."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._session = SqliteSession(connection)

    def write(self, body: Body[T]) -> Awaitable[T]:
        return body(self._session)

    read = write


# What callers give


def path_of(url: str) -> str:
    """Find the file in a URL as SQLAlchemy writes it: `sqlite:///relative.db`, `sqlite:////absolute.db`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] != "sqlite":
        raise ConfigError(
            f"{url!r} is no SQLite URL: write sqlite:///relative.db or sqlite:////absolute/path.db"
        )
    path = unquote(rest.partition("?")[0].removeprefix("/"))
    if rest and not rest.startswith("/"):
        raise ConfigError(
            f"{url!r} names a host; SQLite has none: write sqlite:///{rest} for a relative path"
        )
    return str(Path(path).absolute()) if path not in ("", ":memory:") else ":memory:"


def _own_rows(connection: sqlite3.Connection) -> Execute:
    """Execute on a connection whose owner may have chosen another kind of rows."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute


def commits_by_itself(connection: Any) -> bool:
    """Tell whether a connection of sqlite3, or of a driver over it, would store the next statement at once."""
    autocommit = getattr(connection, "autocommit", -1)  # Python 3.12 and later; -1 is the older way
    no_implicit = connection.isolation_level is None if autocommit == -1 else bool(autocommit)
    return no_implicit and not connection.in_transaction
