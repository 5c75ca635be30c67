"""Each sentence of the promises, kept against real processes, real signals and databases that go away."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from nodes import OtherNode, eventually, finished, quick
from staffa import Cancel, Error, Job, Staffa, State, Worker
from staffa.errors import DatabaseUnavailable, InvalidArguments, InvalidJob
from staffa.telemetry import ExchangeFailed, JobBounced, JobStarted, NotifierListening, PluginFailed

runs: Counter[str] = Counter()
release = threading.Event()
"""Set when plain workers may go on."""


@pytest.fixture(autouse=True)
def clean_ledger() -> None:
    runs.clear()
    release.clear()


class Nap(Worker, name="tests.Nap"):
    """Sleeps on the event loop."""

    async def perform(self, job: Job) -> None:
        runs[job.args["name"]] += 1
        await asyncio.sleep(job.args["seconds"])


class PlainNap(Worker, name="tests.PlainNap"):
    """Sleeps in a thread."""

    def perform(self, job: Job) -> None:
        runs[job.args["name"]] += 1
        time.sleep(job.args["seconds"])


class Block(Worker, name="tests.Block"):
    """Blocks the event loop, as nobody should."""

    async def perform(self, job: Job) -> None:
        runs[job.args["name"]] += 1
        time.sleep(job.args["seconds"])


class UntilReleased(Worker, name="tests.UntilReleased"):
    """Keeps its thread until the test says so."""

    def perform(self, job: Job) -> None:
        runs[job.args["name"]] += 1
        release.wait(20)


def half_done(answer: str) -> object:
    match answer:
        case "cancel":
            return Cancel("stopped half way")
        case "error":
            return Error("stopped half way")
        case "raise":
            raise RuntimeError("stopped half way")
        case _:
            return None


class StopsInThread(Worker, name="tests.StopsInThread", max_attempts=1):
    """Works until it sees that it should stop."""

    def perform(self, job: Job) -> object:
        runs[job.args["name"]] += 1
        while not job.cancelled:
            time.sleep(0.01)
        return half_done(job.args["answer"])


class StopsOnLoop(Worker, name="tests.StopsOnLoop", max_attempts=1):
    """Works until it is cancelled, and keeps that to itself."""

    async def perform(self, job: Job) -> object:
        runs[job.args["name"]] += 1
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return half_done(job.args["answer"])


class Fail(Worker, name="tests.Fail", max_attempts=1):
    def perform(self, job: Job) -> object:
        runs[job.args["name"]] += 1
        return Error(job.args["text"])


class Quick(Worker, name="tests.Quick"):
    async def perform(self, job: Job) -> None:
        runs[job.args["name"]] += 1


async def started(*names: str) -> None:
    await eventually(lambda: all(runs[name] for name in names))


# At-least-once; no accepted job is lost


WORKER_PROCESS = """
    import asyncio, sys, time
    from datetime import timedelta
    from pathlib import Path
    from staffa import Job, Lifeline, Staffa, Worker

    class Nap(Worker, name="tests.Nap"):
        async def perform(self, job: Job) -> None:
            Path(sys.argv[2]).open("a").write(job.args["name"] + "\\n")
            await asyncio.sleep(job.args["seconds"])

    async def main() -> None:
        patient = Lifeline(silence=timedelta(hours=1))
        async with Staffa(sys.argv[1], heartbeat=timedelta(seconds=0.1), plugins=[patient]):
            await asyncio.sleep(60)

    asyncio.run(main())
"""


@asynccontextmanager
async def worker_process(url: str, ledger: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    ledger.touch()
    script = ledger.with_suffix(".py")
    script.write_text(textwrap.dedent(WORKER_PROCESS))
    process = subprocess.Popen([sys.executable, str(script), url, str(ledger)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(ledger: Path) -> Counter[str]:
    return Counter(ledger.read_text().split())


async def test_no_accepted_job_is_lost_by_kill_9(url: str, tmp_path: Path) -> None:
    staffa = quick(url)
    jobs = await staffa.ainsert_all([Nap.new(name=f"n{i}", seconds=30) for i in range(5)])
    async with worker_process(url, tmp_path / "ledger") as victim:
        await eventually(lambda: len(lines(tmp_path / "ledger")) == 5)
        victim.send_signal(signal.SIGKILL)
        victim.wait()

    Nap.perform, kept = quick_perform, Nap.perform  # type: ignore[method-assign]
    try:
        async with staffa:
            done = await finished(staffa, jobs)
    finally:
        Nap.perform = kept  # type: ignore[method-assign]
        staffa.close()

    assert {job.state for job in done} == {State.COMPLETED}
    assert runs == Counter(job.args["name"] for job in jobs), "each ran once more, in the process that lived"
    assert [(job.attempt, job.meta) for job in done] == [(1, {"rescued": 1})] * 5, (
        "the lost attempt does not count"
    )


async def quick_perform(self: Worker, job: Job) -> None:
    runs[job.args["name"]] += 1


async def test_no_accepted_job_is_lost_by_a_database_restart(cuttable: Any) -> None:
    staffa = quick(cuttable.url)
    waiting = await staffa.ainsert_all([Nap.new(name=f"w{i}", seconds=0) for i in range(20)])
    with cuttable.cut():
        pass
    async with staffa:
        assert {job.state for job in await finished(staffa, waiting)} == {State.COMPLETED}
    assert runs == Counter(f"w{i}" for i in range(20))
    staffa.close()


@asynccontextmanager
async def full_disk(url: str, staffa: Staffa) -> AsyncIterator[None]:
    """Let every write fail as on a full disk: by a page limit on SQLite, by SQLSTATE 53100 on PostgreSQL."""
    if url.startswith("sqlite"):
        database: Any = staffa._database
        database.writer.pragma("max_page_count", 1)
        yield
        database.writer.pragma("max_page_count", 1_000_000)
        return
    await in_a_shell(
        url,
        """
        create function full_disk() returns trigger language plpgsql as $$
        begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
        create trigger full_disk before insert or update on oban_jobs
          for each statement execute function full_disk()
        """,
    )
    yield
    await in_a_shell(url, "drop function full_disk cascade")


async def in_a_shell(url: str, sql: str) -> None:
    """Run a statement beside the event loop, which may hold the locks that it waits for."""

    def run() -> None:
        if url.startswith("sqlite"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as shell:
                shell.execute(sql)
        else:
            with psycopg.connect(url, autocommit=True) as shell:
                shell.execute(sql)

    await asyncio.to_thread(run)


class Bulky(Worker, name="tests.Bulky", max_attempts=1):
    """Ends with an error that needs room."""

    async def perform(self, job: Job) -> object:
        runs[job.args["name"]] += 1
        await asyncio.sleep(0.3)
        runs[f"{job.args['name']} ended"] += 1
        return Error("x" * 30_000)


async def test_no_accepted_job_is_lost_by_a_full_disk(url: str) -> None:
    staffa = quick(url)
    failed: list[ExchangeFailed] = []
    staffa.telemetry.attach(lambda event: failed.append(event) if isinstance(event, ExchangeFailed) else None)
    accepted = await staffa.ainsert_all([Bulky.new(name="a"), Bulky.new(name="b")])
    async with staffa:
        await started("a", "b")
        async with full_disk(url, staffa):
            with pytest.raises(DatabaseUnavailable):
                await staffa.ainsert_all([Quick.new(name="refused", text="x" * 5_000) for _ in range(50)])
            await started("a ended", "b ended")
            failed.clear()
            await eventually(lambda: failed, "their outcomes cannot be written")
        done = await finished(staffa, accepted)
    assert [(job.state, len(job.errors)) for job in done] == [(State.DISCARDED, 1)] * 2
    assert runs["a"] == runs["b"] == 1, "the accepted jobs ran once"
    assert runs["refused"] == 0, "the refused ones left nothing behind"
    staffa.close()


def break_connections(url: str, staffa: Staffa) -> None:
    if url.startswith("sqlite"):
        database: Any = staffa._database
        database.writer._soon(sqlite3.Connection.close)
        return
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'staffa'"
        )


class Cutter(Worker, name="tests.Cutter"):
    """Ends just after every connection was cut, so that its outcome is the first to meet a dead one."""

    async def perform(self, job: Job) -> None:
        runs[job.args["name"]] += 1
        await asyncio.to_thread(cutters[0])


cutters: list[Callable[[], None]] = []


async def test_no_accepted_job_is_lost_by_a_lost_connection(url: str) -> None:
    staffa = quick(url)
    cutters[:] = [lambda: break_connections(url, staffa)]
    async with staffa:
        naps = [Nap.new(name=f"n{i}", seconds=0.5) for i in range(5)]
        jobs = await staffa.ainsert_all([*naps, Cutter.new(name="cutter")])
        assert {job.state for job in await finished(staffa, jobs)} == {State.COMPLETED}
        break_connections(url, staffa)
        await eventually(lambda: enqueued(staffa, Quick.new(name="after")))
        await started("after")
    assert runs == Counter(["cutter", *(f"n{i}" for i in range(5)), "after"])
    staffa.close()


async def enqueued(staffa: Staffa, job: Job) -> bool:
    try:
        await staffa.ainsert(job)
    except DatabaseUnavailable:
        return False
    return True


async def test_no_accepted_job_is_lost_by_shutdown(url: str) -> None:
    staffa = quick(url, queues={"default": 2}, grace=timedelta(seconds=0.1))
    jobs = await staffa.ainsert_all([Nap.new(name=f"n{i}", seconds=1.5) for i in range(4)])
    async with staffa:
        await started("n0", "n1")
    assert [job.state for job in await staffa.ajobs()] == [State.AVAILABLE] * 4
    async with quick(url):
        assert {job.state for job in await finished(staffa, jobs)} == {State.COMPLETED}
    staffa.close()


# An effect is recorded once


class TwoLives(Worker, name="tests.TwoLives", max_attempts=5):
    """Each of its attempts goes on when the test says so; the first answers as the job's arguments say."""

    async def perform(self, job: Job) -> object:
        runs[f"take {job.take}"] += 1
        await gates[job.take].wait()
        return Error("from the lost attempt") if job.take == 1 and job.args["fails"] else "done"


gates: dict[int, asyncio.Event] = {}


@pytest.mark.parametrize("fails", [False, True], ids=["late success", "late failure"])
async def test_a_jobs_effect_is_recorded_once_and_late_acks_bounce(url: str, fails: bool) -> None:
    gates.update({1: asyncio.Event(), 2: asyncio.Event()})
    # Neither does it notice before it acks, nor does anybody take it for dead.
    staffa = quick(url, heartbeat=timedelta(seconds=30), plugins=[])
    bounced = bounces_of(staffa)
    async with staffa:
        job = await staffa.ainsert(TwoLives.new(fails=fails))
        await started("take 1")
        await put_back_by_hand(url)
        await started("take 2")
        gates[1].set()
        await eventually(lambda: bounced)
        assert await is_state(staffa, job, State.EXECUTING), "the second attempt still holds it"
        gates[2].set()
        [done] = await finished(staffa, [job])
    assert (done.state, done.take, done.errors) == (State.COMPLETED, 2, [])
    staffa.close()


async def put_back_by_hand(url: str) -> None:
    """Do what an operator does in a shell, whatever the worker thinks."""
    await in_a_shell(url, "update oban_jobs set state = 'available' where state = 'executing'")


def bounces_of(staffa: Staffa) -> list[int | None]:
    bounced: list[int | None] = []
    staffa.telemetry.attach(
        lambda event: bounced.append(event.job.id) if isinstance(event, JobBounced) else None
    )
    return bounced


@pytest.mark.parametrize("fails", [False, True], ids=["late success", "late failure"])
async def test_an_outcome_that_comes_after_a_rescue_changes_nothing(url: str, fails: bool) -> None:
    gates.update({1: asyncio.Event(), 2: asyncio.Event()})
    first, second = quick(url, heartbeat=timedelta(seconds=30)), quick(url, plugins=[])
    bounced = bounces_of(first)
    async with first:
        job = await first.ainsert(TwoLives.new(fails=fails))
        await started("take 1")
        await first.engine.retire([producer.id for producer in await first.aproducers()])
        await first.engine.rescue(10)
        async with second:
            await started("take 2")
            gates[1].set()
            await eventually(lambda: bounced)
            assert await is_state(first, job, State.EXECUTING), "the heir still holds it"
            gates[2].set()
            [done] = await finished(first, [job])
    assert (done.state, done.take, done.errors, done.meta) == (State.COMPLETED, 2, [], {"rescued": 1})
    first.close()
    second.close()


async def is_state(staffa: Staffa, job: Job, state: State) -> bool:
    found = await staffa.aget(job.id or 0)
    return found is not None and found.state == state


# One bad thing stops nobody else


async def test_a_failing_ack_of_one_job_never_blocks_another(url: str) -> None:
    staffa = quick(url)
    jobs = await staffa.ainsert_all(
        [Fail.new(name=f"p{i}", text="") for i in range(3)] + [Quick.new(name=f"q{i}") for i in range(20)]
    )
    texts = iter(["nul \0 in it", "surrogate \udc80 in it", "fine"])
    Fail.perform, kept = lambda self, job: Error(next(texts)), Fail.perform  # type: ignore[method-assign]
    try:
        async with staffa:
            done = await finished(staffa, jobs)
            after = await staffa.ainsert(Quick.new(name="after"))
            await finished(staffa, [after])
    finally:
        Fail.perform = kept  # type: ignore[method-assign]
    assert sorted(job.errors[-1]["error"] for job in done if job.state == State.DISCARDED) == [
        "fine",
        "nul \\x00 in it",
        "surrogate \\udc80 in it",
    ]
    assert sum(job.state == State.COMPLETED for job in done) == 20
    staffa.close()


class BrokenPlugin:
    interval = timedelta(seconds=0.05)
    leader_only = False

    async def tick(self, engine: object) -> dict[str, Any]:
        raise RuntimeError("a plugin's bug")


async def test_a_malformed_notification_a_listeners_bug_or_a_plugins_error_never_stops_the_machine(
    url: str,
) -> None:
    staffa = quick(url, poll=timedelta(seconds=30))  # so that only a notification can wake it
    staffa._plugins.append(BrokenPlugin())
    failures: list[PluginFailed] = []
    listening: list[NotifierListening] = []
    escaped: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: escaped.append(what))

    def listener(event: object) -> None:
        if isinstance(event, PluginFailed):
            failures.append(event)
        if isinstance(event, NotifierListening):
            listening.append(event)
        raise ValueError("a listener's bug")

    staffa.telemetry.attach(listener)
    async with staffa:
        await eventually(lambda: len(failures) >= 2, "the plugin ticks again after its error")
        await eventually(lambda: listening)
        await tell_garbage(url)
        job = await staffa.ainsert(Quick.new(name="after"))
        await finished(staffa, [job])
        if url.startswith("postgresql"):
            other = quick(url, run_queues=False)
            woken = asyncio.get_running_loop().create_future()
            staffa.telemetry.attach(lambda event: note_start(event, woken))
            await other.ainsert(Quick.new(name="heard"))
            await asyncio.wait_for(woken, 10)
            other.close()
    assert escaped == [], "nor does the application's event loop hear of it"
    staffa.close()


def note_start(event: object, woken: "asyncio.Future[None]") -> None:
    if isinstance(event, JobStarted) and event.job.args["name"] == "heard" and not woken.done():
        woken.set_result(None)


async def tell_garbage(url: str) -> None:
    if not url.startswith("postgresql"):
        return
    with psycopg.connect(url, autocommit=True) as connection:
        for payload in (
            "hello",
            "[]",
            "{",
            "Z:nonsense",
            "H4sInonsense",
            '{"queue": {}}',
            "null",
            '{"action": 1}',
        ):
            connection.execute("select pg_notify('public.oban_insert', %s)", [payload])
            connection.execute("select pg_notify('public.oban_signal', %s)", [payload])


# The database may go away


@pytest.mark.parametrize("worker", [Nap, PlainNap])
async def test_jobs_longer_than_an_outage_run_once(cuttable: Any, worker: type[Worker]) -> None:
    staffa, other = quick(cuttable.url), quick(cuttable.url)
    async with staffa, other:
        jobs = await staffa.ainsert_all([worker.new(name=f"n{i}", seconds=3) for i in range(4)])
        await started(*(f"n{i}" for i in range(4)))
        with cuttable.cut():
            await asyncio.sleep(2)
        done = await finished(staffa, jobs)
    assert runs == Counter({f"n{i}": 1 for i in range(4)}), "nothing ran twice for the outage"
    assert {(job.state, job.attempt) for job in done} == {(State.COMPLETED, 1)}
    staffa.close()
    other.close()


async def test_jobs_that_end_during_an_outage_are_recorded_after_it_and_run_once(cuttable: Any) -> None:
    staffa, other = quick(cuttable.url), quick(cuttable.url)
    async with staffa, other:
        jobs = await staffa.ainsert_all([Nap.new(name=f"n{i}", seconds=1) for i in range(4)])
        await started(*(f"n{i}" for i in range(4)))
        with cuttable.cut():
            await asyncio.sleep(2)
        done = await finished(staffa, jobs)
        later = await staffa.ainsert(Quick.new(name="later"))
        await finished(staffa, [later])
    assert runs == Counter([*(f"n{i}" for i in range(4)), "later"])
    assert {job.state for job in done} == {State.COMPLETED}
    staffa.close()
    other.close()


async def test_a_worker_that_blocks_its_event_loop_is_not_taken_for_dead(url: str) -> None:
    staffa = quick(url)
    job = await staffa.ainsert(Block.new(name="blocker", seconds=2.5))
    with OtherNode(quick(url, queues={"default": 5})):
        async with staffa:
            [done] = await finished(staffa, [job])
    assert runs["blocker"] == 1
    assert (done.state, done.meta) == (State.COMPLETED, {})
    staffa.close()


async def test_a_long_write_lock_makes_nobody_look_dead(cuttable: Any) -> None:
    if cuttable.url.startswith("postgresql"):
        pytest.skip("PostgreSQL has no lock on the whole database")
    staffa = quick(cuttable.url)
    with OtherNode(quick(cuttable.url)):
        async with staffa:
            job = await staffa.ainsert(Nap.new(name="long", seconds=3))
            await started("long")
            with cuttable.cut():
                await asyncio.sleep(2)
            [done] = await finished(staffa, [job])
    assert runs["long"] == 1
    assert (done.state, done.meta) == (State.COMPLETED, {})
    staffa.close()


def stop_outside_a_transaction(url: str, process: subprocess.Popen[bytes]) -> None:
    """Stop a process that holds no write lock of SQLite, which nobody could take from it while it sleeps."""
    if not url.startswith("sqlite"):
        process.send_signal(signal.SIGSTOP)
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=10)) as guard:
        guard.execute("begin immediate")
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        guard.execute("rollback")


async def test_a_process_that_slept_through_its_own_funeral_goes_on_under_a_new_name(
    url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    staffa = quick(url)
    job = await staffa.ainsert(Nap.new(name="long", seconds=3))
    async with worker_process(url, ledger) as sleeper:
        await eventually(lambda: lines(ledger)["long"] == 1)
        stop_outside_a_transaction(url, sleeper)
        async with staffa:
            await started("long")
            sleeper.send_signal(signal.SIGCONT)
            [done] = await finished(staffa, [job])
        fresh = await staffa.ainsert(Nap.new(name="fresh", seconds=0))
        [ran] = await finished(staffa, [fresh])
    assert (done.meta, done.take) == ({"rescued": 1}, 2)
    assert ran.attempted_by != done.attempted_by
    assert lines(ledger) == Counter({"long": 1, "fresh": 1}), (
        "the sleeper woke, lost its job and took another"
    )
    staffa.close()


# Shutdown


async def test_shutdown_stops_taking_work_and_waits_the_grace_period(url: str) -> None:
    staffa = quick(url, queues={"default": 1})
    jobs = await staffa.ainsert_all([Nap.new(name="first", seconds=0.5), Nap.new(name="second", seconds=0)])
    async with staffa:
        await started("first")
    states = {job.args["name"]: job.state for job in await staffa.ajobs(ids=[job.id for job in jobs])}
    assert states == {"first": State.COMPLETED, "second": State.AVAILABLE}
    staffa.close()


async def test_shutdown_puts_back_what_was_cut_off_with_its_attempt_returned(url: str) -> None:
    staffa = quick(url, grace=timedelta(seconds=0.1))
    job = await staffa.ainsert(Nap.new(name="long", seconds=30))
    async with staffa:
        await started("long")
    back = await staffa.aget(job.id)
    assert (back.state, back.attempt, back.errors) == (State.AVAILABLE, 0, [])
    staffa.close()


@pytest.mark.parametrize("answer", ["nothing", "cancel", "error", "raise"])
@pytest.mark.parametrize("worker", [StopsInThread, StopsOnLoop])
async def test_shutdown_puts_back_a_job_that_stopped_half_way_whatever_it_answers(
    url: str, worker: type[Worker], answer: str
) -> None:
    staffa = quick(url, grace=timedelta(seconds=0.1))
    job = await staffa.ainsert(worker.new(name=f"stops {worker.__name__} {answer}", answer=answer))
    async with staffa:
        await started(job.args["name"])
    back = await staffa.aget(job.id)
    assert (back.state, back.attempt, back.errors) == (State.AVAILABLE, 0, [])
    staffa.close()


async def test_threads_that_cannot_be_stopped_are_left_to_lifeline(url: str) -> None:
    staffa = quick(url, grace=timedelta(seconds=0.1))
    job = await staffa.ainsert(UntilReleased.new(name="stubborn"))
    async with staffa:
        await started("stubborn")
    assert staffa.unstopped == 1
    left = await staffa.aget(job.id)
    assert left.state in (State.EXECUTING, State.AVAILABLE), (
        "any Lifeline may have it back, the leaving one's too"
    )
    async with quick(url) as heir:
        await eventually(lambda: runs["stubborn"] == 2)
        release.set()
        [done] = await finished(heir, [job])
    assert (done.state, done.meta) == (State.COMPLETED, {"rescued": 1})
    staffa.close()


# Bad input


@pytest.mark.parametrize(
    ("make_job", "error", "says"),
    [
        (lambda: Quick.new({"when": {1, 2}}), InvalidArguments, "args['when'] is a set"),
        (lambda: Quick.new({1: "x"}), InvalidArguments, "JSON keys are text"),
        (lambda: Quick.using(priority=10).new(), InvalidJob, "priority must be a whole number from 0 to 9"),
        (lambda: Quick.using(queue="").new(), InvalidJob, "queue must be text of 1 to 127 characters"),
        (lambda: Quick.using(max_attempts=0).new(), InvalidJob, "max_attempts must be a whole number"),
        (Job, InvalidJob, "worker must be text"),
    ],
)
async def test_bad_input_gets_an_error_that_names_what_is_wrong_and_nothing_is_written(
    url: str, make_job: Callable[[], Job], error: type[Exception], says: str
) -> None:
    staffa = quick(url, run_queues=False)
    with pytest.raises(error) as refused:
        await staffa.ainsert_all([Quick.new(name="good"), make_job()])
    assert says in str(refused.value)
    assert await staffa.ajobs() == []
    staffa.close()
