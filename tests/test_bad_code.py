"""Whatever a worker's own code does, only its job feels it: the queue keeps its places and its promises."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from nodes import finished, quick
from staffa import Cancel, Job, State, Worker


class Thing:
    """What no JSON can hold."""


class Bad(Worker, name="bad.Plain", max_attempts=1):
    """Does in a thread what nobody should, where its arguments say."""

    def perform(self, job: Job) -> object:
        do(job, "perform")
        return Cancel("x" * 40_000) if job.args["do"] == "say much" else Cancel("enough")

    def on_discarded(self, job: Job) -> None:
        do(job, "on_discarded")

    def on_cancelled(self, job: Job) -> None:
        do(job, "on_cancelled")

    def backoff(self, job: Job) -> timedelta:
        do(job, "backoff")
        return timedelta(seconds=1)


class BadAsync(Bad, name="bad.Async"):
    """Does the same on the event loop."""

    async def perform(self, job: Job) -> object:
        return Bad.perform(self, job)

    async def on_discarded(self, job: Job) -> None:
        do(job, "on_discarded")

    async def on_cancelled(self, job: Job) -> None:
        do(job, "on_cancelled")


def do(job: Job, where: str) -> None:
    if where == "perform" and job.args["where"] in ("backoff", "on_discarded"):
        raise ValueError("the job's own reason")
    if where != job.args["where"]:
        return
    match job.args["do"]:
        case "exit":
            raise SystemExit(3)
        case "end a thread":
            raise GeneratorExit
        case "interrupt":
            raise KeyboardInterrupt
        case "cancel":
            raise asyncio.CancelledError
        case "write on it":
            job.meta["thing"] = Thing()
            job.errors.append({"thing": Thing()})
            for error in job.errors:
                error["thing"] = Thing()
        case "count far":
            job.progress(10**5_000)


async def outcome(url: str, bad: Job) -> Job:
    """Run a bad job in the only place of its queue, and a good one after it."""
    staffa = quick(url, queues={"default": 1})
    try:
        jobs = await staffa.ainsert_all([bad, Bad.new(where="nowhere", do="nothing")])
        async with staffa:
            first, second = await finished(staffa, jobs, within=10)
    finally:
        staffa.close()
    assert second.state == State.CANCELLED, "the place was given back"
    return first


WAYS = [
    (Bad.new, ["exit", "end a thread", "interrupt", "cancel", "write on it"]),
    (BadAsync.new, ["exit", "cancel", "write on it"]),
]


@pytest.mark.parametrize(("new", "way"), [(new, way) for new, ways in WAYS for way in ways])
@pytest.mark.parametrize("hook", ["on_discarded", "on_cancelled"])
async def test_whatever_a_hook_does_never_blocks_the_final_ack(
    sqlite_url: str, new: Callable[..., Job], hook: str, way: str
) -> None:
    became = await outcome(sqlite_url, new(where=hook, do=way))
    assert became.state == hook.removeprefix("on_")
    assert became.errors[-1]["error"].strip().endswith(("the job's own reason", "enough"))


@pytest.mark.parametrize("new", [Bad.new, BadAsync.new])
@pytest.mark.parametrize("way", ["exit", "end a thread", "cancel", "write on it"])
async def test_whatever_a_backoff_does_the_job_fails_for_its_own_reason(
    sqlite_url: str, new: Callable[..., Job], way: str
) -> None:
    became = await outcome(sqlite_url, new(where="backoff", do=way))
    assert became.state == State.DISCARDED
    assert became.errors[-1]["error"].strip().endswith("the job's own reason")


@pytest.mark.parametrize("way", ["interrupt", "end a thread"])
async def test_what_a_thread_raises_ends_nothing_but_its_job(sqlite_url: str, way: str) -> None:
    became = await outcome(sqlite_url, Bad.new(where="perform", do=way))
    assert became.state == State.DISCARDED


@pytest.mark.parametrize("new", [Bad.new, BadAsync.new])
async def test_what_a_job_writes_on_itself_never_blocks_its_ack(url: str, new: Callable[..., Job]) -> None:
    became = await outcome(url, new(where="perform", do="write on it"))
    assert became.state == State.CANCELLED
    assert [error["error"] for error in became.errors] == ["enough"]
    assert became.meta == {}


async def test_progress_that_no_database_holds_fails_its_job_alone(url: str) -> None:
    became = await outcome(url, Bad.new(where="perform", do="count far"))
    assert became.state == State.DISCARDED
    assert "64 bits" in became.errors[-1]["error"]


async def test_a_long_reason_is_shortened_like_any_error(url: str) -> None:
    became = await outcome(url, Bad.new(where="nowhere", do="say much"))
    assert became.state == State.CANCELLED
    assert len(became.errors[-1]["error"]) < 33_000
