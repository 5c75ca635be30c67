"""Who cancels a running job stops it at once, wherever it runs, and the database says cancelled whatever it answers."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from nodes import OtherNode, eventually, quick
from staffa import Error, Job, Snooze, Staffa, Stager, State, Worker
from staffa.engine import Exchanged
from staffa.notifier import SIGNAL
from staffa.telemetry import JobStopped

LONG = timedelta(minutes=5)

told: dict[str, Any] = {}
go = threading.Event()


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    told.clear()
    go.clear()


@pytest.fixture
def staffa(url: str) -> Iterator[Staffa]:
    """A node that learns of cancelling by hints alone: its heartbeats come far too late."""
    instance = patient(url)
    yield instance
    instance.close()


def patient(url: str, **options: Any) -> Staffa:
    given = {"heartbeat": LONG, "poll": LONG, "plugins": [Stager(interval=timedelta(seconds=0.1))]}
    return quick(url, **{**given, **options})


def noting(staffa: Any) -> list[dict[str, Any]]:
    """Note what an instance hears."""
    hear, heard = staffa._heard, []

    def noted(channel: str, payload: dict[str, Any]) -> None:
        hear(channel, payload)
        heard.append(payload)

    staffa._heard = noted
    return heard


class Stubborn(Worker, name="cancelling.Stubborn", max_attempts=5):
    """Is told to stop, and answers as it likes."""

    async def perform(self, job: Job) -> object:
        told.setdefault("began", []).append(job.attempt)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told["stopped"] = True
            if job.args["answer"] == "go on":
                await asyncio.sleep(0.05)
            return answer(job.args["answer"])
        return None


class StubbornThread(Worker, name="cancelling.StubbornThread", max_attempts=5):
    def perform(self, job: Job) -> object:
        told.setdefault("began", []).append(job.attempt)
        while not job.cancelled:
            threading.Event().wait(0.01)
        told["stopped"] = True
        go.wait(20)
        return answer(job.args["answer"])


def answer(kind: str) -> object:
    match kind:
        case "snooze":
            return Snooze(1)
        case "error":
            return Error("no")
        case "raise":
            raise ValueError("no")
    return "done"


async def began(staffa: Staffa, given: Job) -> Job:
    stored = await staffa.ainsert(given)
    await eventually(lambda: told.get("began"))
    return stored


async def found(staffa: Staffa, job: Job) -> Job:
    job_now = await staffa.aget(job.id or 0)
    assert job_now is not None
    return job_now


@pytest.mark.parametrize("kind", ["done", "snooze", "error", "raise", "go on"])
@pytest.mark.parametrize("worker", [Stubborn, StubbornThread])
async def test_the_database_says_cancelled_whatever_the_worker_answers_afterwards(
    staffa: Staffa, worker: Any, kind: str
):
    async with staffa:
        running = await began(staffa, worker.new(answer=kind))
        [cancelled] = await staffa.acancel(running.id)
        assert cancelled.state is State.CANCELLED
        await eventually(lambda: told.get("stopped"))
        go.set()
        await eventually(lambda: staffa.unstopped == 0)
    now = await found(staffa, running)
    assert (now.state, now.attempt, now.errors) == (State.CANCELLED, 1, [])
    assert now.cancelled_at == cancelled.cancelled_at


async def test_a_job_that_runs_elsewhere_is_stopped_at_once(staffa: Staffa, url: str):
    elsewhere = patient(url, run_queues=False)
    with OtherNode(staffa):
        running = await began(elsewhere, Stubborn.new(answer="done"))
        await elsewhere.acancel(running.id)
        await eventually(lambda: told.get("stopped"))
        await eventually(lambda: staffa.unstopped == 0)
        assert (await found(elsewhere, running)).state is State.CANCELLED
    elsewhere.close()


@pytest.mark.parametrize("kind", ["done", "raise"])
async def test_a_job_retried_while_its_old_attempt_still_runs_belongs_to_the_new_one(
    staffa: Staffa, kind: str
):
    async with staffa:
        stored = await began(staffa, StubbornThread.new(answer=kind))
        await staffa.acancel(stored.id)
        await eventually(lambda: told.get("stopped"))
        await staffa.aretry(stored.id)
        await eventually(lambda: len(told["began"]) == 2)
        go.set()  # the old attempt answers, the new one is told nothing
        await eventually(lambda: staffa.unstopped == 1)
        assert (await found(staffa, stored)).state is State.EXECUTING
        await staffa.acancel(stored.id)
        await eventually(lambda: staffa.unstopped == 0)
    assert (await found(staffa, stored)).state is State.CANCELLED


async def test_a_hint_that_comes_after_a_retry_does_not_stop_the_new_attempt(staffa: Staffa):
    heard = noting(staffa)
    async with staffa:
        await eventually(lambda: heard)  # PostgreSQL's listener is there
        stored = await began(staffa, Stubborn.new(answer="done"))
        await staffa.acancel(stored.id)
        await eventually(lambda: told.pop("stopped", None))
        await staffa.aretry(stored.id)
        await eventually(lambda: len(told["began"]) == 2)
        late = {"action": "pkill", "job_id": stored.id, "take": 1}
        for hint in (late, {"action": "pkill", "job_id": stored.id}):  # the second one as Elixir writes it
            await staffa.engine.tell(SIGNAL, [hint])
        await eventually(lambda: len([each for each in heard if "job_id" in each]) == 3)
        last = await staffa.ainsert(Job(worker="nobody knows it", max_attempts=1))
        await eventually(lambda: has_ended(staffa, last))
        assert not told.get("stopped")
        assert (await found(staffa, stored)).state is State.EXECUTING
        await staffa.acancel(stored.id)
        await eventually(lambda: told.get("stopped"))


async def has_ended(staffa: Staffa, job: Job) -> bool:
    return (await found(staffa, job)).state is State.DISCARDED


async def test_a_job_cancelled_while_it_is_being_taken_is_stopped(
    staffa: Staffa, monkeypatch: pytest.MonkeyPatch
):
    taken, answered = asyncio.Event(), asyncio.Event()
    exchange = staffa.engine.exchange

    async def slow(*args: Any, **named: Any) -> Exchanged:
        exchanged = await exchange(*args, **named)
        if exchanged.taken:
            taken.set()
            await answered.wait()
        return exchanged

    monkeypatch.setattr(staffa.engine, "exchange", slow)
    heard, stops = noting(staffa), []
    staffa.telemetry.attach(stops.append, JobStopped)
    async with staffa:
        await eventually(lambda: heard)  # PostgreSQL's listener is there
        stored = await staffa.ainsert(Stubborn.new(answer="done"))
        await taken.wait()
        await staffa.acancel(stored.id)
        await eventually(lambda: any("job_id" in each for each in heard))
        answered.set()
        await eventually(lambda: stops)
    assert (await found(staffa, stored)).state is State.CANCELLED


async def test_a_job_that_snoozed_at_the_same_moment_stays_cancelled(
    staffa: Staffa, monkeypatch: pytest.MonkeyPatch
):
    class Snoozes(Worker, name="cancelling.Snoozes"):
        async def perform(self, job: Job) -> object:
            told["began"] = [1]
            await told["may snooze"].wait()
            return Snooze(0)

    told["may snooze"] = asyncio.Event()
    exchange, at_hand, go_on = staffa.engine.exchange, asyncio.Event(), asyncio.Event()

    async def slow(producer: Any, finished: Any, demand: int, **named: Any) -> Exchanged:
        if finished:
            at_hand.set()
            await go_on.wait()
        return await exchange(producer, finished, demand, **named)

    monkeypatch.setattr(staffa.engine, "exchange", slow)
    async with staffa:
        stored = await began(staffa, Snoozes.new())
        told["may snooze"].set()
        await at_hand.wait()
        await staffa.acancel(stored.id)
        go_on.set()
        await eventually(lambda: staffa._queues._running["default"].idle)
        now = await found(staffa, stored)
    assert (now.state, now.meta) == (State.CANCELLED, {})


async def test_a_job_that_elixir_cancelled_is_stopped_at_once(postgres_url: str):
    staffa = patient(postgres_url)

    def cancel_as_elixir(job_id: int | None) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "update oban_jobs set state = 'cancelled', cancelled_at = timezone('UTC', now()) where id = %s",
                [job_id],
            )
            payload = json.dumps({"action": "pkill", "job_id": job_id})
            connection.execute("select pg_notify('public.oban_signal', %s)", [payload])

    async with staffa:
        stored = await began(staffa, Stubborn.new(answer="done"))
        await asyncio.to_thread(cancel_as_elixir, stored.id)
        await eventually(lambda: told.get("stopped"))
        await eventually(lambda: staffa.unstopped == 0)
    assert (await found(staffa, stored)).state is State.CANCELLED
    staffa.close()
