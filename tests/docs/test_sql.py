"""Each statement of the page for operators tells the truth on both databases, about every kind of job."""

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest
from pages import ROOT, blocks
from psycopg.types.json import Jsonb

from staffa import State, Worker

NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
JSON_COLUMNS = {"args", "meta"}
TRACEBACK = (
    'Traceback (most recent call last):\n  File "jobs.py", line 3, in perform\nValueError: no such user\n'
)
WELCOME, IMPORT, REPORT = (f"crm.jobs.{name}Worker" for name in ("Welcome", "Import", "Report"))
DEADLINE_SECONDS = 20


class WelcomeWorker(Worker, name=WELCOME, queue="mailers"):
    async def perform(self, job):
        try:
            await asyncio.sleep(60 if job.args.get("waits") else 0)
        except asyncio.CancelledError:
            type(self).stopped.set()
            raise


def shown(block):
    """The databases for which a block is shown."""
    return [name for name in NAMES if block.note in ("", NAMES[name])]


PAGE = {
    (block.heading, name): block.text
    for block in blocks((ROOT / "docs" / "sql.md").read_text("utf-8"))
    if block.language == "sql"
    for name in shown(block)
}


class Operator:
    """Somebody at a database shell."""

    def __init__(self, url, name):
        self.name = name
        if name == "sqlite":
            self.connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        else:
            self.connection = psycopg.connect(url, autocommit=True)
        self.now = datetime.now(UTC)

    def ask(self, heading):
        """Paste what stands under a heading."""
        return [
            tuple(map(plain, row)) for row in self.connection.execute(PAGE[heading, self.name]).fetchall()
        ]

    def put(self, table, **columns):
        values = [self.stored(column, value) for column, value in columns.items()]
        mark = "?" if self.name == "sqlite" else "%s"
        names, marks = ", ".join(columns), ", ".join([mark] * len(values))
        self.connection.execute(f"insert into {table} ({names}) values ({marks})", values)

    def stored(self, column, value):
        """Write a value as this database keeps it; a timedelta is that long from now."""
        if isinstance(value, timedelta):
            moment = (self.now + value).replace(tzinfo=None)
            return moment.isoformat(timespec="microseconds") + "Z" if self.name == "sqlite" else moment
        if isinstance(value, dict | list) and self.name == "sqlite":
            return json.dumps(value)
        if column in JSON_COLUMNS:
            return Jsonb(value)
        return [Jsonb(entry) for entry in value] if column == "errors" else value

    def job(self, id, state, worker, queue="mailers", **columns):
        self.put("oban_jobs", id=id, state=state, worker=worker, queue=queue, **columns)

    def states(self):
        return dict(self.connection.execute("select id, state from oban_jobs").fetchall())


def plain(value):
    """Compare numbers of both databases alike."""
    return float(value) if type(value).__name__ == "Decimal" else value


def seconds(number):
    return timedelta(seconds=number)


def failure(attempt, error):
    return {"at": "2026-01-31T03:00:00.000000Z", "attempt": attempt, "error": error}


@pytest.fixture
def operator(url, make):
    make(run_queues=False).migrate()
    operator = Operator(url, "sqlite" if url.startswith("sqlite") else "postgres")
    yield operator
    operator.connection.close()


@pytest.fixture
def night(operator):
    """A table with every kind of job, as somebody woken at three finds it."""
    job, producer = operator.job, partial(operator.put, "staffa_producers")
    producer(id="p-alive", node="a", queue="mailers", capacity=10, beat_at=seconds(-2))
    producer(id="p-import", node="a", queue="csv_import", capacity=2, beat_at=seconds(-2))
    producer(id="p-silent", node="b", queue="mailers", capacity=10, beat_at=seconds(-120))
    producer(
        id="p-dead", node="c", queue="mailers", capacity=10, beat_at=seconds(-300), expired_at=seconds(-9)
    )
    operator.put(
        "oban_peers", name="staffa:Staffa", node="a/1", started_at=seconds(-99), expires_at=seconds(10)
    )
    operator.put(
        "oban_peers", name="staffa:other", node="b/1", started_at=seconds(-99), expires_at=seconds(-5)
    )

    job(1, "available", WELCOME, scheduled_at=seconds(-90), args={"user_id": 7})
    job(2, "available", WELCOME, scheduled_at=seconds(-30), args={"user_id": 8})
    job(3, "available", REPORT, queue="reprots", scheduled_at=seconds(-600))
    job(43, "scheduled", WELCOME, scheduled_at=seconds(3600), args={"user_id": 7})
    job(5, "suspended", REPORT)
    executing = {"state": "executing", "worker": WELCOME, "attempt": 1}
    job(6, "executing", IMPORT, queue="csv_import", attempt=1, attempted_at=seconds(-10.2),
        attempted_by=["a", "p-import"], meta={"progress": {"current": 30, "total": 100, "note": None}})  # fmt: skip
    job(7, **executing, attempted_at=seconds(-300.2), attempted_by=["c", "p-dead"])
    job(8, **executing, attempted_at=seconds(-4000.2), attempted_by=["ex@host", "p-unknown"])
    job(9, **executing, attempted_at=seconds(-200.2), attempted_by=["b", "p-silent"])
    job(10, **executing, attempted_at=seconds(-5.2), attempted_by=["a", "p-alive"])
    job(11, "retryable", WELCOME, attempt=2, max_attempts=5, scheduled_at=seconds(60), attempted_at=seconds(-8),
        errors=[failure(1, "first"), failure(2, TRACEBACK)])  # fmt: skip
    job(42, "discarded", WELCOME, attempt=3, max_attempts=3, attempted_at=seconds(-700), discarded_at=seconds(-600),
        errors=[failure(1, TRACEBACK), failure(3, "smtp: refused")])  # fmt: skip
    job(13, "cancelled", IMPORT, queue="csv_import", cancelled_at=seconds(-100),
        errors=[failure(1, "file_not_found")])  # fmt: skip
    job(14, "cancelled", REPORT, cancelled_at=seconds(-200))
    job(
        15,
        "completed",
        WELCOME,
        scheduled_at=seconds(-125),
        attempted_at=seconds(-120),
        completed_at=seconds(-118),
    )
    job(
        16,
        "completed",
        WELCOME,
        scheduled_at=seconds(-61),
        attempted_at=seconds(-60),
        completed_at=seconds(-60),
    )
    job(17, "completed", IMPORT, queue="csv_import", scheduled_at=seconds(-1000), attempted_at=seconds(-1000),
        completed_at=seconds(-400))  # fmt: skip
    job(
        18,
        "completed",
        REPORT,
        scheduled_at=seconds(-9000),
        attempted_at=seconds(-8000),
        completed_at=seconds(-7200),
    )
    return operator


def test_every_state_is_there(night):
    assert set(night.states().values()) == set(State)


def test_what_is_there(night):
    assert sorted(night.ask("What is there?")) == [
        ("csv_import", "cancelled", 1),
        ("csv_import", "completed", 1),
        ("csv_import", "executing", 1),
        ("mailers", "available", 2),
        ("mailers", "cancelled", 1),
        ("mailers", "completed", 3),
        ("mailers", "discarded", 1),
        ("mailers", "executing", 4),
        ("mailers", "retryable", 1),
        ("mailers", "scheduled", 1),
        ("mailers", "suspended", 1),
        ("reprots", "available", 1),
    ]


def test_what_failed_and_why(night):
    assert [(job_id, error) for job_id, *_, error in night.ask("What failed, and why?")] == [
        (11, "ValueError: no such user"),
        (42, "smtp: refused"),
    ]


def test_what_one_failure_looks_like(night):
    told = night.ask("What does one failure look like?")

    assert [(str(attempt), error) for attempt, _, error in told] == [("1", TRACEBACK), ("3", "smtp: refused")]


def test_which_workers_fail_most(night):
    night.job(44, "discarded", IMPORT, attempt=20, queue="csv_import")
    night.job(45, "discarded", IMPORT, attempt=9, queue="csv_import")

    [most, *others] = night.ask("Which workers fail most?")

    assert most == (IMPORT, "discarded", 2, 20)
    assert sorted(others) == [(WELCOME, "discarded", 1, 3), (WELCOME, "retryable", 1, 2)]


def test_what_was_cancelled_and_why(night):
    told = night.ask("What was cancelled, and why?")

    assert [(job_id, reason) for job_id, _, _, reason in told] == [(13, "file_not_found"), (14, None)]


def test_what_waits_and_for_how_long(night):
    [reports, mailers] = night.ask("What waits, and for how long?")

    assert (reports[:2], mailers[:2]) == (("reprots", 1), ("mailers", 2))
    assert 600 <= reports[2] < 700
    assert 90 <= mailers[2] < 190


def test_what_comes_next(night):
    assert [job_id for job_id, *_ in night.ask("What comes next?")] == [11, 43]


def test_what_is_executing_where_and_since_when(night):
    told = night.ask("What is executing, where, and since when?")

    assert [(job_id, node) for job_id, _, _, _, node, *_ in told] == [
        (8, "ex@host"),
        (7, "c"),
        (9, "b"),
        (6, "a"),
        (10, "a"),
    ]
    assert [(str(current), str(total)) for job_id, *_, current, total in told if job_id == 6] == [
        ("30", "100")
    ]
    assert 4000 <= told[0][5] < 4100


def test_what_is_stuck(night):
    told = night.ask("What is stuck?")

    assert [(job_id, producer) for job_id, *_, producer in told] == [
        (8, "unknown"),
        (7, "dead"),
        (9, "silent"),
    ]


def test_which_queues_wait_for_nobody(night):
    assert night.ask("Which queues wait for nobody?") == [("reprots", 1)]


def test_who_runs_which_queues(night):
    told = night.ask("Who runs which queues?")

    assert [(queue, node, bool(dead)) for queue, node, *_, dead in told] == [
        ("csv_import", "a", False),
        ("mailers", "a", False),
        ("mailers", "b", False),
        ("mailers", "c", True),
    ]
    assert 120 <= told[2][4] < 220


def test_who_leads(night):
    told = night.ask("Who leads?")

    assert [(node, bool(leads)) for _, node, *_, leads in told] == [("a/1", True), ("b/1", False)]


def test_how_fast_the_last_hour_was(night):
    assert night.ask("How fast was the last hour?") == [
        ("mailers", 2, 3.0, 1.0),
        ("csv_import", 1, 0.0, 600.0),
    ]


def test_jobs_are_found_by_an_argument(night):
    assert [job_id for job_id, *_ in night.ask("Find jobs by an argument")] == [43, 1]


def test_jobs_of_a_worker_are_held_back_and_released(night):
    assert sorted(night.ask("Hold jobs back")) == [(1,), (2,)]
    assert night.states()[1] == "suspended"

    assert sorted(night.ask("Release what was held back")) == [(1,), (2,)]
    assert night.states()[1] == "available"


def test_only_jobs_of_unknown_producers_are_freed(night):
    assert night.ask("Free stuck jobs") == [(8, WELCOME)]
    assert {job_id for job_id, state in night.states().items() if state == "executing"} == {6, 7, 9, 10}


@pytest.mark.parametrize(
    "state", [state for state in State if state not in (State.AVAILABLE, State.EXECUTING)]
)
async def test_a_job_retried_by_hand_truly_runs(operator, make, state):
    operator.job(42, str(state), WELCOME, attempt=20, scheduled_at=seconds(3600))

    assert operator.ask("Retry by hand") == [(42, WELCOME, 21)]

    async with make(queues={"mailers": 1}) as staffa:
        assert (await ended(staffa, 42)).state is State.COMPLETED


@pytest.mark.parametrize("state", ["available", "executing"])
def test_a_job_that_waits_or_executes_is_not_retried_by_hand(operator, state):
    operator.job(42, state, WELCOME)

    assert operator.ask("Retry by hand") == []


@pytest.mark.parametrize("state", ["available", "suspended", "scheduled", "retryable"])
def test_a_job_that_waits_is_cancelled_by_hand(operator, state):
    operator.job(43, state, WELCOME)

    assert operator.ask("Cancel by hand") == [(43, WELCOME)]
    assert operator.states() == {43: "cancelled"}


@pytest.mark.parametrize("state", ["completed", "discarded", "cancelled"])
def test_a_job_that_ended_is_not_cancelled_by_hand(operator, state):
    operator.job(43, state, WELCOME)

    assert operator.ask("Cancel by hand") == []


async def test_a_job_that_executes_is_stopped_when_it_is_cancelled_by_hand(operator, make):
    WelcomeWorker.stopped = asyncio.Event()
    operator.job(43, "available", WELCOME, args={"waits": True})

    quick = timedelta(milliseconds=100)
    async with make(queues={"mailers": 1}, poll=quick, heartbeat=quick) as staffa:
        await reached(staffa, 43, State.EXECUTING)
        operator.ask("Cancel by hand")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await WelcomeWorker.stopped.wait()

    assert operator.states() == {43: "cancelled"}


@pytest.mark.parametrize("name", NAMES)
def test_every_heading_has_a_statement_for_each_database(name):
    headings = {heading for heading, _ in PAGE}

    assert {heading for heading in headings if (heading, name) not in PAGE} == set()


def test_every_statement_is_tried():
    text = (ROOT / "tests" / "docs" / "test_sql.py").read_text("utf-8")

    assert {heading for heading, _ in PAGE if f'ask("{heading}")' not in text} == set()


async def ended(staffa, id):
    return await reached(staffa, id, State.COMPLETED, State.DISCARDED, State.CANCELLED)


async def reached(staffa, id, *states):
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (job := await staffa.aget(id)).state not in states:
            await asyncio.sleep(0.01)
    return job
