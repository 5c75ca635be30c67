"""Jobs in processes of their own: what they answer, how they die, and who dies with them."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import apart
import nodes
from apart import Answer, Modest, compute, follow, note_pid, wait_for
from nodes import SILENCE, quick
from staffa import Job, Staffa, State, Worker, _processes, job
from staffa._dialogue import Begin
from staffa._running import Running, Stop
from staffa._threads import Threads
from staffa.errors import InvalidWorker
from staffa.telemetry import JobStopped
from staffa.testing import drain, perform_job

ROOT = Path(__file__).parent
PATIENCE = 60.0  # a machine under load may take seconds to start a process
eventually = partial(nodes.eventually, within=PATIENCE)
finished = partial(nodes.finished, within=PATIENCE)
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # where no database matters


@pytest.fixture
def staffa(url: str) -> Any:
    instance = quick(url, queues={"default": 2})
    yield instance
    instance.close()
    assert children() == []


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "staffa._child" in " ".join(child.cmdline())
    ]


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def pids_in(file: Path) -> list[int]:
    await eventually(file.exists, f"{file.name} did not appear")
    return [int(word) for word in file.read_text().split()]


async def stored_as(staffa: Staffa, stored: Job, *states: State) -> Job:
    assert stored.id is not None

    async def is_there() -> bool:
        return (await staffa.aget(stored.id)).state in states

    await eventually(is_there, f"never became {states}")
    return await staffa.aget(stored.id)


async def failed(staffa: Staffa, stored: Job) -> str:
    """Give the error of a job once it has failed."""
    after = await stored_as(staffa, stored, State.RETRYABLE, State.DISCARDED)
    assert after.attempt == 1
    return str(after.errors[-1]["error"])


async def test_answers_and_exceptions_are_those_of_the_worker(staffa: Staffa) -> None:
    raised: list[object] = []
    staffa.telemetry.attach(lambda event: isinstance(event, JobStopped) and raised.append(event.error))
    async with staffa:
        stored = {
            do: await staffa.ainsert(Answer.new(do=do))
            for do in (
                "cancel",
                "snooze",
                "error",
                "raise",
                "raise oddly",
                "raise a lock",
                "answer a lock",
                "return a coroutine",
                "leave",
                "press Ctrl-C",
                "anything",
            )
        }

        cancelled = await stored_as(staffa, stored["cancel"], State.CANCELLED)
        assert cancelled.errors[-1]["error"] == "no such file"
        snoozed = await stored_as(staffa, stored["snooze"], State.SCHEDULED)
        assert (snoozed.attempt, snoozed.meta) == (0, {"snoozed": 1})
        assert await failed(staffa, stored["error"]) == "not today"
        traceback = await failed(staffa, stored["raise"])
        assert traceback.startswith("Traceback")
        assert traceback.endswith('    raise ValueError("kaboom")\nValueError: kaboom\n')
        assert traceback.count("\n  File") == 1
        assert "apart.Odd: odd 7" in await failed(staffa, stored["raise oddly"])
        assert "RuntimeError: <unlocked" in await failed(staffa, stored["raise a lock"])
        assert (await stored_as(staffa, stored["answer a lock"], State.COMPLETED)).errors == []
        assert "make it `async def`" in await failed(staffa, stored["return a coroutine"])
        assert "SystemExit: 3" in await failed(staffa, stored["leave"])
        assert "KeyboardInterrupt" in await failed(staffa, stored["press Ctrl-C"])
        assert (await stored_as(staffa, stored["anything"], State.COMPLETED)).errors == []
    kinds = {(type(error).__name__, str(error)) for error in raised if error is not None}
    assert ("ValueError", "kaboom") in kinds
    assert ("RuntimeError", "apart.Odd: odd 7") in kinds


@pytest.mark.parametrize(
    ("do", "cause"),
    [
        ("exit", "exited with code 3 before the job had ended"),
        ("fault", "was killed by SIGSEGV before the job had ended"),
        ("be killed", "was killed by SIGKILL (by hand, or by the system for want of memory)"),
    ],
)
@on_sqlite
async def test_a_process_that_dies_fails_its_own_job_and_no_other(
    staffa: Staffa, tmp_path: Path, do: str, cause: str
) -> None:
    async with staffa:
        other = await staffa.ainsert(wait_for.new(str(tmp_path / "other"), str(tmp_path / "go")))
        await pids_in(tmp_path / "other")
        culprit = await staffa.ainsert(Answer.new(do=do))

        assert cause in await failed(staffa, culprit)

        next_one = await staffa.ainsert(note_pid.new(str(tmp_path / "next")))
        await stored_as(staffa, next_one, State.COMPLETED)
        (tmp_path / "go").touch()
        assert (await stored_as(staffa, other, State.COMPLETED)).attempt == 1


@on_sqlite
async def test_what_a_job_has_started_dies_with_its_process(staffa: Staffa, tmp_path: Path) -> None:
    async with staffa:
        culprit = await staffa.ainsert(Answer.new(do="fork and exit", file=str(tmp_path / "forked")))
        pids = await pids_in(tmp_path / "forked")

        assert "exited with code 4" in await failed(staffa, culprit)

        await eventually(lambda: not any(map(lives, pids)))


@on_sqlite
async def test_a_job_whose_process_dies_is_given_up_after_its_last_attempt_and_its_hook_runs_here(
    staffa: Staffa, tmp_path: Path
) -> None:
    async with staffa:
        stored = await staffa.ainsert(
            Answer.using(max_attempts=1).new(do="exit", hook=str(tmp_path / "hook"))
        )

        [after] = await finished(staffa, [stored])

    assert after.state is State.DISCARDED
    assert "exited with code 3" in after.errors[-1]["error"]
    assert await pids_in(tmp_path / "hook") == [os.getpid()]


@on_sqlite
async def test_at_its_deadline_a_process_is_killed_and_its_place_is_free(
    staffa: Staffa, tmp_path: Path
) -> None:
    staffa.queues = {"default": staffa.queues["default"].__class__(1)}
    async with staffa:
        late = await staffa.ainsert(apart.hurry.new(str(tmp_path / "late")))
        [pid] = await pids_in(tmp_path / "late")
        after = await staffa.ainsert(note_pid.new(str(tmp_path / "after")))

        assert await failed(staffa, late) == "apart.hurry timed out after 0.3 s"
        await stored_as(staffa, after, State.COMPLETED)
        await eventually(lambda: not lives(pid))


async def test_cancelling_kills_the_process_and_all_that_its_job_has_started(
    staffa: Staffa, tmp_path: Path
) -> None:
    async with staffa:
        stored = await staffa.ainsert(compute.new(str(tmp_path / "busy")))
        pids = await pids_in(tmp_path / "busy")
        assert all(map(lives, pids))

        await staffa.acancel(stored.id)

        await eventually(lambda: not any(map(lives, pids)))
        after = await staffa.ainsert(note_pid.new(str(tmp_path / "after")))
        await stored_as(staffa, after, State.COMPLETED)
        assert (await staffa.aget(stored.id)).state is State.CANCELLED


@pytest.mark.parametrize("kind", ["plain", "awaited"])
@on_sqlite
async def test_a_cancelled_process_has_a_moment_to_end_by_itself(
    staffa: Staffa, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_processes, "NOTICE_SECONDS", PATIENCE)
    file = tmp_path / "running"
    given = (
        wait_for.new(str(file), str(tmp_path / "never"))
        if kind == "plain"
        else apart.await_cancellation.new(str(file))
    )
    async with staffa:
        stored = await staffa.ainsert(given)
        [pid] = await pids_in(file)

        await staffa.acancel(stored.id)

        assert await pids_in(tmp_path / "running.told") == [pid]
        await staffa.ainsert(note_pid.new(str(tmp_path / "next")))
        assert await pids_in(tmp_path / "next") == [pid]
        assert (await staffa.aget(stored.id)).state is State.CANCELLED


async def test_at_shutdown_a_process_that_does_not_end_is_killed_and_its_job_put_back(
    url: str, tmp_path: Path
) -> None:
    staffa = quick(url, grace=timedelta(seconds=0.1))
    async with staffa:
        stored = await staffa.ainsert(compute.new(str(tmp_path / "busy")))
        pids = await pids_in(tmp_path / "busy")

    await eventually(lambda: not any(map(lives, pids)))
    after = await staffa.aget(stored.id)
    assert (after.state, after.attempt, after.errors) == (State.AVAILABLE, 0, [])
    staffa.close()


@pytest.mark.parametrize("kind", ["plain", "awaited"])
@on_sqlite
async def test_at_shutdown_a_job_that_stopped_half_way_is_put_back_whatever_it_answers(
    url: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_processes, "NOTICE_SECONDS", 5.0)
    staffa = quick(url, grace=timedelta(seconds=0.1))
    file = tmp_path / "running"
    given = (
        wait_for.new(str(file), str(tmp_path / "never"))
        if kind == "plain"
        else apart.await_cancellation.new(str(file))
    )
    async with staffa:
        stored = await staffa.ainsert(given)
        pids = await pids_in(file)

    assert await pids_in(tmp_path / "running.told") == pids
    after = await staffa.aget(stored.id)
    assert (after.state, after.attempt, after.errors) == (State.AVAILABLE, 0, [])
    staffa.close()


async def test_an_attempt_whose_process_is_killed_while_it_starts_is_cut_off_and_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'begun')!r}).touch()\ntime.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    begin = Begin(
        os.getpid(), ("slow_to_import",), None, "public", "Staffa", "here", default=False, levels={}
    )
    running = Running()

    async def attempt(processes: _processes.InProcesses) -> None:
        async with processes.process(running):
            raise AssertionError("it started")

    with closing(Threads("staffa-test")) as threads:
        processes = _processes.InProcesses(threads, lambda: begin)
        attempted = asyncio.create_task(attempt(processes))
        await eventually((tmp_path / "begun").exists)

        await processes.close()

        with pytest.raises(asyncio.CancelledError):
            await attempted
    assert running.stopped is Stop.SHUTDOWN


@on_sqlite
async def test_at_shutdown_a_process_has_the_grace_period_to_end(url: str, tmp_path: Path) -> None:
    staffa = quick(url, grace=timedelta(minutes=1))
    await staffa.start()
    stored = await staffa.ainsert(wait_for.new(str(tmp_path / "running"), str(tmp_path / "go")))
    await pids_in(tmp_path / "running")
    async with asyncio.TaskGroup() as group:
        group.create_task(staffa.stop())
        await asyncio.sleep(0)  # so that it has begun to stop
        (tmp_path / "go").touch()

    assert (await staffa.aget(stored.id)).state is State.COMPLETED
    staffa.close()


async def test_progress_is_stored_while_the_process_runs(staffa: Staffa, tmp_path: Path) -> None:
    async with staffa:
        stored = await staffa.ainsert(wait_for.new(str(tmp_path / "running"), str(tmp_path / "go")))

        async def told() -> object:
            return (await staffa.aget(stored.id)).meta.get("progress")

        await eventually(told)
        assert await told() == {"current": 1, "total": 2, "note": "waiting"}
        (tmp_path / "go").touch()
        assert (await stored_as(staffa, stored, State.COMPLETED)).meta["progress"] == await told()


@pytest.mark.parametrize("worker", [apart.enqueue, apart.enqueue_awaited])
async def test_a_process_enqueues_into_the_database_of_its_parent(
    staffa: Staffa, tmp_path: Path, worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with staffa.as_default():
        async with staffa:
            stored = await staffa.ainsert(worker.new(str(tmp_path / "followed")))

            assert await pids_in(tmp_path / "followed") == [os.getpid()]
            await stored_as(staffa, stored, State.COMPLETED)

    if worker is apart.enqueue:
        assert ("app.jobs", f"enqueued by job {stored.id}") in [
            (record.name, record.message) for record in caplog.records
        ]


async def test_a_database_in_memory_cannot_be_enqueued_into_from_a_process(tmp_path: Path) -> None:
    staffa = quick("sqlite://")
    with staffa.as_default():
        async with staffa:
            stored = await staffa.ainsert(apart.enqueue.new(str(tmp_path / "followed")))

            [after] = await finished(staffa, [stored])

    assert "keeps its jobs in memory" in after.errors[-1]["error"]
    staffa.close()


@on_sqlite
async def test_processes_start_when_jobs_want_them_and_are_used_again(staffa: Staffa, tmp_path: Path) -> None:
    async with staffa:
        await finished(staffa, [await staffa.ainsert(follow.new(str(tmp_path / "in a thread")))])
        assert children() == []

        for name in ("first", "second"):
            await finished(staffa, [await staffa.ainsert(note_pid.new(str(tmp_path / name)))])

        assert [child.pid for child in children()] == await pids_in(tmp_path / "first")
        assert await pids_in(tmp_path / "first") == await pids_in(tmp_path / "second")


@on_sqlite
async def test_a_process_that_dies_while_it_waits_is_replaced_before_the_next_job(
    staffa: Staffa, tmp_path: Path
) -> None:
    async with staffa:
        await finished(staffa, [await staffa.ainsert(note_pid.new(str(tmp_path / "first")))])
        [pid] = await pids_in(tmp_path / "first")
        os.kill(pid, signal.SIGKILL)  # and it may still seem to live when the next job comes

        [after] = await finished(staffa, [await staffa.ainsert(note_pid.new(str(tmp_path / "second")))])

    assert (after.state, after.errors) == (State.COMPLETED, [])


@on_sqlite
async def test_a_process_that_has_run_many_jobs_is_replaced(
    staffa: Staffa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_processes, "JOBS_PER_CHILD", 1)
    async with staffa:
        for name in ("first", "second"):
            await finished(staffa, [await staffa.ainsert(note_pid.new(str(tmp_path / name)))])

    assert await pids_in(tmp_path / "first") != await pids_in(tmp_path / "second")


@on_sqlite
async def test_a_process_leaves_signals_to_its_parent(staffa: Staffa, tmp_path: Path) -> None:
    async with staffa:
        stored = await staffa.ainsert(wait_for.new(str(tmp_path / "running"), str(tmp_path / "go")))
        [pid] = await pids_in(tmp_path / "running")
        assert os.getpgid(pid) != os.getpgid(0)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        (tmp_path / "go").touch()

        assert (await stored_as(staffa, stored, State.COMPLETED)).attempt == 1


@on_sqlite
async def test_a_job_that_wants_more_memory_than_it_may_take_fails_alone(staffa: Staffa) -> None:
    async with staffa:
        greedy = await staffa.ainsert(Modest.new(do="eat"))
        assert "MemoryError" in await failed(staffa, greedy)

        free = await staffa.ainsert(Answer.new(do="eat"))
        await stored_as(staffa, free, State.COMPLETED)


async def test_a_long_job_in_a_process_is_nobodys_orphan(url: str, tmp_path: Path) -> None:
    first, second = quick(url, node="first"), quick(url, node="second", queues={"other": 1})
    async with first, second:
        stored = await first.ainsert(wait_for.new(str(tmp_path / "running"), str(tmp_path / "go")))
        await pids_in(tmp_path / "running")
        seen = asyncio.get_running_loop().time() + 2 * SILENCE.total_seconds()
        while asyncio.get_running_loop().time() < seen:
            await asyncio.sleep(0.05)
        (tmp_path / "go").touch()
        [after] = await finished(first, [stored])
    assert (after.attempt, after.meta.get("rescued")) == (1, None)
    first.close()
    second.close()


@on_sqlite
def test_tests_run_it_where_they_stand(make: Any, tmp_path: Path) -> None:
    perform_job(note_pid, {"file": str(tmp_path / "performed")})
    manual = make(testing="manual", default=True)
    note_pid.using(instance=manual).enqueue(str(tmp_path / "drained"))
    assert drain(manual).completed == 1
    note_pid.using(instance=make(testing="inline")).enqueue(str(tmp_path / "inline"))

    for name in ("performed", "drained", "inline"):
        assert (tmp_path / name).read_text() == str(os.getpid())


# Where its code is


def test_a_worker_that_no_other_process_can_import_is_refused() -> None:
    with pytest.raises(InvalidWorker, match='executor="process" needs a worker at the top of a module'):

        @job(executor="process")
        def hidden() -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "fiber"}, 'executor must be "thread" or "process", not \'fiber\''),
        ({"max_memory": 2**20}, 'max_memory needs executor="process"'),
        ({"executor": "thread", "max_memory": "1G"}, "must be a whole number of bytes, not '1G'"),
    ],
)
def test_wrong_options_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InvalidWorker, match=message):

        @job(**options)
        def wrong() -> None: ...


def test_an_async_worker_has_no_thread() -> None:
    with pytest.raises(InvalidWorker, match="perform is async and runs on the event loop"):

        class Wrong(Worker, executor="thread"):
            async def perform(self, job: Job) -> None: ...


SCRIPT = """
import asyncio, os, sys
from staffa import Staffa, job

@job(executor="process", max_attempts=1)
def who() -> None:
    print("run by", os.getpid() != int(os.environ["PARENT"]), __name__)

staffa = Staffa("sqlite:///app.db")

async def main():
    os.environ["PARENT"] = str(os.getpid())
    async with staffa:
        stored = await who.aenqueue()
        while (found := await staffa.aget(stored.id)).completed_at is None and not found.errors:
            await asyncio.sleep(0.01)
    print(found.worker, found.state, *[error["error"] for error in found.errors])

"""


@pytest.mark.parametrize("guarded", [True, False])
def test_a_worker_of_the_main_program_is_found_by_the_name_of_its_file(tmp_path: Path, guarded: bool) -> None:
    run = "if __name__ == '__main__':\n    asyncio.run(main())\n" if guarded else "asyncio.run(main())\n"
    (tmp_path / "program.py").write_text(SCRIPT + run)

    said = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )

    if guarded:
        assert said.stdout == "run by True program\nprogram.who completed\n"
    else:
        assert "program.who discarded" in said.stdout
        assert "guard that with `if __name__ == '__main__':`" in said.stdout


def test_a_worker_typed_into_a_shell_is_refused(tmp_path: Path) -> None:
    typed = "from staffa import job\n@job(name='app.x', executor='process')\ndef x(): ...\n"

    said = subprocess.run(
        [sys.executable, "-c", typed], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )

    assert "x is defined where no other process can import it" in said.stderr


async def test_a_module_that_cannot_be_imported_fails_the_job_and_says_why(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_once.py").write_text(
        "import os\nfrom staffa import job\n"
        "if os.environ.get('BROKEN'):\n    raise LookupError('no licence')\n"
        "@job(executor='process')\ndef something() -> None: ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    staffa = quick(sqlite_url, modules=["only_once"])
    async with staffa:
        monkeypatch.setenv("BROKEN", "1")
        stored = await staffa.ainsert(Job(worker="only_once.something"))
        error = await failed(staffa, stored)

    assert error.startswith("the process for this job could not start:\nTraceback")
    assert error.endswith("LookupError: no licence\n")
    staffa.close()


# Results


async def test_what_a_process_returns_is_recorded(staffa):
    async with staffa:
        plain = await staffa.aresult(await staffa.ainsert(apart.record.new("my pid")), timeout=60)
        typed = await staffa.aresult(await staffa.ainsert(apart.record.new("a stranger")), timeout=60)
    assert plain.value["pid"] != os.getpid()
    assert typed.value == [{"name": "Asha"}]


@on_sqlite
async def test_a_result_that_cannot_leave_its_process_is_named(staffa):
    async with staffa:
        result = await staffa.aresult(await staffa.ainsert(apart.record.new("a lock")), timeout=60)
    assert result.state is State.CANCELLED
    assert (
        "its result cannot be carried from its process to this one: <unlocked"
        in result.job.errors[-1]["error"]
    )
