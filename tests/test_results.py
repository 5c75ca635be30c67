"""A job's result can be waited for: by many, elsewhere, and without asking the database all the time."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pydantic
import pytest

from nodes import eventually, finished, quick
from staffa import Cancel, Job, Pruner, Record, Result, Snooze, Staffa, State, Worker, job
from staffa._watched import Watched
from staffa.errors import (
    InsideEventLoop,
    InstanceError,
    InvalidJob,
    InvalidResult,
    InvalidWorker,
    ResultFailed,
    ResultGone,
    ResultTimeout,
    SchemaMissing,
)
from staffa.notifier import WATCH, naming
from staffa.telemetry import EngineCalled

PATIENCE = timedelta(seconds=30)


@dataclass
class Lead:
    name: str
    since: datetime


class Deal(msgspec.Struct):
    lead: Lead


class Offer(pydantic.BaseModel):
    price: float


SINCE = datetime(2030, 1, 1, tzinfo=UTC)
ANSWERS: dict[str, Any] = {
    "dict": {"a": [1, None, True, 1.5, "ü"]},
    "list": [1, [2], {"b": 3}],
    "text": "text",
    "number": 2**63,
    "zero": 0,
    "false": False,
    "none": None,
    "dataclass": Lead("Asha", SINCE),
    "struct": Deal(Lead("Asha", SINCE)),
    "pydantic": Offer(price=1.5),
    "inside": [{"lead": Lead("Asha", SINCE)}, Offer(price=2)],
    "set": {1},
    "date": {"at": [SINCE]},
    "nan": [float("nan")],
    "nul": "a\0b",
    "keys": {1: 2},
    "object": object(),
    "large": "x" * 1_000_001,
}
LEAD = {"name": "Asha", "since": "2030-01-01T00:00:00Z"}
GATES: dict[str, threading.Event] = {}


class Answers(Worker, name="results.Answers", recorded=True, max_attempts=2):
    def perform(self, job: Job) -> Any:
        return ANSWERS[job.args["which"]]


class Records(Worker, name="results.Records"):
    def perform(self, job: Job) -> Any:
        return Record(ANSWERS[job.args["which"]]) if job.args["which"] else "nothing to keep"


class Waits(Worker, name="results.Waits", recorded=True):
    """Runs until its gate is opened."""

    def perform(self, job: Job) -> Any:
        assert GATES[job.args["gate"]].wait(60)
        return job.args.get("answer")


class Ends(Worker, name="results.Ends", recorded=True, max_attempts=1):
    def perform(self, job: Job) -> Any:
        match job.args["how"]:
            case "cancel":
                return Cancel("never mind")
            case "raise":
                raise ValueError("kaboom")
            case "snooze" if not job.meta.get("snoozed"):
                return Snooze(0)
        return job.attempt


@job(recorded=True)
async def double(number: int) -> int:
    return 2 * number


@pytest.fixture
async def staffa(url: str) -> AsyncIterator[Staffa]:
    instance = quick(url, queues={"default": 20})
    yield instance
    for gate in GATES.values():
        gate.set()
    GATES.clear()
    await instance.stop()
    instance.close()


@pytest.fixture
def gate() -> threading.Event:
    GATES["gate"] = threading.Event()
    return GATES["gate"]


def calls(staffa: Staffa) -> list[EngineCalled]:
    found: list[EngineCalled] = []
    staffa.telemetry.attach(found.append, EngineCalled)
    return found


async def waited_for(staffa: Staffa, count: int = 1) -> None:
    """Wait until somebody waits and listens."""
    await eventually(lambda: len(staffa._waiting._waiters) == count and staffa._waiting._listens)
    await eventually(lambda: not staffa._waiting._began and not staffa._waiting._new)


def inline(job: Job) -> Job:
    """Run a job where it is enqueued."""
    staffa = Staffa(testing="inline")
    performed = staffa.insert(job)
    staffa.close()
    return performed


# What is recorded


@pytest.mark.parametrize("kind", [Answers, Records])
@pytest.mark.parametrize(
    ("which", "value"),
    [
        *((name, ANSWERS[name]) for name in ("dict", "list", "text", "number", "zero", "false", "none")),
        ("dataclass", LEAD),
        ("struct", {"lead": LEAD}),
        ("pydantic", {"price": 1.5}),
        ("inside", [{"lead": LEAD}, {"price": 2.0}]),
    ],
)
def test_what_json_holds_is_recorded_and_declared_types_as_they_are_in_arguments(kind, which, value):
    performed = inline(kind.new(which=which))

    assert performed.state is State.COMPLETED
    assert performed.result == value


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("set", "its result is a set, which JSON cannot hold"),
        ("date", r"its result\['at'\]\[0\] is a datetime, which JSON cannot hold"),
        ("nan", r"its result\[0\] is nan"),
        ("nul", "its result contains a NUL"),
        ("keys", "its result has the key 1 of type int"),
        ("object", "its result is a object"),
        ("large", r"its result has 1,000,003 bytes of JSON, and at most 1,000,000 are kept"),
    ],
)
def test_a_result_that_cannot_be_kept_is_refused_by_name(which, reason):
    with pytest.raises(InvalidResult, match=reason):
        inline(Answers.new(which=which))


@pytest.mark.parametrize("which", ["set", "large"])
async def test_a_job_whose_result_cannot_be_kept_is_cancelled_and_says_why(staffa, which):
    """The work is done: to do it again would give the same."""
    async with staffa:
        result = await staffa.aresult(await staffa.ainsert(Answers.new(which=which)), timeout=PATIENCE)

    assert (result.state, result.job.attempt, result.job.result) == (State.CANCELLED, 1, None)
    with pytest.raises(ResultFailed, match=r"results\.Answers was done, but its result"):
        _ = result.value


def test_only_what_is_asked_for_is_recorded():
    performed = inline(Records.new(which=""))
    assert (performed.state, performed.result, performed.meta) == (State.COMPLETED, None, {})


def test_recorded_is_inherited_and_checked():
    class Below(Answers, name="results.Below"): ...

    assert Below.options.recorded
    with pytest.raises(InvalidWorker, match="recorded must be True or False, not 'yes'"):

        class Wrong(Worker, recorded="yes"): ...


async def test_a_value_is_the_same_after_its_way_through_the_database(staffa):
    keep = {name: value for name, value in ANSWERS.items() if name in {"dict", "list", "number", "text"}}
    async with staffa:
        stored = {name: await staffa.ainsert(Answers.new(which=name)) for name in keep}
        found = {name: (await staffa.aresult(job, timeout=PATIENCE)).value for name, job in stored.items()}
    assert found == keep


async def test_a_run_that_records_nothing_takes_an_older_result_away(staffa):
    async with staffa:
        again = await staffa.ainsert(Records.using(meta={"recorded_result": "old"}).new(which=""))
        assert (await staffa.aresult(again, timeout=PATIENCE)).value is None


# Waiting


async def test_a_result_is_waited_for_on_a_loop(staffa):
    async with staffa:
        result = await staffa.aresult(await double.using(instance=staffa).aenqueue(21), timeout=PATIENCE)
    assert (result.ok, result.state, result.value) == (True, State.COMPLETED, 42)


async def test_a_result_is_waited_for_in_a_thread_by_id_too(staffa):
    async with staffa:
        stored = await double.using(instance=staffa).aenqueue(4)
        result = await asyncio.to_thread(staffa.result, stored.id, timeout=30)
    assert (type(result), result.value) == (Result, 8)


async def test_who_waits_need_not_be_who_runs_and_is_woken_by_a_hint(staffa, make, gate, monkeypatch):
    """Nobody looks by himself within an hour here."""
    monkeypatch.setattr("staffa._waiting.FIRST_LOOK_SECONDS", 3600)
    elsewhere = make(run_queues=False)
    async with staffa:
        stored = await elsewhere.ainsert(Waits.new(gate="gate", answer="from afar"))
        waiting = asyncio.create_task(elsewhere.aresult(stored, timeout=PATIENCE))
        await waited_for(elsewhere)
        gate.set()
        assert (await waiting).value == "from afar"


async def test_another_process_waits(staffa, gate, url, tmp_path):
    script = (
        "import sys; from staffa import Staffa; staffa = Staffa(sys.argv[1], run_queues=False);"
        "print(staffa.result(int(sys.argv[2]), timeout=30).value); staffa.close()"
    )
    async with staffa:
        stored = await staffa.ainsert(Waits.new(gate="gate", answer="for you"))
        watched = staffa._watched._until
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, url, str(stored.id)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        await eventually(lambda: stored.id in staffa._watched._until, f"nobody watches: {watched}")
        gate.set()
        said, _ = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, said) == (0, "for you\n")


async def test_a_snoozed_job_is_waited_for_until_it_is_done(staffa):
    async with staffa:
        result = await staffa.aresult(await staffa.ainsert(Ends.new(how="snooze")), timeout=PATIENCE)
    assert result.value == 1


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [("cancel", State.CANCELLED, "never mind"), ("raise", State.DISCARDED, "ValueError: kaboom")],
)
async def test_a_job_that_fails_is_a_result_without_a_value(staffa, how, state, reason):
    async with staffa:
        result = await staffa.aresult(await staffa.ainsert(Ends.new(how=how)), timeout=PATIENCE)
    assert (result.ok, result.state) == (False, state)
    with pytest.raises(ResultFailed, match=f"job {result.job.id} is {state}: {reason}"):
        _ = result.value


async def test_a_job_that_ended_long_ago_answers_at_once_and_without_queues(staffa, make):
    async with staffa:
        stored = await double.using(instance=staffa).aenqueue(1)
        await finished(staffa, [stored])
    assert (await make(run_queues=False).aresult(stored, timeout=PATIENCE)).value == 2


async def test_a_job_cancelled_elsewhere_while_somebody_waits_is_found(staffa, make):
    elsewhere = make(run_queues=False)
    stored = await elsewhere.ainsert(double.new(1))
    waiting = asyncio.create_task(elsewhere.aresult(stored, timeout=PATIENCE))
    await waited_for(elsewhere)
    await staffa.acancel(stored.id)
    assert (await waiting).state is State.CANCELLED


@pytest.mark.parametrize("how", ["delete", "prune"])
async def test_a_job_that_vanishes_while_somebody_waits_is_gone(staffa, make, how):
    elsewhere = make(run_queues=False)
    stored = await elsewhere.ainsert(double.new(1))
    waiting = asyncio.create_task(elsewhere.aresult(stored, timeout=PATIENCE))
    await waited_for(elsewhere)
    if how == "prune":
        await staffa.acancel(stored.id)
        await Pruner(max_age=timedelta(0)).tick(staffa.engine)
    else:
        await staffa.adelete(stored.id)
    [found] = await asyncio.gather(waiting, return_exceptions=True)
    seen_before = how == "prune" and isinstance(found, Result) and found.state is State.CANCELLED
    assert seen_before or (isinstance(found, ResultGone) and f"there is no job {stored.id}" in str(found))


async def test_an_unknown_job_is_gone_at_once(make):
    staffa = make(run_queues=False)
    with pytest.raises(
        ResultGone, match="there is no job 4711: it was never stored, or it was deleted or pruned"
    ):
        await staffa.aresult(4711, timeout=PATIENCE)


async def test_waiting_on_a_fresh_file_warns_of_nothing(sqlite_url: str, caplog: pytest.LogCaptureFixture):
    staffa = Staffa(sqlite_url, run_queues=False)
    with pytest.raises(ResultGone):
        await staffa.aresult(1, timeout=PATIENCE)
    staffa.close()
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


async def test_who_waits_too_long_is_told_and_the_job_goes_on(staffa, gate):
    async with staffa:
        stored = await staffa.ainsert(Waits.new(gate="gate"))
        with pytest.raises(ResultTimeout, match=f"job {stored.id} has not finished within 0.2 s"):
            await staffa.aresult(stored, timeout=0.2)
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(staffa.result, stored, timeout=timedelta(seconds=0.1))
        assert staffa._waiting._waiters == {}
        gate.set()
        assert (await staffa.aresult(stored, timeout=PATIENCE)).ok


async def test_who_is_cancelled_waits_no_longer(staffa, gate):
    async with staffa:
        stored = await staffa.ainsert(Waits.new(gate="gate"))
        waiting = asyncio.create_task(staffa.aresult(stored))
        await waited_for(staffa)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert staffa._waiting._waiters == {}
        gate.set()


async def test_a_thousand_wait_by_a_few_statements(staffa, make):
    elsewhere = make(run_queues=False)
    stored = await elsewhere.ainsert_all([double.new(number) for number in range(1000)])
    asked = calls(elsewhere)
    async with staffa:
        waiting = [elsewhere.aresult(job, timeout=PATIENCE) for job in stored]
        results = await asyncio.gather(*waiting)
    assert [result.value for result in results] == [2 * number for number in range(1000)]
    words = [call.word for call in asked]
    assert words.count("states") < 100
    assert set(words) <= {"states", "jobs", "tell"}


async def test_nobody_asks_the_database_all_the_time(make, gate):
    """In three seconds: one look at once, one when listening has begun, then after 1, 1.5 and more seconds."""
    staffa = make(run_queues=False)
    stored = await staffa.ainsert(double.new(1))
    asked = calls(staffa)
    with pytest.raises(ResultTimeout):
        await staffa.aresult(stored, timeout=3)
    words = [call.word for call in asked]
    assert 2 <= words.count("states") <= 5
    assert words.count("tell") <= 4
    assert set(words) == {"states", "tell"}


async def test_the_workers_of_jobs_that_nobody_waits_for_tell_nothing(staffa):
    asked = calls(staffa)
    async with staffa:
        await finished(staffa, await staffa.ainsert_all([double.new(1) for _ in range(20)]))
    assert [call for call in asked if call.word == "tell"] == []


async def test_a_job_that_ended_before_anybody_heard_who_waits_is_told_all_the_same(staffa):
    async with staffa:
        stored = await staffa.ainsert(double.new(1))
        await finished(staffa, [stored])
        told = calls(staffa)
        await staffa.engine.tell(WATCH, [{"job_ids": [stored.id]}])
        await eventually(lambda: [call.word for call in told].count("tell") == 2)


@pytest.mark.parametrize("payload", [{}, {"job_ids": 7}, {"job_ids": ["7", None, 1.5, True]}, {"job_id": 7}])
def test_what_names_no_jobs_is_ignored(payload):
    watched = Watched()
    watched.ended({7})
    assert not watched.watch(payload)
    assert watched.owed() == []


def test_what_ended_is_owed_once_to_those_who_said_that_they_wait_before_or_after():
    watched = Watched()
    watched.watch({"job_ids": [1, 2]})
    watched.ended({1, 3})
    assert watched.owed() == [{"job_ids": [1]}]
    assert watched.watch({"job_ids": [3]})
    assert watched.owed() == [{"job_ids": [3]}]
    watched.ended({1})
    assert watched.owed() == []


def test_who_no_longer_says_that_he_waits_is_forgotten(monkeypatch):
    monkeypatch.setattr("staffa._watched.REMEMBERED_SECONDS", 0)
    watched = Watched()
    watched.watch({"job_ids": [1, 2]})
    watched.ended({1})
    assert watched.owed() == [{"job_ids": [1]}]
    assert watched._until == {}


def test_only_the_latest_jobs_that_ended_are_remembered():
    watched = Watched()
    for start in range(0, 100_000, 1_000):
        watched.ended(set(range(start, start + 1_000)))
    assert len(watched._recent) + len(watched._before) < 20_000
    assert watched.watch({"job_ids": [99_999]})


def test_many_jobs_are_named_in_payloads_that_a_notification_holds():
    payloads = naming(range(2**62, 2**62 + 1_000))
    assert max(len(json.dumps(payload)) for payload in payloads) < 8_000
    assert sum(len(payload["job_ids"]) for payload in payloads) == 1_000


async def test_an_outage_while_somebody_waits_costs_only_time(postgres_url, gate):
    """Every connection is lost, again and again."""
    staffa, elsewhere = quick(postgres_url), Staffa(postgres_url, run_queues=False)
    async with staffa:
        stored = await elsewhere.ainsert(Waits.new(gate="gate", answer="all the same"))
        waiting = asyncio.create_task(elsewhere.aresult(stored, timeout=PATIENCE))
        await waited_for(elsewhere)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            for _ in range(5):
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where pid <> pg_backend_pid() and datname = current_database()"
                )
                gate.set()
                await asyncio.sleep(0.1)
        assert (await waiting).value == "all the same"
    staffa.close()
    elsewhere.close()


async def test_a_lost_listener_costs_only_time(postgres_url, gate):
    staffa, elsewhere = quick(postgres_url), Staffa(postgres_url, run_queues=False)
    async with staffa:
        stored = await elsewhere.ainsert(Waits.new(gate="gate", answer="all the same"))
        waiting = asyncio.create_task(elsewhere.aresult(stored, timeout=PATIENCE))
        await waited_for(elsewhere)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            killed = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and (query like 'listen%' or query = 'select 1')"
            ).fetchall()
        assert killed
        gate.set()
        assert (await waiting).value == "all the same"
    staffa.close()
    elsewhere.close()


async def test_the_thread_ends_when_nobody_waits_and_comes_again(staffa, monkeypatch):
    monkeypatch.setattr("staffa._waiting.LINGERING_SECONDS", 0.1)
    async with staffa:
        for number in (1, 2):
            assert (await staffa.aresult(await staffa.ainsert(double.new(number)), timeout=PATIENCE)).ok
            await eventually(lambda: staffa._waiting._thread is None)


async def test_where_no_thread_can_wait_everybody_is_told_and_later_ones_wait_again(
    make, monkeypatch, caplog
):
    def no_files_left():
        raise OSError(24, "Too many open files")

    staffa = make(run_queues=False)
    job = await staffa.ainsert(Answers.new(which="dict"))
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(asyncio, "SelectorEventLoop", no_files_left)
        with pytest.raises(InstanceError, match="Too many open files"):
            await asyncio.to_thread(staffa.result, job, timeout=PATIENCE)
    assert "the thread that waits for results fell" in caplog.text
    await staffa.acancel(job)
    assert (await staffa.aresult(job, timeout=PATIENCE)).state is State.CANCELLED


async def test_closing_tells_who_still_waits(make):
    staffa = make(run_queues=False)
    stored = await staffa.ainsert(double.new(1))
    waiting = asyncio.create_task(staffa.aresult(stored))
    await waited_for(staffa)
    await asyncio.to_thread(staffa.close)
    with pytest.raises(InstanceError, match="was closed while somebody waited"):
        await waiting


async def test_an_error_of_the_database_is_told_to_who_waits(empty_postgres_url):
    staffa = Staffa(empty_postgres_url, run_queues=False)
    with pytest.raises(SchemaMissing):
        await staffa.aresult(1, timeout=PATIENCE)
    staffa.close()


# Asking wrongly


async def test_blocking_where_a_loop_runs_names_the_awaited_twin(make):
    with pytest.raises(InsideEventLoop, match="await aresult"):
        make(run_queues=False).result(1)


@pytest.mark.parametrize(
    ("asked", "options", "reason"),
    [
        (Job(worker="w"), {}, "was not stored"),
        ("7", {}, "give a stored job or its id to wait for, not '7'"),
        (True, {}, "give a stored job or its id"),
        (2**63, {}, "give a stored job or its id"),
        (7, {"timeout": "2s"}, "timeout must be a timedelta or seconds, not '2s'"),
        (7, {"timeout": float("nan")}, "timeout must be a timedelta or seconds, not nan"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(asked, options, reason):
    staffa = Staffa("sqlite://", run_queues=False)
    with pytest.raises(InvalidJob, match=reason):
        staffa.result(asked, **options)
    staffa.close()


@pytest.mark.parametrize("timeout", [float("inf"), 10**400, timedelta.max])
async def test_a_timeout_may_be_longer_than_any_clock_counts(make, timeout):
    staffa = make(run_queues=False)
    job = await staffa.ainsert(Answers.new(which="dict"))
    await staffa.acancel(job)
    assert (await asyncio.to_thread(staffa.result, job, timeout=timeout)).state is State.CANCELLED
    assert (await staffa.aresult(job, timeout=timeout)).state is State.CANCELLED


# Testing modes


def test_inline_jobs_have_their_results_at_once():
    staffa = Staffa(testing="inline")
    result = staffa.result(staffa.insert(double.new(4)))
    assert (result.ok, result.value) == (True, 8)
    with pytest.raises(ResultGone):
        staffa.result(1, timeout=5)
    staffa.close()


def test_in_manual_mode_nothing_runs_so_one_waits_in_vain(tmp_path: Path):
    staffa = Staffa(f"sqlite:///{tmp_path}/jobs.db", testing="manual")
    stored = staffa.insert(double.new(4))
    began = time.monotonic()
    with pytest.raises(ResultTimeout):
        staffa.result(stored, timeout=0.2)
    assert time.monotonic() - began >= 0.2
    staffa.close()
