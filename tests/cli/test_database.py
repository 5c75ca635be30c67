"""`staffa init` and `staffa migrate`."""

import tomllib
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest

from staffa import Config, Job, Staffa
from staffa.config import IN_FILE, load
from staffa.engines._sql.migrations import migrations

VERSIONS = list(migrations("sqlite"))

# init


def test_init_writes_a_file_that_says_the_defaults(staffa):
    said = staffa("init")

    assert said.code == 0
    found = load("staffa.toml", environment={})
    assert {key: getattr(found, key) for key in IN_FILE} == {key: getattr(Config(), key) for key in IN_FILE}


def test_every_setting_stands_in_the_file_with_a_value_that_is_accepted(staffa):
    staffa("init")
    text = Path("staffa.toml").read_text()
    lines = [
        line.removeprefix("# ") if " = " in line or line.startswith("# [") else line
        for line in text.splitlines()
    ]
    settings = [line for line in lines if line.startswith("[") or line.partition(" = ")[0].isidentifier()]
    Path("everything.toml").write_text("\n".join(settings))

    assert tomllib.loads(Path("everything.toml").read_text()).keys() == IN_FILE.keys()
    assert load("everything.toml", environment={}).app == "app.jobs:staffa"


def test_init_never_writes_over_a_file_unless_forced(staffa):
    Path("staffa.toml").write_text("name = 'Mine'\n")

    said = staffa("init")
    assert (said.code, Path("staffa.toml").read_text()) == (2, "name = 'Mine'\n")
    assert "--force" in said.err

    assert staffa("init", "--force").code == 0
    assert "Mine" not in Path("staffa.toml").read_text()


def test_init_writes_where_it_is_told_and_for_the_database_it_is_told(staffa):
    url = 'postgresql://ann:se"cret\\@host/crm'

    said = staffa("--config", "other.toml", "--database", url, "init", "--json")

    assert said.json == {"written": "other.toml"}
    assert load("other.toml", environment={}).database == url


@pytest.mark.parametrize("path", ["missing/staffa.toml", "pyproject.toml"])
def test_init_says_why_it_cannot_write(staffa, path):
    said = staffa("init", "--config", path)

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert path in said.err


# migrate


def fresh(request, kind):
    return request.getfixturevalue("sqlite_url" if kind == "sqlite" else "empty_postgres_url")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_migrate_says_what_it_applied_and_does_nothing_the_second_time(staffa, request, kind):
    database = fresh(request, kind)

    first, second = (staffa("--database", database, "migrate", "--json") for _ in range(2))
    third = staffa("migrate", "--database", database)

    assert first.json["applied"][0] == 1
    assert second.json["applied"] == []
    assert "up to date" in third.out


def test_migrate_works_in_a_schema_of_its_own(staffa, empty_postgres_url):
    said = staffa("migrate", "--database", empty_postgres_url, "--schema", "jobs", "--json")

    assert (said.code, said.json["schema"]) == (0, "jobs")
    with psycopg.connect(empty_postgres_url) as connection:
        assert connection.execute("select count(*) from jobs.oban_jobs").fetchone() == (0,)


def test_migrate_needs_no_right_to_make_schemas_where_there_is_one(staffa, empty_postgres_url):
    role = f"role_{uuid4().hex}"
    with psycopg.connect(empty_postgres_url, autocommit=True) as admin:
        admin.execute(f"create role {role} login password 'secret'")
        admin.execute(f"grant all on schema public to {role}")

    parts = urlsplit(empty_postgres_url)
    as_role = urlunsplit(parts._replace(netloc=f"{role}:secret@{parts.netloc.rpartition('@')[2]}"))
    said = staffa("migrate", "--database", as_role)

    assert said.code == 0, said.err
    with psycopg.connect(empty_postgres_url, autocommit=True) as admin:
        admin.execute(f"drop owned by {role} cascade")
        admin.execute(f"drop role {role}")


@pytest.mark.parametrize("project_on", ["sqlite", "postgres"])
def test_several_processes_may_migrate_at_once(request, tmp_path, project_on):
    database = fresh(request, project_on)
    request.getfixturevalue("monkeypatch").chdir(tmp_path)
    start = request.getfixturevalue("typed_at_once")

    said = start(4, "migrate", "--json", "--database", database)

    assert [each.code for each in said] == [0] * 4, [each.err for each in said]
    applied = sorted(each.json["applied"] for each in said)
    assert applied[:3] == [[]] * 3
    assert applied[3][0] == 1


def test_a_database_that_does_not_answer_is_told_in_one_line(staffa):
    said = staffa("migrate", "--database", "postgresql://ann:secret@127.0.0.1:1/none")

    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "secret" not in said.err


def test_a_file_that_is_no_database_is_told_in_one_line(staffa):
    Path("notes.db").write_text("these are notes, and by no means a database" * 50)

    said = staffa("migrate", "--database", "sqlite:///notes.db")

    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "notes.db" in said.err


def test_an_unknown_kind_of_database_is_refused_without_its_password(staffa):
    said = staffa("migrate", "--database", "mysql://ann:secret@host/crm")

    assert said.code == 2
    assert "sqlite:///" in said.err
    assert "secret" not in said.err


# Back


def jobs_in(database, count=2):
    instance = Staffa(database, run_queues=False)
    instance.insert_all([Job(worker="w")] * count)
    instance.close()


@pytest.fixture(params=["sqlite", "postgres"])
def migrated(request, staffa):
    """A database with tables and two jobs."""
    database = fresh(request, request.param)
    staffa("migrate", "--database", database)
    jobs_in(database)
    return database


def test_going_back_is_refused_where_jobs_would_be_lost_and_nobody_can_be_asked(staffa, migrated):
    said = staffa("migrate", "--database", migrated, "--to", "0")

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "2 in oban_jobs" in said.err
    assert "--yes" in said.err
    assert len(staffa("jobs", "list", "--database", migrated, "--json").json) == 2


def test_going_back_with_yes_takes_everything_away(staffa, migrated):
    said = staffa("migrate", "--database", migrated, "--to", "0", "--yes", "--json")

    assert said.json["taken_back"] == VERSIONS[::-1]
    assert said.json["applied"] == []
    assert staffa("migrate", "--database", migrated, "--status", "--json").json["applied"] == []


def test_going_back_asks_on_a_terminal(staffa, migrated, monkeypatch):
    asked = []
    monkeypatch.setattr("staffa.cli.consent.can_be_asked", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question: asked.append(question) or len(asked) > 1)

    assert staffa("migrate", "--database", migrated, "--to", "0").code == 2
    assert len(staffa("jobs", "list", "--database", migrated, "--json").json) == 2
    said = staffa("migrate", "--database", migrated, "--to", "0")
    assert "took back" in said.out
    assert "2 in oban_jobs" in asked[0]


def test_nothing_is_asked_where_nothing_would_be_lost(staffa, request):
    database = request.getfixturevalue("empty_postgres_url")
    staffa("migrate", "--database", database)

    assert "took back" in staffa("migrate", "--database", database, "--to", "0").out
    assert "up to date" in staffa("migrate", "--database", database, "--to", "0").out


def test_migrate_goes_as_far_as_it_is_told(staffa, request):
    database = request.getfixturevalue("empty_postgres_url")

    assert "applied version 1." in staffa("migrate", "--database", database, "--to", "1").out
    said = staffa("migrate", "--database", database, "--status")
    assert "applied: version 1\n" in said.out
    assert f"pending: versions {', '.join(map(str, VERSIONS[1:]))}" in said.out
    assert "Oban reads its own version as 14" in said.out
    assert staffa("migrate", "--database", database, "--to", "999").code == 2


def test_the_status_makes_no_file(staffa):
    said = staffa("migrate", "--database", "sqlite:///none.db", "--status")

    assert (said.code, Path("none.db").exists()) == (1, False)


def test_the_printed_statements_make_the_tables(staffa, empty_postgres_url):
    said = staffa("migrate", "--database", empty_postgres_url, "--schema", "jobs", "--sql")

    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute(said.out)
    status = staffa("migrate", "--database", empty_postgres_url, "--schema", "jobs", "--status", "--json")
    assert (status.json["applied"], status.json["pending"]) == (VERSIONS, [])


def test_printing_statements_needs_no_database(staffa):
    there = staffa("migrate", "--database", "postgresql://127.0.0.1:1/none", "--sql", "--from", "1")
    back = staffa(
        "migrate", "--database", "postgresql://127.0.0.1:1/none", "--sql", "--from", "2", "--to", "1"
    )

    assert 'create table if not exists "public".staffa_keys' in there.out
    assert 'create table if not exists "public".oban_jobs' not in there.out
    assert back.out.splitlines()[0] == 'drop table if exists "public".staffa_keys;'
