"""Inline mode: jobs run where they are enqueued, and are not stored."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum

import pytest

from staffa import Cancel, Error, Job, Snooze, Staffa, State, Worker, current_job, job
from staffa.errors import InsideEventLoop, InvalidArguments, JobTimeout, UnknownWorker

seen: list[object] = []


class Seen(Worker, queue="seen", max_attempts=3):
    def perform(self, job):
        seen.append(job)
        match job.args.get("then"):
            case "cancel":
                return Cancel("not_wanted")
            case "error":
                return Error("not_today")
            case "snooze":
                return Snooze(60)
            case "raise":
                raise ValueError("it broke")
        return "anything"


class AsyncSeen(Worker):
    async def perform(self, job):
        await asyncio.sleep(0)
        seen.append((threading.get_ident(), asyncio.get_running_loop()))


class Thread(Worker):
    def perform(self, job):
        seen.append(threading.get_ident())


@job(name="test_inline.add")
def add(left: int, right: int = 1) -> int:
    seen.append(left + right)
    return left + right


@job(name="test_inline.once", unique=True)
def once() -> None:
    seen.append("once")


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@pytest.fixture
def inline() -> Iterator[Staffa]:
    instance = Staffa("sqlite:///nowhere/jobs.db", testing="inline")
    with instance.as_default():
        yield instance
    instance.close()


def test_a4_a_job_runs_in_the_thread_that_enqueues_it_and_is_not_stored(make: Callable[..., Staffa]):
    with make(testing="inline").as_default():
        ended = Thread.enqueue()

    assert seen == [threading.get_ident()]
    assert (ended.state, ended.attempt, ended.id) == (State.COMPLETED, 1, None)
    assert make(testing="manual").jobs() == []


def test_a4_an_int_key_is_refused_with_a_type_error(inline: Staffa):
    with pytest.raises(TypeError, match=r"args\['counts'\] has the key 1 of type int: JSON keys are text"):
        Seen.enqueue(counts={1: "one"})
    assert seen == []


def test_a5_what_json_cannot_hold_is_refused_before_anything_runs(inline: Staffa):
    with pytest.raises(TypeError, match=r"args\['at'\] is a datetime, which JSON cannot hold: convert it"):
        Seen.enqueue(at=datetime.now(UTC))
    assert seen == []


def test_a7_cancel_ends_a_job_at_its_first_attempt(inline: Staffa):
    ended = Seen.enqueue(then="cancel")
    assert (ended.state, ended.attempt, ended.max_attempts) == (State.CANCELLED, 1, 3)
    assert [error["error"] for error in ended.errors] == ["not_wanted"]


def test_arguments_go_through_json(inline: Staffa):
    class Colour(Enum):
        RED = "red"

    Seen.enqueue(pair=(1, 2), colour=Colour.RED)
    assert seen[0].args == {"pair": [1, 2], "colour": "red"}


def test_a_worker_sees_the_job_it_would_see(inline: Staffa):
    class Looking(Worker, name="test_inline.Looking", tags=["a"]):
        def perform(self, job):
            seen.append((job, current_job()))

    Looking.using(queue="other", priority=4, meta={"x": 1}).enqueue(user_id=1)

    [(job, current)] = seen
    assert job == current
    assert (job.state, job.attempt, job.queue, job.priority) == (State.EXECUTING, 1, "other", 4)
    assert (job.tags, job.meta, job.args) == (["a"], {"x": 1}, {"user_id": 1})
    assert job.attempted_at.tzinfo is UTC
    assert not job.cancelled


def test_scheduled_jobs_run_at_once(inline: Staffa):
    ended = Seen.using(schedule_in=timedelta(days=1)).enqueue()
    assert ended.state is State.COMPLETED
    assert ended.scheduled_at - ended.inserted_at == timedelta(days=1)
    assert Seen.using(scheduled_at=datetime(2040, 1, 1, tzinfo=UTC)).enqueue().state is State.COMPLETED


@pytest.mark.parametrize(
    ("then", "state"),
    [
        ("error", State.RETRYABLE),
        ("snooze", State.SCHEDULED),
        ("cancel", State.CANCELLED),
        (None, State.COMPLETED),
    ],
)
def test_an_answer_comes_back_as_the_state_of_the_job(inline: Staffa, then, state):
    assert Seen.enqueue(then=then).state is state


def test_an_error_at_the_last_attempt_discards_the_job(inline: Staffa):
    ended = Seen.using(max_attempts=1).enqueue(then="error")
    assert ended.state is State.DISCARDED
    assert ended.errors[0]["error"] == "not_today"


def test_what_a_worker_raises_reaches_the_caller(inline: Staffa):
    with pytest.raises(ValueError, match="it broke"):
        Seen.enqueue(then="raise")


def test_hooks_run_as_in_production(inline: Staffa):
    class Hooked(Worker, name="test_inline.Hooked", max_attempts=1):
        def perform(self, job):
            return Cancel("no") if job.args["cancel"] else Error("no")

        def on_cancelled(self, job):
            seen.append(("cancelled", job.state))

        def on_discarded(self, job):
            seen.append(("discarded", job.errors[-1]["error"]))

    Hooked.enqueue(cancel=True)
    Hooked.enqueue(cancel=False)
    assert seen == [("cancelled", State.CANCELLED), ("discarded", "no")]


def test_an_async_worker_runs_on_a_loop_of_its_own(inline: Staffa):
    assert AsyncSeen.enqueue().state is State.COMPLETED
    [(thread, loop)] = seen
    assert thread == threading.get_ident()
    assert loop.is_closed()


def test_a_plain_worker_with_a_timeout_runs_in_the_caller_s_thread(inline: Staffa):
    class Limited(Worker, name="test_inline.Limited", timeout=timedelta(minutes=1)):
        def perform(self, job):
            seen.append(threading.get_ident())

    assert Limited.enqueue().state is State.COMPLETED
    assert seen == [threading.get_ident()]


def test_an_async_worker_is_cut_off_at_its_timeout(inline: Staffa):
    class Endless(Worker, name="test_inline.Endless", timeout=timedelta(seconds=0.02)):
        async def perform(self, job):
            await asyncio.Event().wait()

    with pytest.raises(JobTimeout, match=r"test_inline\.Endless timed out after 0\.02 s"):
        Endless.enqueue()


def test_a_job_may_enqueue_others(inline: Staffa):
    class Parent(Worker, name="test_inline.Parent"):
        def perform(self, job):
            add.enqueue(1, right=2)

    Parent.enqueue()
    assert seen == [3]


def test_functions_run_with_checked_arguments(inline: Staffa):
    add.enqueue(2)
    with pytest.raises(
        InvalidArguments, match=r"args do not fit add: Expected `int`, got `str` - at `\$\.left`"
    ):
        add.enqueue("two")
    assert seen == [3]


def test_many_jobs_run_in_order(inline: Staffa):
    ended = inline.insert_all([add.new(number) for number in range(5)])
    assert seen == [1, 2, 3, 4, 5]
    assert {job.state for job in ended} == {State.COMPLETED}


def test_an_unknown_worker_is_named(inline: Staffa):
    with pytest.raises(UnknownWorker, match=r"unknown worker 'nobody\.Knows'"):
        inline.insert(Job(worker="nobody.Knows"))


def test_no_connection_is_needed_and_any_is_taken(inline: Staffa):
    assert Seen.using(connection=object()).enqueue().state is State.COMPLETED


def test_nothing_else_is_there(inline: Staffa):
    Seen.enqueue()
    assert inline.counts() == {}
    assert inline.producers() == []
    assert inline.cancel(1) == inline.retry(1) == inline.delete(1) == inline.migrate() == []
    assert inline.get(1) is None


# Inside an event loop


async def test_a_blocking_call_inside_a_loop_names_aenqueue(inline: Staffa):
    with pytest.raises(InsideEventLoop, match=r"await aenqueue\(\.\.\.\)"):
        Seen.enqueue()
    assert seen == []


async def test_an_awaited_async_worker_runs_on_its_caller_s_loop(inline: Staffa):
    await AsyncSeen.aenqueue()
    assert seen == [(threading.get_ident(), asyncio.get_running_loop())]


async def test_an_awaited_plain_worker_runs_in_a_thread_and_may_enqueue(inline: Staffa):
    class Parent(Worker, name="test_inline.AwaitedParent"):
        def perform(self, job):
            Thread.enqueue()
            seen.append("parent")

    assert (await Parent.aenqueue()).state is State.COMPLETED
    assert seen[0] != threading.get_ident()
    assert seen[1] == "parent"


async def test_what_an_awaited_worker_raises_reaches_the_caller(inline: Staffa):
    with pytest.raises(ValueError, match="it broke"):
        await Seen.aenqueue(then="raise")


async def test_an_inline_instance_may_be_started_and_runs_no_queues(inline: Staffa):
    async with inline:
        await Seen.aenqueue()
    assert len(seen) == 1


def test_unique_jobs_all_run_as_none_of_them_is_there(inline: Staffa):
    first, second = once.enqueue(), once.enqueue()

    assert seen == ["once", "once"]
    assert (first.conflict, second.conflict, second.unique) == (False, False, None)
