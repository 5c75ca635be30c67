"""Tools for tests of applications, in manual mode."""

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import ANY

import psycopg
import pytest

from nodes import eventually
from staffa import Cancel, Error, Job, Snooze, Staffa, State, Worker, current_job, job
from staffa._bridge import at_once
from staffa._enqueuer import default_instance, withdraw
from staffa.errors import (
    DatabaseUnavailable,
    InsideEventLoop,
    InvalidArguments,
    InvalidJob,
    JobFailed,
    NoInstance,
    UnknownWorker,
)
from staffa.testing import (
    Drained,
    aall_enqueued,
    aassert_enqueued,
    adrain,
    all_enqueued,
    aperform_job,
    arefute_enqueued,
    assert_enqueued,
    drain,
    mode,
    perform_job,
    refute_enqueued,
)

TOMORROW = timedelta(days=1)


class Ran:
    """What ran, in order, and in which thread."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.threads: set[int] = set()

    def note(self, name: str) -> None:
        self.names.append(name)
        self.threads.add(threading.get_ident())


ran = Ran()


class Named(Worker, queue="names", max_attempts=3):
    """Notes its name, then does what it is told to."""

    def perform(self, job):
        ran.note(job.args["name"])
        match job.args.get("then"):
            case "cancel":
                return Cancel("not_wanted")
            case "snooze":
                return Snooze(3600)
            case "error":
                return Error("not_today")
            case "raise":
                raise ValueError("it broke")
            case {"enqueue": name}:
                Named.enqueue(name=name)
        return job.args["name"].upper()


class AsyncNamed(Worker, queue="names", max_attempts=2):
    async def perform(self, job):
        await asyncio.sleep(0)
        ran.note(job.args["name"])
        if job.args.get("then") == "enqueue":
            await Named.aenqueue(name="child")
        return job.args["name"].upper()


@dataclass
class Invoice:
    customer: int
    due: datetime


class Bill(Worker, args=Invoice, tags=["money"]):
    def perform(self, job):
        return job.args


@job(queue="mail", name="test_testing.send_mail", tags=["mail"])
def send_mail(user_id: int, *, at: datetime | None = None) -> tuple[int, datetime | None]:
    return user_id, at


@job(name="test_testing.send_later")
async def send_later(user_id: int) -> int:
    await asyncio.sleep(0)
    return user_id


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.__init__()


@pytest.fixture
def manual(make: Callable[..., Staffa]) -> Iterator[Staffa]:
    with make(testing="manual").as_default() as instance:
        yield instance


# Manual mode


def test_a4_manual_mode_stores_jobs_and_runs_nothing_until_drained(manual: Staffa):
    stored = Named.enqueue(name="a")

    assert [job.state for job in manual.jobs()] == [State.AVAILABLE]
    assert ran.names == []

    assert drain(manual, "names") == Drained(completed=1)
    assert manual.get(stored.id).state is State.COMPLETED
    assert ran.names == ["a"]


async def test_manual_mode_runs_nothing_even_when_started(manual: Staffa):
    async with manual:
        await Named.aenqueue(name="a")
        assert not await manual.aproducers()
        assert not manual.leads
    assert ran.names == []


def test_a4_an_int_key_is_refused_and_nothing_is_stored(manual: Staffa):
    with pytest.raises(TypeError, match=r"args\['counts'\] has the key 1 of type int: JSON keys are text"):
        Named.enqueue(counts={1: "one"})
    assert manual.jobs() == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "is a datetime, which JSON cannot hold"),
        ({1, 2}, "is a set, which JSON cannot hold"),
        (float("nan"), "is nan, which JSON cannot hold"),
    ],
)
def test_a5_what_json_cannot_hold_is_refused_and_nothing_is_stored(staffa: Staffa, value, told: str):
    with pytest.raises(TypeError, match=rf"args\['value'\] {told}"):
        Named.enqueue(value=value)
    assert staffa.jobs() == []


def test_a7_a_cancelled_job_never_runs_again_by_itself_but_by_hand(manual: Staffa):
    stored = Named.enqueue(name="a", then="cancel")
    assert drain(manual, "names") == Drained(cancelled=1)
    cancelled = manual.get(stored.id)
    assert (cancelled.state, cancelled.attempt) == (State.CANCELLED, 1)
    assert [(error["attempt"], error["error"]) for error in cancelled.errors] == [(1, "not_wanted")]

    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    assert at_once(manual.plain_engine.stage(100, now=in_an_hour)).queues == {}
    assert drain(manual, "names", with_scheduled=in_an_hour) == Drained()
    assert ran.names == ["a"]

    manual.retry(stored.id)
    assert drain(manual, "names") == Drained(cancelled=1)
    assert ran.names == ["a", "a"]


async def test_a13_a_queue_of_three_never_runs_more_than_three_at_once(make: Callable[..., Staffa]):
    running, most, ended = 0, 0, 0
    go_on = asyncio.Event()

    class Slow(Worker, name="test_testing.Slow"):
        async def perform(self, job):
            nonlocal running, most, ended
            running += 1
            most = max(most, running)
            if running == 3:
                go_on.set()
            await go_on.wait()
            for _ in range(5):
                await asyncio.sleep(0.005)
            running -= 1
            ended += 1

    staffa = make(queues={"default": 3}, poll=timedelta(seconds=0.02))
    async with staffa:
        jobs = await staffa.ainsert_all([Slow.new() for _ in range(20)])
        await eventually(lambda: ended == 20)
        assert len(jobs) == 20
    assert most == 3


async def test_a13_a_queue_of_three_threads_never_runs_more_than_three_at_once(make: Callable[..., Staffa]):
    lock, go_on = threading.Lock(), threading.Event()
    counts = {"running": 0, "most": 0, "ended": 0}

    class SlowThread(Worker, name="test_testing.SlowThread"):
        def perform(self, job):
            with lock:
                counts["running"] += 1
                counts["most"] = max(counts["most"], counts["running"])
                if counts["running"] == 3:
                    go_on.set()
            assert go_on.wait(20)
            threading.Event().wait(0.01)
            with lock:
                counts["running"] -= 1
                counts["ended"] += 1

    staffa = make(queues={"default": 3, "other": 5}, poll=timedelta(seconds=0.02))
    async with staffa:
        await staffa.ainsert_all([SlowThread.new() for _ in range(20)])
        await eventually(lambda: counts["ended"] == 20)
    assert counts["most"] == 3


# drain


def test_drain_counts_how_jobs_ended(manual: Staffa):
    for then in (None, "cancel", "snooze", "error", "raise"):
        Named.enqueue(name=str(then), then=then)
    Named.using(max_attempts=1).enqueue(name="last", then="raise")

    drained = drain(manual, "names")

    assert drained == Drained(completed=1, failed=2, discarded=1, cancelled=1, snoozed=1)
    assert drained._asdict() == {"completed": 1, "failed": 2, "discarded": 1, "cancelled": 1, "snoozed": 1}
    states = {job.args["name"]: job.state for job in manual.jobs()}
    assert states == {
        "None": "completed",
        "cancel": "cancelled",
        "snooze": "scheduled",
        "error": "retryable",
        "raise": "retryable",
        "last": "discarded",
    }


def test_drain_runs_plain_workers_in_the_caller_s_thread(staffa: Staffa):
    Named.enqueue(name="a")
    drain(staffa, "names")
    assert ran.threads == {threading.get_ident()}


def test_drain_runs_async_workers_on_a_loop_of_its_own(manual: Staffa):
    AsyncNamed.enqueue(name="a", then="enqueue")
    assert drain(manual, "names") == Drained(completed=2)
    assert ran.names == ["a", "child"]


def test_drain_goes_in_order_of_priority_and_age(staffa: Staffa):
    for name, priority in [("third", 5), ("first", 0), ("second", 0), ("last", 9)]:
        Named.using(priority=priority).enqueue(name=name)
    drain(staffa, "names")
    assert ran.names == ["first", "second", "third", "last"]


def test_drain_leaves_other_queues_alone(manual: Staffa):
    Named.enqueue(name="mine")
    Named.using(queue="other").enqueue(name="other")
    assert drain(manual, "names") == Drained(completed=1)
    assert drain(manual) == Drained()
    assert drain(manual, None) == Drained(completed=1)


def test_drain_runs_what_jobs_enqueue_through_all_queues(manual: Staffa):
    Named.using(queue="z").enqueue(name="a", then={"enqueue": "b"})
    assert drain(manual, None) == Drained(completed=2)


def test_drain_without_recursion_leaves_what_jobs_enqueue(manual: Staffa):
    Named.using(priority=5).enqueue(name="a", then={"enqueue": "child"})
    Named.using(priority=9).enqueue(name="b")

    assert drain(manual, "names", with_recursion=False) == Drained(completed=2)

    assert ran.names == ["a", "b"]
    [child] = all_enqueued(manual)
    assert (child.args["name"], child.state, child.attempt) == ("child", State.AVAILABLE, 0)


def test_drain_leaves_scheduled_jobs_unless_asked(manual: Staffa):
    Named.using(schedule_in=TOMORROW).enqueue(name="tomorrow")
    Named.using(schedule_in=2 * TOMORROW).enqueue(name="the day after")

    assert drain(manual, "names") == Drained()
    assert drain(manual, "names", with_scheduled=datetime.now(UTC) + 1.5 * TOMORROW) == Drained(completed=1)
    assert ran.names == ["tomorrow"]
    assert drain(manual, "names", with_scheduled=True) == Drained(completed=1)


def test_drain_with_scheduled_leaves_those_of_other_queues(manual: Staffa):
    Named.using(schedule_in=TOMORROW, queue="other").enqueue(name="other")
    drain(manual, "names", with_scheduled=True)
    assert [job.state for job in manual.jobs()] == [State.SCHEDULED]


def test_drain_with_scheduled_tries_failing_jobs_until_they_are_discarded(manual: Staffa):
    stored = Named.enqueue(name="a", then="raise")
    assert drain(manual, "names", with_scheduled=True) == Drained(failed=2, discarded=1)
    assert len(manual.get(stored.id).errors) == 3


def test_drain_without_recursion_tries_a_failing_job_once(manual: Staffa):
    Named.enqueue(name="a", then="raise")
    assert drain(manual, "names", with_scheduled=True, with_recursion=False) == Drained(failed=1)


def test_drain_does_not_run_a_snoozing_job_twice(manual: Staffa):
    Named.enqueue(name="a", then="snooze")
    assert drain(manual, "names", with_scheduled=True) == Drained(snoozed=1)


def test_drain_ends_at_its_limit(manual: Staffa):
    manual.insert_all([Named.new(name=str(number)) for number in range(5)])
    assert drain(manual, "names", limit=2) == Drained(completed=2)
    assert drain(manual, None, limit=2) == Drained(completed=2)
    assert len(all_enqueued(manual)) == 1


def test_drain_without_safety_raises_what_a_job_raises_once_it_is_recorded(manual: Staffa):
    stored = Named.enqueue(name="a", then="raise")
    Named.enqueue(name="b")

    with pytest.raises(ValueError, match="it broke"):
        drain(manual, "names", with_safety=False)

    failed = manual.get(stored.id)
    assert failed.state is State.RETRYABLE
    assert "ValueError: it broke" in failed.errors[0]["error"]
    assert drain(manual, "names") == Drained(completed=1)


def test_drain_without_safety_raises_the_reason_of_an_error(staffa: Staffa):
    Named.enqueue(name="a", then="error")
    with pytest.raises(JobFailed, match=r"Named: not_today"):
        drain(staffa, "names", with_safety=False)


def test_drain_without_safety_names_unknown_workers(manual: Staffa):
    manual.insert(Job(worker="nobody.Knows"))
    with pytest.raises(UnknownWorker, match=r"unknown worker 'nobody\.Knows'"):
        drain(manual, with_safety=False)


def test_drain_without_safety_lets_cancelled_and_snoozed_jobs_pass(staffa: Staffa):
    Named.enqueue(name="a", then="cancel")
    Named.enqueue(name="b", then="snooze")
    assert drain(staffa, "names", with_safety=False) == Drained(cancelled=1, snoozed=1)


def test_a_job_cancelled_by_an_earlier_one_does_not_run(manual: Staffa):
    victim = Named.using(priority=9).enqueue(name="victim")

    class Canceller(Worker, queue="names", name="test_testing.Canceller"):
        def perform(self, job):
            manual.cancel(victim.id)

    Canceller.enqueue()
    assert drain(manual, "names") == Drained(completed=1)
    assert ran.names == []


def test_a_job_that_is_cancelled_while_it_runs_counts_as_cancelled(manual: Staffa):
    class SelfCancelling(Worker, queue="names", name="test_testing.SelfCancelling"):
        def perform(self, job):
            manual.cancel(job.id)

    stored = SelfCancelling.enqueue()
    assert drain(manual, "names") == Drained(cancelled=1)
    assert manual.get(stored.id).state is State.CANCELLED


def test_a_job_that_is_interrupted_is_put_back_as_it_was(manual: Staffa):
    class Interrupted(Worker, queue="names", name="test_testing.Interrupted"):
        def perform(self, job):
            raise KeyboardInterrupt

    stored = Interrupted.enqueue()
    with pytest.raises(KeyboardInterrupt):
        drain(manual, "names")
    back = manual.get(stored.id)
    assert (back.state, back.attempt, back.errors) == (State.AVAILABLE, 0, [])


def test_an_outcome_that_another_transaction_keeps_from_being_recorded_is_told(postgres_url: str):
    instance = Staffa(postgres_url, testing="manual")
    with psycopg.connect(postgres_url) as other:

        class Locked(Worker, name="test_testing.Locked"):
            def perform(self, job):
                other.execute("select 1 from oban_jobs where id = %s for update", [job.id])

        stored = Locked.using(instance=instance).enqueue()
        told = rf"another transaction holds the row of job {stored.id}, so its outcome \(completed\)"
        with pytest.raises(DatabaseUnavailable, match=told):
            drain(instance)
    instance.close()


def test_drain_leaves_no_job_executing_and_no_producer_alive(manual: Staffa):
    Named.enqueue(name="a", then="raise")
    with pytest.raises(ValueError, match="it broke"):
        drain(manual, "names", with_safety=False)
    assert State.EXECUTING not in manual.counts()["names"]
    assert all(producer.expired for producer in manual.producers())


def test_drain_refuses_options_it_does_not_know(staffa: Staffa):
    with pytest.raises(
        TypeError, match=r"drain\(\) has no option 'with_schedule'; did you mean 'with_scheduled'\?"
    ):
        drain(staffa, with_schedule=True)
    with pytest.raises(
        TypeError, match="with_scheduled must be a bool or a datetime with a time zone, not 3"
    ):
        drain(staffa, with_scheduled=3)


async def test_drain_inside_an_event_loop_names_adrain(staffa: Staffa):
    with pytest.raises(InsideEventLoop, match=r"await adrain"):
        drain(staffa)


async def test_adrain_runs_async_workers_here_and_plain_ones_in_a_thread(manual: Staffa):
    await AsyncNamed.aenqueue(name="here", then="enqueue")
    assert await adrain(manual, "names", with_recursion=False) == Drained(completed=1)
    assert ran.threads == {threading.get_ident()}

    assert await adrain(manual, None) == Drained(completed=1)
    assert ran.names == ["here", "child"]
    assert len(ran.threads) == 2


async def test_adrain_without_safety_raises_too(manual: Staffa):
    await Named.aenqueue(name="a", then="raise")
    with pytest.raises(ValueError, match="it broke"):
        await adrain(manual, "names", with_safety=False)


# perform_job


def test_perform_job_gives_the_worker_s_answer():
    assert perform_job(Named, {"name": "a"}) == "A"
    assert perform_job(Named, {"name": "a", "then": "cancel"}) == Cancel("not_wanted")
    assert ran.threads == {threading.get_ident()}


def test_perform_job_raises_what_the_worker_raises():
    with pytest.raises(ValueError, match="it broke"):
        perform_job(Named, {"name": "a", "then": "raise"})


def test_perform_job_needs_no_instance_and_stores_nothing(staffa: Staffa):
    perform_job(Named, {"name": "a"})
    assert staffa.jobs() == []


def test_perform_job_runs_async_workers_on_a_loop_of_its_own():
    assert perform_job(AsyncNamed, {"name": "a"}) == "A"
    assert perform_job(send_later, {"user_id": 4}) == 4


async def test_perform_job_of_an_async_worker_inside_a_loop_names_its_twin():
    with pytest.raises(InsideEventLoop, match=r"await aperform_job"):
        perform_job(AsyncNamed, {"name": "a"})
    assert await aperform_job(AsyncNamed, {"name": "a"}) == "A"
    assert await aperform_job(Named, {"name": "a"}) == "A"
    assert len(ran.threads) == 2


def test_perform_job_takes_functions_and_checks_their_arguments():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert perform_job(send_mail, {"user_id": 7, "at": at}) == (7, at)
    with pytest.raises(InvalidArguments, match=r"`int`.*user_id"):
        perform_job(send_mail, {"user_id": "seven"})
    with pytest.raises(InvalidArguments, match="missing a required argument: 'user_id'"):
        perform_job(send_mail)


def test_perform_job_sends_arguments_through_json_and_the_declared_type():
    assert perform_job(Seen, {"pair": (1, 2)}) == {"pair": [1, 2]}
    due = datetime(2026, 1, 1, tzinfo=UTC)
    assert perform_job(Bill, Invoice(customer=1, due=due)) == Invoice(customer=1, due=due)
    assert perform_job(Bill, {"customer": 1, "due": "2026-01-01T00:00:00Z"}).due == due
    with pytest.raises(TypeError, match="JSON keys are text"):
        perform_job(Seen, {1: 2})


class Seen(Worker):
    def perform(self, job):
        return job.args


def test_perform_job_shows_the_worker_a_job_as_it_would_be():
    class Whole(Worker, queue="whole", max_attempts=4, priority=2, tags=["a"], name="test_testing.Whole"):
        def perform(self, job):
            assert current_job() is job
            return job

    seen = perform_job(Whole, attempt=3, id=9, tags=["B "], meta={"x": 1}, errors=[{"attempt": 1}])

    assert (seen.queue, seen.max_attempts, seen.priority, seen.tags) == ("whole", 4, 2, ["a", "b"])
    assert (seen.id, seen.attempt, seen.meta, seen.errors) == (9, 3, {"x": 1}, [{"attempt": 1}])
    assert (seen.state, seen.cancelled) == (State.EXECUTING, False)
    assert seen.attempted_at is not None
    assert current_job() is None


def test_perform_job_refuses_what_is_no_worker_and_no_option():
    with pytest.raises(TypeError, match="give a Worker class or a @job function, not 3"):
        perform_job(3)
    with pytest.raises(TypeError, match=r"perform_job\(\) has no option 'atempt'; did you mean 'attempt'\?"):
        perform_job(Seen, atempt=3)
    with pytest.raises(InvalidJob, match="priority must be a whole number from 0 to 9, not 12"):
        perform_job(Seen, priority=12)


def test_perform_job_names_a_plain_perform_that_should_be_async():
    class Sleepy(Worker, name="test_testing.Sleepy"):
        def perform(self, job):
            return asyncio.sleep(0)

    with pytest.raises(TypeError, match=r"perform of test_testing.Sleepy returned a coroutine"):
        perform_job(Sleepy)


# What was enqueued


def test_a_job_is_found_by_all_it_is_made_of(manual: Staffa):
    at = datetime.now(UTC) + TOMORROW
    stored = send_mail.using(
        tags=["New"], meta={"by": {"id": 1, "x": 2}}, priority=3, scheduled_at=at
    ).enqueue(7)

    found = assert_enqueued(
        manual,
        worker=send_mail,
        args={"user_id": 7},
        queue="mail",
        tags=["new"],
        meta={"by": {"id": 1}},
        priority=3,
        scheduled_at=at,
        schedule_in=TOMORROW,
        state=State.SCHEDULED,
    )

    assert found == stored
    assert assert_enqueued(manual, worker="test_testing.send_mail") == stored
    assert assert_enqueued(manual, worker=send_mail.worker) == stored
    assert assert_enqueued(manual) == stored


@pytest.mark.parametrize(
    "unlike",
    [
        {"worker": Named},
        {"args": {"user_id": 8}},
        {"args": {"user": 7}},
        {"queue": "default"},
        {"tags": ["old"]},
        {"meta": {"by": 2}},
        {"priority": 0},
        {"scheduled_at": datetime(2031, 1, 1, tzinfo=UTC)},
        {"schedule_in": timedelta(hours=1)},
        {"state": State.AVAILABLE},
    ],
    ids=str,
)
def test_a_job_that_differs_in_anything_is_not_found(staffa: Staffa, unlike):
    send_mail.using(tags=["new"], meta={"by": 1}, priority=3, schedule_in=TOMORROW).enqueue(7)
    refute_enqueued(staffa, **unlike)


def test_args_match_in_part_and_in_depth(staffa: Staffa):
    Named.enqueue(name="a", rows=[{"id": 1, "x": 2}, {"id": 2}], flag=True, count=1)

    assert_enqueued(staffa, args={"rows": [{"id": 1}, {"id": 2}]})
    assert_enqueued(staffa, args={"rows": ({"id": 1}, ANY), "name": ANY})
    refute_enqueued(staffa, args={"rows": [{"id": 1}]})
    refute_enqueued(staffa, args={"missing": ANY})
    refute_enqueued(staffa, args={"flag": 1})
    refute_enqueued(staffa, args={"count": True})


def test_typed_arguments_match_as_they_were_given(staffa: Staffa):
    due = datetime(2026, 1, 1, tzinfo=UTC)
    Bill.enqueue(customer=1, due=due)

    assert_enqueued(staffa, worker=Bill, args=Invoice(customer=1, due=due), tags=["money"])
    assert_enqueued(staffa, args={"due": due})
    refute_enqueued(staffa, worker=Bill, args=Invoice(customer=2, due=due))
    with pytest.raises(TypeError, match="name the worker whose type Invoice is"):
        assert_enqueued(staffa, args=Invoice(customer=1, due=due))


def test_times_match_within_a_tolerance(staffa: Staffa):
    stored = Named.using(schedule_in=TOMORROW).enqueue(name="a")
    assert_enqueued(staffa, scheduled_at=stored.scheduled_at + timedelta(seconds=0.9))
    refute_enqueued(staffa, scheduled_at=stored.scheduled_at + timedelta(seconds=2))
    assert_enqueued(staffa, schedule_in=timedelta(hours=23), tolerance=timedelta(hours=2))


def test_jobs_that_no_longer_wait_are_not_enqueued(staffa: Staffa):
    Named.enqueue(name="done")
    Named.enqueue(name="again", then="raise")
    drain(staffa, "names")
    refute_enqueued(staffa, args={"name": "done"})
    assert_enqueued(staffa, args={"name": "again"}, state=State.RETRYABLE)
    assert_enqueued(staffa, args={"name": "done"}, state=State.COMPLETED)


def test_all_enqueued_lists_newest_first_however_many(manual: Staffa):
    manual.insert_all([Named.new(name=str(number)) for number in range(1203)])
    listed = all_enqueued(manual, worker=Named)
    assert [job.args["name"] for job in listed] == [str(number) for number in reversed(range(1203))]


def test_a_failed_assertion_lists_what_was_enqueued_instead(staffa: Staffa):
    stored = Named.using(tags=["x"], priority=4).enqueue(name="other")

    with pytest.raises(AssertionError) as failure:
        assert_enqueued(staffa, worker=send_mail, args={"user_id": 7}, schedule_in=timedelta(hours=1))

    assert str(failure.value) == (
        "no enqueued job matches\n"
        "  worker = test_testing.send_mail\n"
        "  args = {'user_id': 7}\n"
        "  schedule_in = 1:00:00\n"
        "enqueued, newest first:\n"
        f"  #{stored.id} {Named.options.name} {{'name': 'other'}}, available, queue 'names', "
        f"scheduled at {stored.scheduled_at}, priority 4, tags ['x']"
    )


def test_a_failed_assertion_on_an_empty_database_says_so(staffa: Staffa):
    with pytest.raises(
        AssertionError, match="no enqueued job matches\n  queue = 'mail'\nnothing is enqueued"
    ):
        assert_enqueued(staffa, queue="mail")


def test_a_long_list_is_cut_short(staffa: Staffa):
    staffa.insert_all([Named.new(name=str(number)) for number in range(25)])
    with pytest.raises(AssertionError, match=r"… and 15 more$"):
        assert_enqueued(staffa, queue="mail")


def test_a_failed_refutation_shows_the_job(staffa: Staffa):
    Named.enqueue(name="a")
    with pytest.raises(
        AssertionError, match=r"no enqueued job should match\n  anything\nyet there is:\n  #1 "
    ):
        refute_enqueued(staffa)


def test_a_misspelt_condition_is_refused(staffa: Staffa):
    with pytest.raises(TypeError, match=r"refute_enqueued\(\) has no option 'quue'; did you mean 'queue'\?"):
        refute_enqueued(staffa, quue="mail")


def test_an_assertion_may_wait_for_a_job_to_come(staffa: Staffa):
    thread = threading.Timer(0.05, lambda: Named.using(instance=staffa).enqueue(name="late"))
    thread.start()
    assert assert_enqueued(staffa, worker=Named, timeout=timedelta(seconds=20)).args == {"name": "late"}
    thread.join()


def test_a_refutation_may_wait_for_a_job_to_come(staffa: Staffa):
    thread = threading.Timer(0.05, lambda: Named.using(instance=staffa).enqueue(name="late"))
    thread.start()
    with pytest.raises(AssertionError, match="late"):
        refute_enqueued(staffa, worker=Named, timeout=20)
    thread.join()


async def test_the_awaited_twins_do_the_same(manual: Staffa):
    with pytest.raises(InsideEventLoop, match=r"await aassert_enqueued"):
        assert_enqueued(manual)
    with pytest.raises(InsideEventLoop, match=r"await arefute_enqueued"):
        refute_enqueued(manual)
    with pytest.raises(InsideEventLoop, match=r"await aall_enqueued"):
        all_enqueued(manual)

    await arefute_enqueued(manual, worker=Named)
    with pytest.raises(AssertionError, match="nothing is enqueued"):
        await aassert_enqueued(manual, worker=Named)
    stored = await Named.aenqueue(name="a")
    assert await aassert_enqueued(manual, worker=Named) == stored
    assert await aall_enqueued(manual) == [stored]
    with pytest.raises(AssertionError, match="yet there is"):
        await arefute_enqueued(manual, worker=Named)


# Another mode for a while


def test_mode_inline_runs_jobs_at_once_for_a_while(staffa: Staffa):
    with mode(staffa, "inline") as inline:
        assert Named.enqueue(name="a").state is State.COMPLETED
        assert inline is not staffa
    assert ran.names == ["a"]

    Named.enqueue(name="b")
    assert [job.args["name"] for job in staffa.jobs()] == ["b"]


def test_mode_manual_stores_jobs_of_an_inline_instance_for_a_while(url: str):
    instance = Staffa(url, testing="inline")
    with instance.as_default():
        with mode(instance, "manual") as manual:
            Named.enqueue(name="a")
            assert ran.names == []
            assert_enqueued(manual, worker=Named)
        Named.enqueue(name="b")
    assert ran.names == ["b"]
    instance.close()


def test_mode_manual_of_an_instance_that_stores_is_that_instance(staffa: Staffa):
    with mode(staffa, "manual") as same:
        assert same is staffa


def test_another_mode_does_not_confuse_other_threads(sqlite_url: str):
    instance = Staffa(sqlite_url, testing="manual", default=True)
    with mode(instance, "inline"), ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(default_instance).result() is instance
    withdraw(instance)
    instance.close()


def test_assertions_in_inline_mode_say_that_nothing_is_stored():
    instance = Staffa("sqlite://", testing="inline")
    with pytest.raises(AssertionError, match="no job is ever enqueued in inline mode"):
        assert_enqueued(instance, worker=Named)
    instance.close()


# The fixtures


def test_the_fixture_stores_jobs_in_a_file_of_the_test(staffa: Staffa, tmp_path: Path):
    Named.enqueue(name="a")
    assert_enqueued(staffa, worker=Named)
    assert ran.names == []
    assert (tmp_path / "staffa.db").exists()


async def test_the_fixture_is_the_default_of_async_tests_and_their_threads(staffa: Staffa):
    await Named.aenqueue(name="a")
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, lambda: Named.using(instance=staffa).enqueue(name="b"))
    assert [job.args["name"] for job in await aall_enqueued(staffa)] == ["b", "a"]


@pytest.mark.parametrize("time", ["first", "second"])
def test_the_fixture_takes_jobs_of_threads_that_know_nothing_and_leaves_no_trace(staffa: Staffa, time):
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(Named.enqueue, name=time).result()
    assert_enqueued(staffa, args={"name": time})
    kept_alive.append(staffa)


kept_alive: list[Staffa] = []  # as a traceback does


def test_the_inline_fixture_runs_jobs_at_once(staffa_inline: Staffa):
    assert Named.enqueue(name="a").state is State.COMPLETED
    assert AsyncNamed.enqueue(name="b").state is State.COMPLETED
    assert ran.names == ["a", "b"]


def test_an_application_finds_the_fixtures_and_projects_without_jobs_notice_nothing(tmp_path: Path):
    (tmp_path / "test_app.py").write_text(
        textwrap.dedent("""
            import pytest
            from staffa import Worker
            from staffa.errors import NoInstance
            from staffa.testing import assert_enqueued, drain

            class Greet(Worker):
                def perform(self, job):
                    (job.args["path"] and open(job.args["path"], "w").close())

            def test_nothing_is_there_unless_asked_for():
                with pytest.raises(NoInstance, match="there is no Staffa instance"):
                    Greet.enqueue()

            def test_manual(staffa, tmp_path):
                Greet.enqueue(path=str(tmp_path / "done"))
                assert_enqueued(staffa, worker=Greet)
                assert drain(staffa).completed == 1
                assert (tmp_path / "done").exists()

            def test_inline(staffa_inline, tmp_path):
                Greet.enqueue(path=str(tmp_path / "done"))
                assert (tmp_path / "done").exists()

            @pytest.fixture
            def staffa_url():
                return "sqlite://"

            def test_another_database(staffa):
                assert staffa.url == "sqlite://"
        """)
    )
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        f"--basetemp={tmp_path}/temporary",
        tmp_path,
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "4 passed" in ended.stdout, ended.stdout + ended.stderr


def test_there_is_no_default_where_nobody_offers_one():
    program = "from staffa import Worker\nclass W(Worker, name='w'): ...\nW.enqueue()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"{NoInstance.__name__}: there is no Staffa instance to take this job" in ended.stderr


def test_the_plugin_brings_no_driver_and_no_other_extra_into_projects_that_do_not_use_it(tmp_path: Path):
    (tmp_path / "test_nothing.py").write_text(
        textwrap.dedent("""
            import sys

            def test_modules():
                extras = {"psycopg", "sqlalchemy", "starlette", "typer", "staffa.testing", "staffa.engines.sqlite"}
                assert "staffa.pytest_plugin" in sys.modules
                assert not extras & sys.modules.keys()
        """)
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path}/t",
        tmp_path,
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
