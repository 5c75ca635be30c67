"""Every engine there is, each on a fresh database."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from contract import InThread, Trial, plainly
from staffa._bridge import at_once
from staffa.engine import Database
from staffa.engines.postgres import PostgresDatabase
from staffa.engines.sqlite import SqliteDatabase

AWAITED = ("sqlite", "sqlite-in-one-step", "memory", "postgres")
PLAIN = ("sqlite-plain", "memory-plain", "postgres-plain")
JOINED = ("sqlite-joined", "postgres-joined", "postgres-joined-awaited")


URLS = {"sqlite": "sqlite_url", "postgres": "postgres_url"}
Ground = tuple[str, Database, str]


@pytest.fixture(params=[*AWAITED, *PLAIN])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    yield from _ground(request, request.param)


@pytest.fixture(params=[*AWAITED, *PLAIN, *JOINED])
def any_ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    yield from _ground(request, request.param)


@pytest.fixture
def postgres_ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    yield from _ground(request, "postgres")


@pytest.fixture
def sqlite_ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    yield from _ground(request, "sqlite")


@pytest.fixture
async def trial(ground: Ground) -> AsyncIterator[Trial]:
    """Each engine in turn: awaited or blocking, on a fresh database."""
    async with _on_trial(*ground) as trial:
        yield trial


@pytest.fixture
async def any_way_in(any_ground: Ground) -> AsyncIterator[Trial]:
    """Each engine in turn, and each in a transaction of the caller's."""
    async with _on_trial(*any_ground) as trial:
        yield trial


@pytest.fixture
async def on_postgres(postgres_ground: Ground) -> AsyncIterator[Trial]:
    """The awaited engine of PostgreSQL."""
    async with _on_trial(*postgres_ground) as trial:
        yield trial


@pytest.fixture
async def on_sqlite(sqlite_ground: Ground) -> AsyncIterator[Trial]:
    """The awaited engine of SQLite."""
    async with _on_trial(*sqlite_ground) as trial:
        yield trial


def _ground(request: pytest.FixtureRequest, way: str) -> Iterator[Ground]:
    kind = way.partition("-")[0]
    if way.endswith("in-one-step"):
        request.getfixturevalue("monkeypatch").setattr("staffa.engines.sqlite.ACKS_WORTH_A_STEP", 0)
    url = "sqlite://" if kind == "memory" else str(request.getfixturevalue(URLS[kind]))
    database: Database = PostgresDatabase(url) if kind == "postgres" else SqliteDatabase(url)
    yield way, database, url
    database.dispose()


@asynccontextmanager
async def _on_trial(way: str, database: Database, url: str) -> AsyncIterator[Trial]:
    if way.endswith("joined"):
        yield Trial(InThread(_joined(database, url)), database, url)
    elif way.endswith("joined-awaited"):
        yield Trial(JoinedAwaited(database, url), database, url)
    elif way.endswith("plain"):
        yield Trial(plainly(database.plain), database, url)
    else:
        await database.open()
        yield Trial(database.engine, database, url)
        await database.close()


def _joined(database: Database, url: str) -> Callable[..., Any]:
    """Run each word in a transaction of its own caller, who then commits."""

    def word(name: str, *args: Any, **named: Any) -> Any:
        connection = psycopg.connect(url) if url.startswith("postgres") else _sqlite(database)
        with closing(connection), connection:
            return at_once(getattr(database.joined(connection), name)(*args, **named))

    return word


def _sqlite(database: Database) -> sqlite3.Connection:
    assert isinstance(database, SqliteDatabase)
    return sqlite3.connect(database.path)


class JoinedAwaited:
    """Awaited words, each in a transaction of its own caller, who then commits."""

    def __init__(self, database: Database, url: str) -> None:
        self._database, self._url = database, url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def word(*args: Any, **named: Any) -> Any:
            async with await psycopg.AsyncConnection.connect(self._url) as connection:
                return await getattr(self._database.joined(connection), name)(*args, **named)

        return word


def database_of(url: str, name: str) -> str:
    """Put another database into a PostgreSQL URL."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
