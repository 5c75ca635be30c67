"""The exchange as one step of SQLite: between two steps, Python's lock may be somebody else's for long."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

from staffa.engines._sql.rows import Row
from staffa.engines._sql.statements import PARAMETER, Statement
from staffa.engines._sqlite_session import Execute, SqliteSession, statements, translating

T = TypeVar("T")

EXCHANGE = "exchange_jobs"
ANSWER = "select acked, taken, jobs from temp.staffa_exchanged"


class WriterSession(SqliteSession):
    """Statements on the writer's connection, where an exchange is one step if `exchanges` says so.

    A step that comes first in its word is a transaction of its own; other statements share the word's.
    """

    def __init__(self, connection: sqlite3.Connection, in_step: AbstractContextManager[None]) -> None:
        super().__init__(connection)
        self._in_step = in_step
        self.exchanges = False

    def rows(self, name: Statement, values: dict[str, Any]) -> list[Row]:
        if not (self.exchanges and name == EXCHANGE):
            self.together()
            return super().rows(name, values)
        with self._in_step:
            self._connection.execute(_call(), values)
        return self._connection.execute(ANSWER).fetchall()

    async def on_tables(self, work: Callable[[Execute], T]) -> T:
        """Do it without the step: SQLite refuses changes of tables that a trigger would not survive."""
        with translating():
            forget_step(self._connection)
            done = work(self._connection.execute)
            make_step(self._connection)
        return done


def make_step(db: sqlite3.Connection) -> None:
    """Let a connection run the statements of an exchange as what an insert into a view of its own triggers."""
    ack, give, take = (PARAMETER.sub(r"new.\1", each) for each in statements(EXCHANGE))
    given = ", ".join(f"null as {each}" for each in _parameters())
    db.execute("create temp table staffa_exchanged (acked, taken, jobs)")
    db.execute(f"create temp view staffa_exchange as select {given}")
    db.execute(
        "create temp trigger staffa_exchanging instead of insert on staffa_exchange begin\n"
        f"delete from staffa_exchanged;\n{ack};\ninsert into staffa_exchanged {give};\n{take};\nend"
    )


def forget_step(db: sqlite3.Connection) -> None:
    """Take away what `make_step` made; the trigger goes with its view."""
    db.execute("drop view temp.staffa_exchange")
    db.execute("drop table temp.staffa_exchanged")


@cache
def _parameters() -> tuple[str, ...]:
    return tuple(sorted({each for part in statements(EXCHANGE) for each in PARAMETER.findall(part)}))


@cache
def _call() -> str:
    given = _parameters()
    values = ", ".join(f":{each}" for each in given)
    return f"insert into temp.staffa_exchange ({', '.join(given)}) values ({values})"  # noqa: S608 - names of ours
