"""An Elixir node works on the same table at the same time: none of its statements fails, none of our jobs is harmed."""

import asyncio
import json
import threading
from collections import Counter
from datetime import timedelta

import pytest

from elixir import Elixir
from nodes import eventually, finished, is_idle, quick
from staffa import Cancel, Error, Lifeline, Snooze, Staffa, State, Worker
from staffa.telemetry import JobBounced, JobStarted

PATIENT = [Lifeline(silence=timedelta(hours=1))]
runs: Counter[int] = Counter()
go = threading.Event()


class Steady(Worker, name="interop.Steady", queue="python"):
    """Runs once, or snoozes or fails before it succeeds, as its arguments say."""

    def perform(self, job):
        runs[job.id] += 1
        if job.args["how"] == "snoozes" and not job.meta.get("snoozed"):
            return Snooze(timedelta(seconds=0.2))
        if job.args["how"] == "fails" and not job.errors:
            return Error("the first time")
        if job.args["how"] == "cancels":
            return Cancel("no thanks")
        return None

    def backoff(self, job):
        return timedelta(seconds=0.2)


class Waiting(Worker, name="interop.Waiting", queue="python"):
    """Runs until it is let go, the second time at once."""

    async def perform(self, job):
        runs[job.id] += 1
        while runs[job.id] < 2 and not go.is_set():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def afresh():
    runs.clear()
    go.clear()


@pytest.fixture
async def staffa(postgres_url):
    """Our node, which runs one queue."""
    async with quick(postgres_url, queues={"python": 10}) as node:
        yield node
    node.close()


async def alongside(elixir, method, *given, **named):
    return await asyncio.to_thread(getattr(elixir, method), *given, **named)


class Busy(threading.Thread):
    """An Elixir node that does everything that Oban does, again and again, on a queue of its own."""

    def __init__(self, url):
        super().__init__()
        self.elixir, self.done, self.error, self.rounds = Elixir(url), threading.Event(), None, 0
        self.expected = {}

    def run(self):
        try:
            while not self.done.is_set() or self.rounds < 3:
                self.round()
                self.rounds += 1
            self.elixir.resign()
        except Exception as error:  # noqa: BLE001 - told to the test
            self.error = error
        finally:
            self.elixir.close()

    def round(self):
        it = self.elixir
        it.lead()
        it.insert("My.Worker", "elixir", {"n": self.rounds})
        it.insert_all("My.Worker", "elixir", 9)
        assert it.insert_unique("My.Unique", "alone", {"id": 1}) == it.insert_unique(
            "My.Unique", "alone", {"id": 1}
        )
        outcomes = {
            "completed": it.complete,
            "retryable": lambda job: it.fail(job, seconds=600),
            "discarded": it.discard,
            "cancelled": it.cancel_by_answer,
            "scheduled": lambda job: it.snooze(job, seconds=600),
            "scheduled ": lambda job: it.snooze_as_next_version(job, seconds=600),
            "available": lambda job: (it.complete(job), it.retry(job)),
            "executing": lambda job: None,
        }
        for job, (state, act) in zip(it.fetch("elixir", 8), outcomes.items(), strict=False):
            act(job)
            self.expected[job] = state.strip()
        it.stage()
        it.rescue(hours=1)
        it.prune(hours=1)


async def test_nothing_that_oban_does_fails_and_none_of_our_jobs_is_lost_or_doubled(postgres_url, staffa):
    expected = {"steady": 1, "snoozes": 2, "fails": 2, "cancels": 1}
    busy = Busy(postgres_url)
    busy.start()
    try:
        jobs = []
        for _ in range(30):
            jobs += await staffa.ainsert_all([Steady.new(how=how) for how in expected])
        ended = await finished(staffa, jobs, within=60)
    finally:
        busy.done.set()
        await asyncio.to_thread(busy.join)

    assert busy.error is None
    assert {job.id: runs[job.id] for job in jobs} == {job.id: expected[job.args["how"]] for job in jobs}
    assert Counter(job.state for job in ended) == {"completed": 90, "cancelled": 30}
    assert {len(job.errors) for job in ended if job.args["how"] == "fails"} == {1}
    theirs = {job.id: job for job in await staffa.ajobs(queues=["elixir"], limit=10_000)}
    assert len(theirs) == 10 * busy.rounds
    assert {job: theirs[job].state for job in busy.expected} == busy.expected
    assert {job.attempted_by[0] for job in theirs.values() if job.attempted_by} == {"elixir@host"}


async def test_our_lifeline_leaves_what_elixir_executes(elixir, staffa):
    job = elixir.insert("My.Worker", "elixir")
    assert elixir.fetch("elixir", 1) == [job]
    ticked = []
    staffa.telemetry.attach(lambda event: ticked.append(getattr(event, "plugin", "")))
    await eventually(lambda: ticked.count("Lifeline") > 12)  # longer than a producer may be silent
    assert elixir.row(job)["state"] == "executing"


# Their age-based rescue


async def test_a_job_that_their_lifeline_takes_away_is_recorded_once(elixir, staffa):
    bounced, started = [], []
    staffa.telemetry.attach(lambda event: bounced.append(event) if isinstance(event, JobBounced) else None)
    staffa.telemetry.attach(lambda event: started.append(event) if isinstance(event, JobStarted) else None)
    job = await staffa.ainsert(Waiting.new())
    await eventually(lambda: runs[job.id] == 1)

    assert await alongside(elixir, "rescue", seconds=-1) == 1
    elixir.notify("insert", {"queue": "python"})
    [ended] = await finished(staffa, [job])
    go.set()
    await eventually(lambda: is_idle(staffa))

    [ended] = await staffa.ajobs(ids=[job.id])
    assert (ended.state, ended.attempt, ended.errors, runs[job.id]) == (State.COMPLETED, 2, [], 2)
    assert len(started) == 2


async def test_a_late_outcome_of_a_rescued_job_bounces(elixir, postgres_url):
    """Two nodes: the first is slow and does not look after its jobs meanwhile, the second takes the job anew."""
    slow = quick(postgres_url, queues={"python": 1}, heartbeat=timedelta(hours=1), plugins=PATIENT)
    bounced = []
    slow.telemetry.attach(
        lambda event: bounced.append(event.job.id) if isinstance(event, JobBounced) else None
    )
    async with slow:
        job = await slow.ainsert(Waiting.new())
        await eventually(lambda: runs[job.id] == 1)
        assert await alongside(elixir, "rescue", seconds=-1) == 1
        [[taken, attempt]] = await asyncio.to_thread(
            elixir.run, "update JOBS set state = 'executing', attempt = attempt + 1, attempted_by = %s"
            " where id = %s returning id, attempt", [elixir.node, elixir.uuid], job.id,
        )  # fmt: skip
        go.set()
        await eventually(lambda: bounced == [job.id])
        row = elixir.row(job.id)
        assert (taken, attempt, row["state"], row["completed_at"]) == (job.id, 2, "executing", None)
        elixir.fail(job.id, "theirs", hours=1)
    slow.close()
    assert [entry["error"] for entry in elixir.row(job.id)["errors"]] == ["theirs"]


async def test_their_discarding_of_an_old_job_stands(elixir, staffa):
    job = await staffa.ainsert(Waiting.using(max_attempts=1).new())
    await eventually(lambda: runs[job.id] == 1)
    assert await alongside(elixir, "rescue", seconds=-1) == 1
    go.set()
    await eventually(lambda: is_idle(staffa))
    row = elixir.row(job.id)
    assert (row["state"], row["completed_at"], runs[job.id]) == ("discarded", None, 1)


# Their people, our jobs


async def test_a_job_cancelled_from_elixir_stops_at_once_and_stays_cancelled(elixir, staffa):
    job = await staffa.ainsert(Waiting.new())
    await eventually(lambda: runs[job.id] == 1)
    await alongside(elixir, "cancel", job.id)
    await eventually(lambda: is_idle(staffa))  # nobody lets it go
    assert elixir.row(job.id)["state"] == "cancelled"


async def test_a_job_cancelled_without_a_signal_is_noticed_and_its_outcome_bounces(elixir, staffa):
    job = await staffa.ainsert(Waiting.new())
    await eventually(lambda: runs[job.id] == 1)
    await alongside(elixir, "cancel", job.id, signal=False)
    await eventually(lambda: is_idle(staffa))
    assert elixir.row(job.id)["state"] == "cancelled"
    assert elixir.row(job.id)["completed_at"] is None


async def test_a_job_retried_from_elixir_runs_again_here(elixir, staffa):
    job = await staffa.ainsert(Steady.new(how="cancels"))
    await finished(staffa, [job])
    await alongside(elixir, "retry", job.id)
    await eventually(lambda: runs[job.id] == 2)
    [ended] = await finished(staffa, [job])
    assert (ended.state, ended.attempt, len(ended.errors)) == (State.CANCELLED, 2, 2)


async def test_a_job_that_elixir_lacks_comes_back_to_us_after_its_failure(elixir, postgres_url):
    """Why queues are not shared: Elixir takes what it cannot run."""
    ours = Staffa(postgres_url, run_queues=False)
    job = await ours.ainsert(Steady.new(how="steady"))
    ours.close()
    assert elixir.fetch("python", 10) == [job.id]
    elixir.fail(job.id, "** (RuntimeError) unknown worker: interop.Steady")
    async with quick(postgres_url, queues={"python": 1}) as node:
        [ended] = await finished(node, [job])
    node.close()
    assert (ended.state, ended.attempt) == (State.COMPLETED, 2)
    assert [entry["error"] for entry in ended.errors] == ["** (RuntimeError) unknown worker: interop.Steady"]


# Leadership


async def test_leases_of_oban_and_ours_stand_side_by_side(elixir, staffa):
    await eventually(lambda: staffa.leads)
    assert elixir.lead() == 1
    assert elixir.lead() == 1
    other = Elixir(staffa.url, node="other@host")
    assert other.lead() == 0
    elixir.lead(seconds=-1)
    assert other.lead() == 1
    other.resign()
    other.close()
    held = elixir.run("select name, split_part(node, '/', 1) = %s from PEERS", staffa.node)
    assert held == [("staffa:Staffa", True)]
    assert staffa.leads
    assert await staffa.engine.leader("Oban") is None


async def test_their_leader_and_ours_stage_the_same_jobs_and_each_runs_once(elixir, staffa):
    jobs = await staffa.ainsert_all(
        [Steady.using(schedule_in=timedelta(seconds=0.3 + n / 100)).new(how="steady") for n in range(40)]
    )

    async def all_done():
        await alongside(elixir, "stage")
        return all(runs[job.id] for job in jobs)

    await eventually(all_done)
    ended = await finished(staffa, jobs)
    assert {(job.state, runs[job.id]) for job in ended} == {(State.COMPLETED, 1)}


# Waking each other


async def test_a_row_inserted_by_plain_sql_and_one_notification_wake_our_node(elixir, postgres_url):
    async with quick(postgres_url, queues={"python": 2}, poll=timedelta(hours=1)) as node:
        await listens(node, elixir)
        [[job]] = elixir.run(
            "insert into JOBS (worker, queue, args) values ('interop.Steady', 'python', '{\"how\": \"steady\"}')"
            " returning id"
        )
        elixir.run("select pg_notify('public.oban_insert', '{\"queue\":\"python\"}')")
        await eventually(lambda: runs[job] == 1)
    node.close()


async def test_an_insert_of_ours_tells_elixir_what_it_expects(elixir, postgres_url):
    elixir.run('listen "public.oban_insert"')
    ours = Staffa(postgres_url, run_queues=False)
    await ours.ainsert_all(
        [
            *(Steady.new(how="steady") for _ in range(3)),
            Steady.using(queue='odd "q"').new(how="steady"),
            Steady.using(queue="later", schedule_in=timedelta(hours=1)).new(how="steady"),
        ]
    )
    await ours.ainsert(Steady.using(queue="last").new(how="steady"))
    ours.close()
    told = []
    for each in elixir.connection.notifies(timeout=10):
        told.append((each.channel, each.payload))
        if "last" in each.payload:
            break
    assert [(channel, json.loads(payload)) for channel, payload in told] == [
        ("public.oban_insert", {"queue": "python"}),
        ("public.oban_insert", {"queue": 'odd "q"'}),
        ("public.oban_insert", {"queue": "last"}),
    ]


async def listens(node, elixir):
    """Wait until a node hears what is told: it takes a job for which it would look only in an hour."""
    ids = []

    async def woken():
        ids.append(await alongside(elixir, "insert", "interop.Steady", "python", {"how": "steady"}))
        return any(runs[job] for job in ids)

    await eventually(woken)
    await eventually(lambda: all(runs[job] for job in ids))
