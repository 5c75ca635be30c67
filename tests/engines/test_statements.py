"""What every statement file promises to those who read it."""

import re

import pytest

from staffa.engines._sql.migrations import migrations
from staffa.engines._sql.statements import ROOT, in_schema, statement

DIALECTS = ("sqlite", "postgres")
WHY = "-- Own version: "
FILES = sorted(
    (folder, entry.name.removesuffix(".sql"))
    for folder in (*DIALECTS, "common")
    for entry in (ROOT / folder).iterdir()
    if entry.name.endswith(".sql")
)
OWN = [(folder, name) for folder, name in FILES if folder != "common"]
ONLY_ON = {
    **dict.fromkeys(("notify", "examine_server", "examine_tables", "examine_transactions"), "postgres"),
    **dict.fromkeys(("oban_table", "lock_holders", "containment_indexes"), "postgres"),
    **dict.fromkeys(("newest_notice", "read_notices", "write_notices"), "sqlite"),
    **dict.fromkeys(("claim_new_keys", "used_keys"), "postgres"),
    "next_due": "sqlite",
}
JOB_COLUMNS = (
    "id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority, inserted_at, "
    "scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key"
)
GIVES_JOBS = ("find_holders", "hand_back_jobs", "list_jobs", "lock_jobs", "orphaned_jobs")


def _text(folder: str, name: str) -> str:
    return (ROOT / folder / f"{name}.sql").read_text()


def _words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("folder", "name"), OWN)
def test_an_own_statement_begins_with_why_it_differs(folder: str, name: str):
    first, rest = _text(folder, name).split("\n", 1)
    assert first.startswith(WHY)
    assert len(first) > len(WHY) + 10
    assert first.endswith(".") or rest.startswith("-- ")


@pytest.mark.parametrize(("folder", "name"), OWN)
def test_an_own_statement_does_differ(folder: str, name: str):
    others = [other for other in (*DIALECTS, "common") if other != folder and (other, name) in FILES]
    mine = _words(statement(folder, name))
    assert all(_words(statement(other, name)) != mine for other in others if other != "common")
    assert ("common", name) not in FILES or _words(_text("common", name)) != mine


@pytest.mark.parametrize("name", sorted({name for _, name in FILES}))
def test_every_statement_exists_for_both_databases(name: str):
    for dialect in DIALECTS:
        if ONLY_ON.get(name, dialect) == dialect:
            assert statement(dialect, name).strip()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", GIVES_JOBS)
def test_every_statement_that_gives_jobs_lists_the_same_columns_in_the_same_order(dialect: str, name: str):
    assert JOB_COLUMNS in _words(statement(dialect, name))


@pytest.mark.parametrize(("folder", "name"), FILES)
def test_a_statement_that_gives_jobs_is_known_as_one(folder: str, name: str):
    gives_jobs = "inserted_at, scheduled_at, attempted_at" in _words(_text(folder, name))
    assert gives_jobs == (name in GIVES_JOBS)


@pytest.mark.parametrize(("folder", "name"), FILES)
def test_a_statement_can_be_pasted_into_a_shell(folder: str, name: str):
    code = re.sub(r"'[^']*'", "''", re.sub(r"--.*", "", _text(folder, name)))
    assert "%" not in code or folder == "sqlite", "drivers read a percent sign their own way"
    assert not re.search(r"\{\w*\}", code), "templates cannot be pasted"
    assert code.count("(") == code.count(")")
    assert not re.search(r"\b(SELECT|UPDATE|INSERT|DELETE|WHERE|FROM)\b", code), "keywords are small"
    assert not code.rstrip().endswith(";"), "one statement needs no end"


def test_an_insert_begins_with_insert_so_that_drivers_of_sqlite_open_a_transaction():
    assert statement("sqlite", "insert_jobs").startswith("insert into oban_jobs")


def test_tables_and_types_are_put_into_a_schema_and_nothing_else_is():
    assert in_schema("select oban_jobs.id from oban_jobs", 'my"own') == (
        'select "my""own".oban_jobs.id from "my""own".oban_jobs'
    )
    assert in_schema("x::oban_job_state", "s") == 'x::"s".oban_job_state'
    assert (
        in_schema("comment oban_jobs_index other.oban_jobs", "s") == "comment oban_jobs_index other.oban_jobs"
    )
    assert in_schema("select 1 from oban_jobs", None) == "select 1 from oban_jobs"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_migrations_are_numbered_in_order(dialect: str):
    assert list(migrations(dialect)) == sorted(migrations(dialect))
