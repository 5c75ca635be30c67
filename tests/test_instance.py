"""Where the parts meet: making, choosing, starting and stopping instances."""

import asyncio
import gc
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from nodes import eventually, finished, quick
from staffa import Crontab, Job, Lifeline, Pruner, Staffa, Stager, State, Worker
from staffa._enqueuer import default_instance
from staffa.engines._sql.migrations import migrations
from staffa.errors import ConfigError, DatabaseError, InsideEventLoop, NoInstance, SchemaMissing


class Touch(Worker, name="instance.Touch"):
    async def perform(self, job: Job) -> None:
        return None


# Making


def test_making_an_instance_opens_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    Staffa(f"sqlite:///{tmp_path}/jobs.db")
    Staffa("postgresql://nobody@host.invalid/nowhere")
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://root@localhost/x", "is no database URL"),
        ("app.db", "is no database URL"),
        ("sqlite://app.db", "write sqlite:///app.db"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_with_a_hint(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Staffa(url)
    assert says in str(refused.value)


def test_a_missing_driver_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name
        for name in sys.modules
        if name.startswith(("psycopg", "staffa.engines.postgres", "staffa.notifiers.postgres"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'staffa\[postgres\]'"):
        Staffa("postgresql://localhost/x")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"queues": {"default": 0}}, "default: the limit must be a whole number above 0"),
        ({"queues": {"default": {"limt": 3}}}, "did you mean 'limit'"),
        ({"testing": "inlin"}, "testing must be"),
        ({"modules": "app.jobs"}, "modules must be a list of texts, not 'app.jobs'"),
        ({"plugins": [Pruner(), Pruner()]}, "there are two of Pruner"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Staffa("sqlite://", **options)
    assert says in str(refused.value)


def test_a_plugin_of_a_standard_class_replaces_it_and_others_are_added() -> None:
    class Extra:
        interval = timedelta(seconds=1)
        leader_only = True

        async def tick(self, engine: object) -> dict[str, Any]:
            return {}

    pruner, extra = Pruner(max_age=None), Extra()
    plugins = Staffa("sqlite://", plugins=[pruner, extra])._plugins
    assert [type(plugin) for plugin in plugins] == [Stager, Lifeline, Crontab, Pruner, Extra]
    assert pruner in plugins


def test_an_instance_that_is_given_another_name_for_its_node_tells_it_to_those_who_listen(make: Any) -> None:
    staffa = make(node="web-1")
    staffa.node = "web-1.2"
    assert staffa.telemetry.node == staffa.node == "web-1.2"


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(Staffa("postgresql://me:secret@localhost/x"))
    assert (
        repr(Staffa("postgresql://me:secret@localhost/x"))
        == "<Staffa Staffa on postgresql://me:***@localhost/x>"
    )


# Choosing


def test_a_sole_instance_is_the_default_and_several_need_one(tmp_path: Path) -> None:
    gc.collect()
    one = Staffa(f"sqlite:///{tmp_path}/1.db", name="one")
    assert default_instance() is one
    two = Staffa(f"sqlite:///{tmp_path}/2.db", name="two")
    with pytest.raises(NoInstance, match=r"one, two.*default=True.*using\(instance"):
        Touch.enqueue()
    chosen = Staffa(f"sqlite:///{tmp_path}/3.db", name="three", default=True)
    assert default_instance() is chosen
    assert Touch.using(instance=two).enqueue().id == 1
    assert (len(two.jobs()), len(one.jobs())) == (1, 0)
    with one.as_default():
        assert Touch.enqueue().id == 1
    for instance in (one, two, chosen):
        instance.close()


def test_without_an_instance_the_error_says_how_to_make_one() -> None:
    gc.collect()
    with pytest.raises(NoInstance, match=r"staffa = Staffa\("):
        Touch.enqueue()


# Blocking and awaiting


async def test_a_blocking_call_on_an_event_loop_is_refused_and_names_its_awaited_twin(make: Any) -> None:
    staffa = make()
    with pytest.raises(InsideEventLoop, match="aenqueue"):
        Touch.using(instance=staffa).enqueue()
    with pytest.raises(InsideEventLoop, match=r"ajobs\("):
        staffa.jobs()
    with pytest.raises(InsideEventLoop, match=r"get blocks.*await aget\("):
        staffa.get(1)
    with pytest.raises(InsideEventLoop, match=r"amigrate"):
        staffa.migrate()
    assert await staffa.ajobs() == []


async def test_any_thread_and_any_loop_may_enqueue_while_queues_run(url: str) -> None:
    staffa = quick(url)
    stored: list[Job] = []

    def elsewhere() -> None:
        stored.append(asyncio.run(staffa.ainsert(Touch.new())))
        stored.append(staffa.insert(Touch.new()))

    async with staffa:
        await asyncio.to_thread(elsewhere)
        stored.append(await staffa.ainsert(Touch.new()))
        done = await finished(staffa, stored)
    assert [job.state for job in done] == [State.COMPLETED] * 3
    staffa.close()


def test_many_threads_enqueue_at_once(make: Any) -> None:
    staffa = make()
    threads = [
        threading.Thread(target=lambda: [staffa.insert(Touch.new()) for _ in range(10)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert staffa.counts() == {"default": {State.AVAILABLE: 80}}


# Starting and stopping


async def test_an_instance_can_be_stopped_and_started_again(url: str) -> None:
    staffa = quick(url)
    for _ in range(2):
        async with staffa:
            await finished(staffa, [await staffa.ainsert(Touch.new())])
            with pytest.raises(RuntimeError, match="runs already"):
                await staffa.start()
    assert await staffa.acounts() == {"default": {State.COMPLETED: 2}}
    staffa.close()


async def test_a_lifespan_runs_the_queues_of_an_asgi_application(url: str) -> None:
    staffa = quick(url)
    application = Starlette(lifespan=staffa.lifespan)
    async with application.router.lifespan_context(application):
        job = await staffa.ainsert(Touch.new())
        await finished(staffa, [job])
    assert staffa.unstopped == 0
    staffa.close()


async def test_a_module_that_cannot_be_imported_is_named_at_start(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"modules: 'no\.such\.jobs' cannot be imported"):
        await make(modules=["no.such.jobs"]).start()


async def test_postgresql_asks_for_migrate_and_sqlite_makes_its_tables(
    empty_postgres_url: str, sqlite_url: str
) -> None:
    staffa = Staffa(empty_postgres_url)
    with pytest.raises(SchemaMissing, match="staffa migrate"):
        await staffa.start()
    with pytest.raises(SchemaMissing, match="staffa migrate"):
        await staffa.ainsert(Touch.new())
    assert await staffa.amigrate() == list(migrations("sqlite"))
    assert await staffa.amigrate() == []
    assert (await staffa.ainsert(Touch.new())).id == 1
    staffa.close()
    file = Staffa(sqlite_url)
    assert (await file.ainsert(Touch.new())).id == 1
    file.close()


async def test_manual_mode_stores_jobs_and_runs_nothing(make: Any) -> None:
    staffa = make(testing="manual")
    async with staffa:
        job = await staffa.ainsert(Touch.new())
        assert staffa._parts is None
    assert (await staffa.aget(job.id)).state == State.AVAILABLE


async def test_an_instance_that_only_enqueues_runs_no_queues(make: Any) -> None:
    staffa = make(run_queues=False)
    async with staffa:
        await staffa.ainsert(Touch.new())
        assert await staffa.aproducers() == []


# SQLite's own


async def test_everything_works_in_memory() -> None:
    staffa = quick("sqlite://")
    async with staffa:
        done = await finished(staffa, [await staffa.ainsert(Touch.new()) for _ in range(5)])
    assert {job.state for job in done} == {State.COMPLETED}
    staffa.close()


def use_in_child(staffa: Staffa, answer: Any) -> None:
    try:
        answer.put(staffa.insert(Touch.new()).id)
    except DatabaseError as error:
        answer.put(str(error))


def used_in_a_fork(staffa: Staffa) -> Any:
    """Enqueue in a forked child; give the job's id, or what was said."""
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=use_in_child, args=(staffa, answer))
    child.start()
    child.join(20)
    return answer.get()


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_instance_made_before_a_fork_works_after_it(url: str) -> None:
    staffa = Staffa(url)
    assert used_in_a_fork(staffa) == 1
    assert staffa.insert(Touch.new()).id == 2
    staffa.close()


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_instance_used_before_a_fork_is_refused_on_sqlite_and_works_on_postgresql(url: str) -> None:
    staffa = Staffa(url)
    staffa.insert(Touch.new())
    said = used_in_a_fork(staffa)
    assert "before a fork" in said if url.startswith("sqlite") else said == 2
    assert staffa.insert(Touch.new()).id is not None, "the parent goes on"
    staffa.close()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_text
    mounts = f"server:/export {tmp_path} nfs4 rw 0 0\n"
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *a, **k: mounts if str(self) == "/proc/mounts" else real(self, *a, **k),
    )
    with pytest.raises(ConfigError, match=r"network file system \(nfs4"):
        Staffa(f"sqlite:///{tmp_path}/jobs.db").insert(Touch.new())


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"this is a text file, and a long one at that" * 50)
    with pytest.raises(DatabaseError, match=r"jobs\.db.*not a database"):
        Staffa(f"sqlite:///{tmp_path}/jobs.db").insert(Touch.new())
    with pytest.raises(DatabaseError, match="unable to open"):
        Staffa(f"sqlite:///{tmp_path}/no/such/folder/jobs.db").insert(Touch.new())


async def test_a_job_of_another_process_is_noticed_without_waiting_for_the_poll(sqlite_url: str) -> None:
    staffa = quick(sqlite_url, poll=timedelta(seconds=60), plugins=[])
    async with staffa:
        await eventually(lambda: staffa.leads)
        script = f"import staffa; staffa.Staffa({sqlite_url!r}).insert(staffa.Job(worker='instance.Touch'))"
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], check=True)
        [job] = await staffa.ajobs()
        await finished(staffa, [job])
    staffa.close()


async def test_only_the_leader_checkpoints(sqlite_url: str) -> None:
    first, second = quick(sqlite_url), quick(sqlite_url)

    async def threshold(staffa: Staffa) -> int:
        database: Any = staffa._database
        found: list[int] = []
        database.writer._soon(lambda db: found.append(db.execute("pragma wal_autocheckpoint").fetchone()[0]))
        await eventually(lambda: found)
        return found[0]

    async with first:
        await eventually(lambda: first.leads)
        async with second:
            assert (await threshold(first), await threshold(second)) == (1_000, 100_000)
    first.close()
    second.close()


def test_the_tables_can_be_read_by_any_sqlite_shell(sqlite_url: str) -> None:
    staffa = Staffa(sqlite_url)
    staffa.insert(Touch.new(name="Zoë"))
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as shell:
        [(worker, args, when)] = shell.execute("select worker, args, scheduled_at from oban_jobs").fetchall()
    assert (worker, args) == ("instance.Touch", '{"name":"Zoë"}')
    assert len(when) == len("2026-11-21T20:00:00.000000Z")
    assert when.endswith("Z")
    staffa.close()


async def test_whoever_stops_an_instance_second_waits_for_the_first(url: str) -> None:
    staffa = quick(url)
    await staffa.start()
    first = asyncio.create_task(staffa.stop())
    await asyncio.sleep(0)
    second = asyncio.create_task(staffa.stop())

    await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)

    assert first.done()
    await second
    await staffa.start()
    await staffa.stop()
