"""Rows as Elixir wrote them are read and run here, and ours look like theirs."""

import asyncio
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from nodes import eventually, finished, quick
from staffa import Cancel, Cron, Error, Snooze, Staffa, State, Worker

SAMPLES = Path(__file__).parent / "samples"
FILES = ("rows-2.23.1.txt", "rows-next.txt")
INSTANT = re.compile(
    r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?"
)  # as PostgreSQL writes a timestamp as JSON
ERROR_INSTANT = re.compile(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
runs: Counter[int] = Counter()


def samples(file):
    """Each row once, by what it shows."""
    found = {}
    for line in (SAMPLES / file).read_text("utf-8").splitlines():
        if line.startswith("ROW "):
            _, kind, row = line.split(" ", 2)
            found[json.loads(row)["id"]] = (kind, json.loads(row))
    return dict(found.values())


class Interop(Worker, name="OX.Interop", queue="interop"):
    async def perform(self, job):
        runs[job.id] += 1


class OfTime(Interop, name="OX.TimeoutW", queue="interop"): ...


class Unique(Interop, name="OX.UniqueW", queue="interop"): ...


class PyStyle(Interop, name="my_app.PyStyleWorker", queue="interop"): ...


class Outcome(Worker, name="interop.Outcome", queue="outcomes"):
    async def perform(self, job):
        match job.args["op"]:
            case "error":
                return Error("boom")
            case "raise":
                raise RuntimeError("kaboom")
            case "cancel":
                return Cancel("no thanks")
            case "snooze":
                return Snooze(timedelta(minutes=10))
            case "wait":
                await asyncio.sleep(600)
        return {"value": 1}


@pytest.fixture(params=FILES)
def rows(request, elixir):
    """The rows of one version, in our table as they were."""
    found = samples(request.param)
    assert len(found) > 20
    for row in found.values():
        names = ", ".join(row)
        elixir.run(
            f"insert into JOBS ({names}) select {names} from jsonb_populate_record(null::oban_jobs, %s)",
            Jsonb(row),
        )
    elixir.run("select setval('oban_jobs_id_seq', 1000)")
    return found


def utc(text):
    return text and datetime.fromisoformat(text).replace(tzinfo=UTC)


async def test_each_row_of_elixir_is_read_as_it_is(rows, elixir, postgres_url):
    ours = Staffa(postgres_url, run_queues=False)
    read = {job.id: job for job in await ours.ajobs(limit=100)}
    counted = await ours.acounts()
    ours.close()
    for row in rows.values():
        job = read[row["id"]]
        for name in (
            "queue",
            "worker",
            "args",
            "meta",
            "tags",
            "errors",
            "attempt",
            "max_attempts",
            "priority",
        ):
            assert getattr(job, name) == row[name], (row, name)
        for name in (
            "inserted_at",
            "scheduled_at",
            "attempted_at",
            "completed_at",
            "cancelled_at",
            "discarded_at",
        ):
            assert getattr(job, name) == utc(row[name])
        assert (job.state, list(job.attempted_by)) == (row["state"], row["attempted_by"] or [])
        assert elixir.row(job.id) == row
    assert sum(sum(states.values()) for states in counted.values()) == len(rows)


async def test_rows_of_elixir_are_retried_and_run_by_us_where_we_have_their_worker(
    rows, elixir, postgres_url
):
    runs.clear()
    known = {"OX.Interop", "OX.TimeoutW", "OX.UniqueW", "my_app.PyStyleWorker"}
    ran = [row for row in rows.values() if row["queue"] == "interop" and row["worker"] in known]
    over = [row for row in ran if row["state"] not in ("executing", "available")]
    node = quick(postgres_url, queues={"interop": 5})
    await node.aretry(*(row["id"] for row in over))  # before a leader stages those whose time has come
    async with node:
        await eventually(lambda: len(runs) == len(over))
        ended = await finished(node, [job for job in await node.ajobs(limit=100) if job.id in runs])
        executing = await node.ajobs(states=[State.EXECUTING])
    node.close()
    assert len(over) > 15
    assert {job.state for job in ended} == {State.COMPLETED}
    assert set(runs.values()) == {1}
    before = {row["id"]: row for row in over}
    for job in ended:
        was = before[job.id]
        assert (job.errors, job.meta, job.args, job.tags) == (
            was["errors"],
            was["meta"],
            was["args"],
            was["tags"],
        )
        assert (job.attempt, job.max_attempts) == (
            was["attempt"] + 1,
            max(was["max_attempts"], was["attempt"] + 1),
        )
        assert (job.discarded_at, job.cancelled_at) == (None, None)
    theirs = [row["id"] for row in rows.values() if row["state"] == "executing"]
    assert [job.id for job in executing if job.attempted_by[0] == "sample-node"] == theirs, (
        "not ours to rescue"
    )


# Ours beside theirs


def shape(row):
    """What a reader of a row relies on: its columns, their types and formats."""
    found = {}
    for name, value in row.items():
        if isinstance(value, str) and INSTANT.fullmatch(value):
            found[name] = "instant"
        elif name == "errors":
            found[name] = [sorted(entry) for entry in value]
            for entry in value:
                assert ERROR_INSTANT.fullmatch(entry["at"]), entry
                assert (type(entry["attempt"]), type(entry["error"])) == (int, str)
        elif name == "attempted_by":
            found[name] = value and [type(each).__name__ for each in value]
        elif name in ("args", "meta"):
            found[name] = type(value).__name__
        elif name in ("state", "attempt"):
            found[name] = value
        else:
            found[name] = type(value).__name__
    return found


ALIKE = {
    "success": {"op": "ok"},
    "success_value": {"op": "value"},
    "retryable_error_tuple": {"op": "error"},
    "retryable_raise": {"op": "raise"},
    "cancelled_by_return": {"op": "cancel"},
    "discarded_exhausted": {"op": "error", "max_attempts": 1},
    "snoozed": {"op": "snooze"},
    "scheduled": {"op": "ok", "schedule_in": timedelta(hours=1)},
    "executing": {"op": "wait"},
}


async def test_our_rows_have_the_columns_types_and_formats_of_theirs(elixir, postgres_url):
    theirs = samples("rows-next.txt")
    async with quick(postgres_url, queues={"outcomes": 10}, grace=timedelta(0)) as node:
        jobs = {}
        for kind, given in ALIKE.items():
            options = {key: value for key, value in given.items() if key != "op"}
            jobs[kind] = await node.ainsert(Outcome.using(**options).new(op=given["op"]))
        available = await node.ainsert(Outcome.using(queue="nobody").new(op="ok"))

        async def all_as_expected():
            states = {job.id: job.state for job in await node.ajobs(limit=100)}
            return all(states[jobs[kind].id] == theirs[kind]["state"] for kind in ALIKE)

        await eventually(all_as_expected)
        for kind, job in jobs.items():
            assert shape(elixir.row(job.id)) == shape(theirs[kind]), kind
        assert shape(elixir.row(available.id)) == shape(theirs["other_queue_available"])
        assert elixir.row(jobs["snoozed"].id)["meta"] == theirs["snoozed"]["meta"] == {"snoozed": 1}
        cancelled = await node.acancel(jobs["scheduled"].id)
        assert shape(elixir.row(cancelled[0].id)) == shape(theirs["cancelled_before_run"])
    node.close()


async def test_a_second_failure_is_appended_as_theirs(elixir, postgres_url):
    theirs = samples("rows-2.23.1.txt")["retried_twice_errors"]
    async with quick(postgres_url, queues={"outcomes": 10}) as node:
        job = await node.ainsert(Outcome.new(op="error"))
        for attempt in (1, 2):
            await eventually(lambda attempt=attempt: len(elixir.row(job.id)["errors"]) == attempt)
            if attempt == 1:
                elixir.retry(job.id)
    node.close()
    row = elixir.row(job.id)
    assert shape(row) == shape(theirs)
    assert [entry["attempt"] for entry in row["errors"]] == [1, 2]


async def test_a_cron_job_of_ours_says_what_one_of_theirs_says(elixir, postgres_url):
    theirs = samples("rows-2.23.1.txt")["cron"]["meta"]
    node = Staffa(postgres_url, queues={}, cron=[Cron("@reboot", worker=Outcome, queue="nobody")])
    async with node:
        await eventually(lambda: elixir.run("select id from JOBS"))
    node.close()
    [[job]] = elixir.run("select id from JOBS")
    ours = elixir.row(job)["meta"]
    assert {key: type(ours[key]) for key in theirs} == {key: type(value) for key, value in theirs.items()}
    assert (ours["cron"], ours["cron_expr"], ours["cron_tz"]) == (True, "@reboot", "Etc/UTC")
