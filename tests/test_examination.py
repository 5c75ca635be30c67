"""`examine`: what is wrong is named, with what to do about it."""

import asyncio
import sqlite3
import struct
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
import pytest

from nodes import eventually, quick
from staffa import Job, Staffa, job
from staffa._bridge import at_once
from staffa._finding import Finding, Level
from staffa.engine import ProducerInfo
from staffa.engines import _postgres_examination, _sqlite_examination

Make = Callable[..., Staffa]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@job(name="examined.known", queue="known")
async def known() -> None: ...


def only(findings: Iterable[Finding], check: str, level: Level) -> list[Finding]:
    return [each for each in findings if each.check == check and each.level is level]


def problems(findings: Iterable[Finding], check: str) -> list[Finding]:
    return only(findings, check, Level.PROBLEM)


def sql(staffa: Staffa, statement: str) -> None:
    if staffa.url.startswith("sqlite"):
        with closing(sqlite3.connect(staffa.url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(statement)
    else:
        with psycopg.connect(staffa.url, autocommit=True) as connection:
            connection.execute(statement.encode())


def test_everything_that_is_not_fine_comes_with_advice(make: Make):
    staffa = make(queues={"known": 1})
    staffa.migrate()

    for each in staffa.examine():
        assert each.said
        assert bool(each.advice) == (each.level is not Level.FINE), each


async def test_a_queue_that_is_paused_wherever_it_runs_is_told_of(url: str):
    staffa = quick(url, queues={"known": 2}, node="worker-1")
    async with staffa:
        await staffa.apause_queue("known")
        await eventually(
            lambda: asyncio.to_thread(lambda: [each.paused for each in staffa.producers()] == [True])
        )
        await staffa.ainsert(known.new())
        found = await staffa.aexamine()

    [told] = only(found, "queues", Level.NOTICE)
    assert told.said == "'known' is paused on worker-1; 1 job waits"
    assert told.advice == "`staffa queues resume known` lets it take jobs again"
    staffa.close()


async def test_a_system_that_runs_has_no_problems(url: str):
    staffa = quick(url, queues={"known": 2})
    async with staffa:
        await eventually(lambda: staffa.leads)
        await staffa.ainsert(known.using(schedule_in=timedelta(hours=1)).new())
        await eventually(lambda: asyncio.to_thread(lambda: len(staffa.producers()) == 1))
        found = await staffa.aexamine()

    assert [each for each in found if each.level is Level.PROBLEM] == []
    assert any("'known' runs on" in each.said for each in only(found, "queues", Level.FINE))
    assert only(found, "leader", Level.FINE)


def test_jobs_in_a_queue_that_nobody_runs_are_a_problem(make: Make):
    staffa = make(queues={"known": 1})
    staffa.insert_all([known.using(queue="forgotten").new(), known.new()])

    said = [each.said for each in problems(staffa.examine(), "queues")]

    assert said == [
        "1 job waits in 'forgotten', which runs nowhere; it is configured nowhere here",
        "1 job waits in 'known', which runs nowhere; it is configured, but no living process runs it",
    ]


def test_a_queue_that_was_paused_is_noticed_with_what_resumes_it(make: Make):
    staffa = make(queues={"known": 1})
    producer = ProducerInfo(id="p", node="worker-3", queue="known", limit=1)
    at_once(staffa.plain_engine.register([producer]))
    staffa.insert(known.new())
    sql(staffa, f"update staffa_producers set paused = {'true' if staffa.url.startswith('p') else 1}")

    [found] = only(staffa.examine(), "queues", Level.NOTICE)

    assert found.said == "'known' is paused on worker-3; 1 job waits"
    assert found.advice == "`staffa queues resume known` lets it take jobs again"


def test_jobs_whose_worker_no_module_defines_are_a_problem(make: Make):
    staffa = make()
    staffa.insert_all([Job(worker="app.Renamed", queue="known")] * 3)

    [found] = problems(staffa.examine(), "workers")

    assert "3 jobs name 'app.Renamed'" in found.said
    assert "aliases" in found.advice


def test_due_jobs_that_nobody_makes_available_are_a_problem(make: Make):
    staffa = make()
    staffa.insert(known.using(schedule_in=timedelta(hours=1)).new())
    sql(staffa, f"update oban_jobs set scheduled_at = '{LONG_AGO:%Y-%m-%dT%H:%M:%S}.000000Z'")

    [found] = problems(staffa.examine(), "staging")

    assert "scheduled jobs of 'known' have been due since 2020-01-01 00:00:00 UTC" in found.said


def test_a_process_that_fell_silent_is_a_problem(make: Make):
    staffa = make(queues={"known": 1})
    at_once(staffa.plain_engine.register([ProducerInfo(id="p", node="worker-3", queue="known", limit=1)]))
    sql(staffa, f"update staffa_producers set beat_at = '{LONG_AGO:%Y-%m-%dT%H:%M:%S}.000000Z'")

    found = staffa.examine()

    [silent] = problems(found, "processes")
    assert "worker-3 ran 'known' and has been silent since 2020-01-01" in silent.said
    assert only(found, "queues", Level.NOTICE), "its queue counts as running nowhere"


def test_jobs_that_execute_under_strangers_are_noticed(make: Make):
    staffa = make()
    staffa.insert(known.new())
    value = "array['elixir@host', 'x']" if staffa.url.startswith("postgres") else '\'["elixir@host","x"]\''
    sql(staffa, f"update oban_jobs set state = 'executing', attempt = 1, attempted_by = {value}")

    [found] = only(staffa.examine(), "executing", Level.NOTICE)

    assert found.said.startswith("1 executing jobs belong to no process")


def test_examining_writes_nothing(make: Make):
    staffa = make()
    staffa.insert(known.new())
    before = staffa.jobs(), staffa.producers()

    staffa.examine()

    assert (staffa.jobs(), staffa.producers()) == before


# PostgreSQL


def test_missing_tables_are_named_and_nothing_else_is_asked(empty_postgres_url: str):
    staffa = Staffa(empty_postgres_url)
    found = staffa.examine()

    [missing] = problems(found, "tables")
    assert "lack version 1" in missing.said
    assert only(found, "vacuum", Level.NOTICE) == []
    assert missing.advice == "run `staffa migrate`"
    assert not [each for each in found if each.check in ("queues", "workers")]


def test_a_server_that_does_not_answer_is_one_problem_without_its_password():
    [found] = Staffa("postgresql://me:secret@127.0.0.1:9/none", queues={}).examine()

    assert found.level is Level.PROBLEM
    assert "cannot be reached" in found.said
    assert "secret" not in found.said


def test_a_server_that_takes_no_writes_is_a_problem(empty_postgres_url: str):
    staffa = Staffa(empty_postgres_url)
    staffa.migrate()
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"alter database {name} set default_transaction_read_only = on".encode())

    [found] = problems(staffa.examine(), "database")

    assert "takes no writes" in found.said


def test_a_long_transaction_is_named_with_what_ends_it(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_postgres_examination, "LONGEST_TRANSACTION", timedelta(0))
    with psycopg.connect(postgres_url, application_name="a report") as connection:
        connection.execute("select count(*) from oban_jobs")
        pid = connection.info.backend_pid
        found = only(Staffa(postgres_url).examine(), "transactions", Level.NOTICE)

    [ours] = [each for each in found if f"transaction {pid} is open" in each.said]
    assert "a report, idle in transaction: select count(*) from oban_jobs" in ours.said
    assert f"pg_terminate_backend({pid})" in ours.advice


def test_clocks_that_disagree_are_noticed(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_postgres_examination, "utc_now", lambda: datetime.now(UTC) - timedelta(seconds=90))

    [found] = only(Staffa(postgres_url).examine(), "clock", Level.NOTICE)

    assert "90.0 s ahead of this machine's" in found.said


def test_an_index_whose_building_was_interrupted_is_named(postgres_url: str):
    staffa = Staffa(postgres_url)
    staffa.insert_all([known.new(), known.new()])
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("create unique index concurrently half_built on oban_jobs (worker)")
        try:
            [found] = only(staffa.examine(), "indexes", Level.NOTICE)
        finally:
            connection.execute("drop index half_built")

    assert "half_built is not valid" in found.said
    staffa.close()


def test_dead_rows_that_vacuum_does_not_remove_are_noticed(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_postgres_examination, "FEW_DEAD_ROWS", 100)
    staffa = Staffa(empty_postgres_url)
    staffa.migrate()
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        connection.execute("alter table oban_jobs set (autovacuum_enabled = off)")
        connection.execute("insert into oban_jobs (worker) select 'w' from generate_series(1, 500)")
        connection.execute("delete from oban_jobs")
        connection.execute("select pg_stat_force_next_flush()")

    [found] = only(staffa.examine(), "vacuum", Level.NOTICE)

    assert "500 dead rows stand beside 0 living ones" in found.said


async def test_a_pooler_that_swallows_notifications_is_found_out(postgres_url: str):
    direct = await Staffa(postgres_url).aexamine()
    async with deafening(postgres_url) as pooled:
        [found] = problems(await Staffa(pooled).aexamine(), "notifications")

    assert only(direct, "notifications", Level.FINE)
    assert "pooler in transaction mode" in found.advice


@asynccontextmanager
async def deafening(url: str):
    """Stand between client and server, and pass on everything but notifications, as such a pooler would."""
    parts = urlsplit(url)
    socket = parse_qs(parts.query).get("host", [""])[0]
    port = parts.port or 5432

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if socket:
            return await asyncio.open_unix_connection(f"{unquote(socket)}/.s.PGSQL.{port}")
        return await asyncio.open_connection(parts.hostname, port)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await connect()
        up = asyncio.create_task(pass_on(reader, up_writer))
        try:
            while True:
                kind, length = struct.unpack("!cI", await up_reader.readexactly(5))
                body = await up_reader.readexactly(length - 4)
                if kind != b"A":
                    writer.write(struct.pack("!cI", kind, length) + body)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            up.cancel()
            writer.close()
            up_writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port_here = server.sockets[0].getsockname()[1]
    try:
        user = parts.username or "postgres"
        password = f":{parts.password}" if parts.password else ""
        yield (
            f"postgresql://{user}{password}@127.0.0.1:{port_here}{parts.path}"
            "?sslmode=disable&gssencmode=disable"
        )
    finally:
        server.close()


# SQLite


def test_a_missing_file_is_a_problem_and_is_not_made(tmp_path: Path):
    found = Staffa(f"sqlite:///{tmp_path}/none.db").examine()

    assert [each.advice for each in problems(found, "file")] == ["make it with `staffa migrate`"]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_problem(tmp_path: Path):
    found = Staffa(f"sqlite:///{tmp_path}/no/none.db").examine()

    assert "there is no such folder" in problems(found, "disk")[0].said


def test_a_write_lock_that_somebody_keeps_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_sqlite_examination, "LOCK_SECONDS", 0.05)
    staffa = Staffa(f"sqlite:///{tmp_path}/jobs.db")
    staffa.migrate()
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        [found] = problems(staffa.examine(), "lock")
    staffa.close()

    assert "cannot be written: database is locked" in found.said


def test_a_damaged_file_is_a_problem(tmp_path: Path):
    file = tmp_path / "jobs.db"
    staffa = Staffa(f"sqlite:///{file}")
    staffa.insert_all([known.using(meta={"filler": "x" * 500}).new() for _ in range(200)])
    staffa.close()
    content = bytearray(file.read_bytes())
    for page in range(len(content) // 4096 // 2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    file.write_bytes(content)

    assert problems(Staffa(f"sqlite:///{file}").examine(), "file")


def test_a_file_that_is_no_database_is_a_problem(tmp_path: Path):
    (tmp_path / "jobs.db").write_text("this is a letter, not a database" * 100)

    [found] = problems(Staffa(f"sqlite:///{tmp_path}/jobs.db").examine(), "file")

    assert "file is not a database" in found.said


def test_tables_of_a_newer_version_are_noticed(make: Make):
    staffa = make()
    staffa.migrate()
    sql(staffa, "insert into staffa_schema (version) values (999)")
    found = only(staffa.examine(), "tables", Level.NOTICE)
    sql(staffa, "delete from staffa_schema where version = 999")

    assert "999" in found[0].said


def test_tables_of_this_version_are_fine(make: Make):
    staffa = make()
    staffa.migrate()

    assert only(staffa.examine(), "tables", Level.FINE)
    assert only(staffa.examine(), "tables", Level.NOTICE) == []


def test_a_version_of_obans_that_a_backup_lost_is_noticed_with_what_to_say(empty_postgres_url: str):
    staffa = Staffa(empty_postgres_url, run_queues=False)
    staffa.migrate()
    assert only(staffa.examine(), "Oban's version", Level.NOTICE) == []
    sql(staffa, "comment on table oban_jobs is null")

    [found] = only(staffa.examine(), "Oban's version", Level.NOTICE)
    assert "comment on table" in found.said
    sql(staffa, found.said.partition("so say: ")[2])
    assert only(staffa.examine(), "Oban's version", Level.NOTICE) == []
    staffa.close()
