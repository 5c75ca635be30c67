"""Jobs on a running instance: what workers answer, what stops them, who runs how many."""

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodes import eventually, finished, quick
from staffa import (
    Cancel,
    Error,
    Job,
    Lifeline,
    Pruner,
    Snooze,
    Staffa,
    State,
    Unique,
    Worker,
    current_job,
    job,
)
from staffa.telemetry import JobStarted, JobStopped, LeaderChanged, LoopStuck, PluginTicked

told: dict[str, Any] = {}
go = threading.Event()


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    told.clear()
    go.clear()


@pytest.fixture
def staffa(url: str) -> Any:
    instance = quick(url)
    yield instance
    instance.close()


class Answer(Worker, name="machine.Answer", max_attempts=3):
    """Does what its arguments say."""

    async def perform(self, job: Job) -> object:
        told[job.args["do"]] = job
        match job.args["do"]:
            case "cancel":
                return Cancel("no such file")
            case "snooze":
                return Snooze(timedelta(hours=1)) if not job.meta.get("snoozed") else "done"
            case "snooze seconds":
                return Snooze(90)
            case "snooze nonsense":
                return Snooze("soon")  # type: ignore[arg-type]
            case "error":
                return Error("not today")
            case "raise":
                raise ValueError("kaboom")
            case "exit":
                sys.exit(3)
            case "cancel itself":
                raise asyncio.CancelledError
            case "progress":
                job.progress(7, 10, "seven of ten")
        return {"anything": "else"}

    def backoff(self, job: Job) -> timedelta:
        return timedelta(minutes=job.attempt)


async def one(staffa: Staffa, given: Job, state: State) -> Job:
    """Enqueue a job and wait until it is in a state."""
    stored = await staffa.ainsert(given)
    await eventually(lambda: reached(staffa, stored, state))
    found = await staffa.aget(stored.id or 0)
    assert found is not None
    return found


async def reached(staffa: Staffa, stored: Job, state: State) -> bool:
    found = await staffa.aget(stored.id or 0)
    return found is not None and found.state == state


# Answers


async def test_anything_returned_completes_the_job(staffa: Staffa) -> None:
    async with staffa:
        done = await one(staffa, Answer.new(do="nothing"), State.COMPLETED)
    assert done.completed_at is not None
    assert done.attempt == 1
    assert done.errors == []


async def test_cancel_stops_retrying_and_records_the_reason(staffa: Staffa) -> None:
    async with staffa:
        done = await one(staffa, Answer.new(do="cancel"), State.CANCELLED)
    assert done.cancelled_at is not None
    assert [(error["attempt"], error["error"]) for error in done.errors] == [(1, "no such file")]


async def test_snooze_runs_again_later_without_spending_an_attempt(staffa: Staffa) -> None:
    async with staffa:
        slept = await one(staffa, Answer.new(do="snooze"), State.SCHEDULED)
        assert (slept.attempt, slept.meta) == (0, {"snoozed": 1})
        assert timedelta(minutes=59) < slept.scheduled_at - slept.attempted_at <= timedelta(minutes=61)
        await staffa.aretry(slept.id)
        [done] = await finished(staffa, [slept])
    assert (done.state, done.attempt, done.meta) == (State.COMPLETED, 1, {"snoozed": 1})


async def test_snooze_takes_seconds_too(staffa: Staffa) -> None:
    async with staffa:
        slept = await one(staffa, Answer.new(do="snooze seconds"), State.SCHEDULED)
    assert timedelta(seconds=89) < slept.scheduled_at - slept.attempted_at < timedelta(seconds=95)


async def test_a_senseless_snooze_is_a_failure_that_says_so(staffa: Staffa) -> None:
    async with staffa:
        failed = await one(staffa, Answer.new(do="snooze nonsense"), State.RETRYABLE)
    assert "Snooze('soon')" in failed.errors[0]["error"]


async def test_error_fails_without_a_traceback(staffa: Staffa) -> None:
    async with staffa:
        failed = await one(staffa, Answer.new(do="error"), State.RETRYABLE)
    assert failed.errors[0]["error"] == "not today"


async def test_raising_fails_with_the_workers_own_traceback_and_waits_its_backoff(staffa: Staffa) -> None:
    async with staffa:
        failed = await one(staffa, Answer.new(do="raise"), State.RETRYABLE)
    [error] = failed.errors
    assert error["attempt"] == 1
    assert error["error"].startswith("Traceback")
    assert error["error"].endswith("ValueError: kaboom\n")
    assert "_executor.py" not in error["error"], "our own frames are left out"
    assert datetime.fromisoformat(error["at"]).tzinfo is not None
    assert timedelta(seconds=59) < failed.scheduled_at - failed.attempted_at < timedelta(seconds=65)


@pytest.mark.parametrize("way_out", ["exit", "cancel itself"])
async def test_a_job_that_tries_to_leave_fails_and_harms_nobody(staffa: Staffa, way_out: str) -> None:
    async with staffa:
        failed = await one(staffa, Answer.new(do=way_out), State.RETRYABLE)
        await one(staffa, Answer.new(do="nothing"), State.COMPLETED)
    assert failed.errors[0]["attempt"] == 1


async def test_a_job_is_discarded_when_its_attempts_are_used_up(staffa: Staffa) -> None:
    async with staffa:
        stored = await staffa.ainsert(Answer.using(max_attempts=2).new(do="raise"))
        await eventually(lambda: reached(staffa, stored, State.RETRYABLE))
        await staffa.aretry(stored.id)
        [done] = await finished(staffa, [stored])
        assert (done.state, done.attempt, len(done.errors)) == (State.DISCARDED, 2, 2)
        [again] = await staffa.aretry(stored.id)
        assert (again.state, again.max_attempts) == (State.AVAILABLE, 3)
        [done] = await finished(staffa, [stored])
    assert (done.state, done.attempt, len(done.errors)) == (State.DISCARDED, 3, 3)


class Plain(Worker, name="machine.Plain"):
    def perform(self, job: Job) -> object:
        told["thread"] = threading.current_thread().name
        if job.args.get("stop"):
            raise StopIteration
        return asyncio.sleep(0) if job.args.get("coroutine") else None


async def test_plain_workers_run_in_threads_of_their_own(staffa: Staffa) -> None:
    async with staffa:
        await one(staffa, Plain.new(), State.COMPLETED)
    assert told["thread"].startswith("staffa-job")


async def test_a_stop_iteration_in_a_thread_is_a_failure_like_any_other(staffa: Staffa) -> None:
    async with staffa:
        failed = await one(staffa, Plain.new(stop=True), State.RETRYABLE)
    assert "StopIteration" in failed.errors[0]["error"]


async def test_a_coroutine_returned_by_a_plain_worker_is_a_failure_that_says_what_to_do(
    staffa: Staffa,
) -> None:
    async with staffa:
        failed = await one(staffa, Plain.new(coroutine=True), State.RETRYABLE)
    assert "make it `async def`" in failed.errors[0]["error"]


# Workers and arguments that are not there


async def test_an_unknown_worker_fails_its_job_with_a_clear_error_and_keeps_the_queue_flowing(
    staffa: Staffa,
) -> None:
    async with staffa:
        failed = await one(staffa, Job(worker="os.system", args={"command": "true"}), State.RETRYABLE)
        await one(staffa, Answer.new(do="nothing"), State.COMPLETED)
    assert "unknown worker 'os.system'" in failed.errors[0]["error"]


async def test_a_name_never_leads_to_an_import(staffa: Staffa) -> None:
    async with staffa:
        await one(staffa, Job(worker="this.Zen"), State.RETRYABLE)
    assert "this" not in sys.modules


class Renamed(Worker, name="machine.Renamed", aliases=["machine.Former"]):
    async def perform(self, job: Job) -> None:
        told["renamed"] = True


async def test_aliases_keep_old_rows_running(staffa: Staffa) -> None:
    async with staffa:
        await one(staffa, Job(worker="machine.Former"), State.COMPLETED)
    assert told["renamed"]


@job(name="machine.add")
async def add(left: int, right: int = 1) -> None:
    told["sum"] = left + right
    running = current_job()
    told["current"] = running.id if running else None


async def test_arguments_that_do_not_fit_at_run_cancel_the_job_and_say_why(staffa: Staffa) -> None:
    async with staffa:
        done = await one(staffa, Job(worker="machine.add", args={"left": "one"}), State.CANCELLED)
        missing = await one(staffa, Job(worker="machine.add", args={}), State.CANCELLED)
        unknown = await one(staffa, Job(worker="machine.add", args={"left": 1, "up": 2}), State.CANCELLED)
    assert "Expected `int`, got `str`" in done.errors[0]["error"]
    assert "left" in missing.errors[0]["error"]
    assert "takes no argument up" in unknown.errors[0]["error"]


async def test_a_function_can_ask_for_its_job(staffa: Staffa) -> None:
    async with staffa:
        done = await one(staffa, add.new(2), State.COMPLETED)
    assert told == {"sum": 3, "current": done.id}
    assert current_job() is None


# Hooks and backoff


class Hooked(Worker, name="machine.Hooked", max_attempts=1):
    async def perform(self, job: Job) -> object:
        if job.args["end"] == "cancel":
            return Cancel("enough")
        if job.args["end"] == "wait":
            await asyncio.sleep(30)
        raise RuntimeError("broken")

    async def on_discarded(self, job: Job) -> None:
        told["discarded"] = (job.state, job.errors[-1]["error"].splitlines()[-1])
        raise ZeroDivisionError("a hook's bug")

    def on_cancelled(self, job: Job) -> None:
        told["cancelled"] = (job.state, job.errors[-1]["error"])

    def backoff(self, job: Job) -> float:
        raise KeyError("a backoff's bug")


async def test_on_discarded_runs_before_the_final_ack_and_cannot_block_it(staffa: Staffa) -> None:
    async with staffa:
        await one(staffa, Hooked.new(end="raise"), State.DISCARDED)
    assert told["discarded"] == (State.DISCARDED, "RuntimeError: broken")


async def test_on_cancelled_runs_when_the_worker_cancels(staffa: Staffa) -> None:
    async with staffa:
        await one(staffa, Hooked.new(end="cancel"), State.CANCELLED)
    assert told["cancelled"] == (State.CANCELLED, "enough")


async def test_on_cancelled_runs_when_an_operator_cancels_what_runs(staffa: Staffa) -> None:
    async with staffa:
        running = await one(staffa, Hooked.new(end="wait"), State.EXECUTING)
        [cancelled] = await staffa.acancel(running.id)
        assert cancelled.state == State.CANCELLED
        await eventually(lambda: "cancelled" in told)
        found = await staffa.aget(running.id)
    assert found.state == State.CANCELLED


async def test_a_broken_backoff_falls_back_to_the_default(staffa: Staffa) -> None:
    async with staffa:
        failed = await one(staffa, Hooked.using(max_attempts=5).new(end="raise"), State.RETRYABLE)
    assert timedelta(seconds=16) < failed.scheduled_at - failed.attempted_at < timedelta(seconds=20)


# Time


class Slow(Worker, name="machine.Slow", timeout=timedelta(seconds=0.2), max_attempts=1):
    async def perform(self, job: Job) -> None:
        await asyncio.sleep(30)


class SlowThread(Worker, name="machine.SlowThread", timeout=timedelta(seconds=0.2), max_attempts=1):
    def perform(self, job: Job) -> None:
        told["told to stop"] = False
        while not job.cancelled and not go.wait(0.01):
            pass
        told["told to stop"] = job.cancelled
        go.wait(20)


async def test_an_async_job_is_stopped_at_its_deadline(staffa: Staffa) -> None:
    async with staffa:
        failed = await one(staffa, Slow.new(), State.DISCARDED)
    assert failed.errors[0]["error"] == "machine.Slow timed out after 0.2 s"


async def test_a_thread_fails_at_its_deadline_and_keeps_its_slot_until_it_ends(url: str) -> None:
    staffa = quick(url, queues={"default": 1})
    async with staffa:
        failed = await one(staffa, SlowThread.new(), State.DISCARDED)
        assert failed.errors[0]["error"] == "machine.SlowThread timed out after 0.2 s"
        await eventually(lambda: told["told to stop"])
        waiting = await staffa.ainsert(Answer.new(do="nothing"))
        for _ in range(5):  # five polls of the queue
            await asyncio.sleep(0.2)
            assert await reached(staffa, waiting, State.AVAILABLE), "the thread still keeps the only slot"
        go.set()
        await finished(staffa, [waiting])
    staffa.close()


async def test_a_scheduled_job_starts_when_it_is_due_and_not_before(staffa: Staffa) -> None:
    starts: list[JobStarted] = []
    staffa.telemetry.attach(lambda event: starts.append(event) if isinstance(event, JobStarted) else None)
    async with staffa:
        stored = await staffa.ainsert(Answer.using(schedule_in=timedelta(seconds=0.5)).new(do="nothing"))
        assert stored.state == State.SCHEDULED
        [done] = await finished(staffa, [stored])
    assert done.attempted_at >= stored.scheduled_at


# Progress, cancelling, limits


async def test_progress_is_stored_and_visible_while_the_job_runs(staffa: Staffa) -> None:
    class Steps(Worker, name="machine.Steps"):
        def perform(self, job: Job) -> None:
            job.progress(3, 10, "three \0 of ten")
            go.wait(20)
            job.progress(10, 10)

    async with staffa:
        running = await one(staffa, Steps.using(meta={"tenant": "a"}).new(), State.EXECUTING)

        async def visible() -> bool:
            found = await staffa.aget(running.id)
            return found.meta == {
                "tenant": "a",
                "progress": {"current": 3, "total": 10, "note": "three  of ten"},
            }

        await eventually(visible)
        go.set()
        [done] = await finished(staffa, [running])
    assert done.meta["progress"] == {"current": 10, "total": 10, "note": None}


async def test_a_running_thread_sees_that_its_job_was_cancelled(staffa: Staffa) -> None:
    class Looking(Worker, name="machine.Looking"):
        def perform(self, job: Job) -> str:
            while not job.cancelled and not go.wait(0.01):
                pass
            told["saw"] = job.cancelled
            return "a result nobody wants"

    async with staffa:
        running = await one(staffa, Looking.new(), State.EXECUTING)
        await staffa.acancel(running.id)
        await eventually(lambda: "saw" in told)
        assert told["saw"]
        await eventually(lambda: not staffa.unstopped)
        found = await staffa.aget(running.id)
    assert found.state == State.CANCELLED, "whatever the worker returned afterwards"


async def test_a_job_cancelled_from_another_process_stops_here(url: str) -> None:
    staffa, elsewhere = quick(url), quick(url, run_queues=False)
    async with staffa:
        running = await one(staffa, Hooked.new(end="wait"), State.EXECUTING)
        await elsewhere.acancel(running.id)
        await eventually(lambda: "cancelled" in told)
    staffa.close()
    elsewhere.close()


async def test_a_queue_runs_no_more_than_its_limit_and_no_less(url: str) -> None:
    staffa = quick(url, queues={"default": 3, "other": 1})
    now = {"running": 0, "most": 0}

    class Count(Worker, name="machine.Count"):
        async def perform(self, job: Job) -> None:
            now["running"] += 1
            now["most"] = max(now["most"], now["running"])
            await asyncio.sleep(0.05)
            now["running"] -= 1

    jobs = await staffa.ainsert_all([Count.new() for _ in range(20)])
    async with staffa:
        await finished(staffa, jobs)
    assert now["most"] == 3
    staffa.close()


async def test_jobs_start_in_order_of_priority_then_time(url: str) -> None:
    staffa = quick(url, queues={"default": 1})
    order: list[int] = []

    class Note(Worker, name="machine.Note"):
        async def perform(self, job: Job) -> None:
            order.append(job.args["n"])

    jobs = await staffa.ainsert_all(
        [Note.using(priority=5).new(n=3), Note.using(priority=0).new(n=1), Note.using(priority=0).new(n=2)]
    )
    async with staffa:
        await finished(staffa, jobs)
    assert order == [1, 2, 3]
    staffa.close()


# Duties


class Urgent(Worker, name="machine.Urgent"):
    async def perform(self, job: Job) -> None:
        told["urgent"] = job


class Breeds(Worker, name="machine.Breeds"):
    """Leaves another one like itself, until something urgent has run: a backlog that never ends by itself."""

    async def perform(self, job: Job) -> None:
        told["bred"] = True
        if "urgent" not in told:
            await told["staffa"].ainsert(Breeds.using(priority=5).new())


async def test_an_urgent_job_does_not_wait_for_the_end_of_the_backlog(url: str) -> None:
    staffa = told["staffa"] = quick(url, queues={"default": 5})
    async with staffa:
        await staffa.ainsert_all([Breeds.using(priority=5).new() for _ in range(100)])
        await eventually(lambda: "bred" in told)
        [urgent] = await finished(staffa, [await staffa.ainsert(Urgent.new())])
        assert urgent.state is State.COMPLETED


async def test_an_urgent_job_starts_at_once_where_there_is_room(url: str) -> None:
    """The queue is told of it, and does not look by itself."""
    async with quick(url, poll=timedelta(minutes=5)) as staffa:
        await finished(staffa, await staffa.ainsert_all([Answer.using(priority=5).new(do="it")] * 25))
        await finished(staffa, [await staffa.ainsert(Urgent.new())])


async def test_one_node_leads_and_another_takes_over_when_it_stops(url: str) -> None:
    first, second = quick(url), quick(url)
    changes: list[LeaderChanged] = []
    second.telemetry.attach(lambda event: changes.append(event) if isinstance(event, LeaderChanged) else None)
    second_peer_period = timedelta(seconds=0.3)
    async with first:
        await eventually(lambda: first.leads)
        async with second:
            second._parts.peer._period = second_peer_period
            assert not second.leads
            await first.stop()
            await eventually(lambda: second.leads)
            assert not first.leads
    assert [change.leads for change in changes] == [True, False]
    first.close()
    second.close()


async def test_finished_jobs_are_pruned_by_the_age_of_their_state(url: str) -> None:
    pruner = Pruner(
        interval=timedelta(seconds=0.1), completed=timedelta(0), discarded=timedelta(days=7), cancelled=None
    )
    staffa = quick(url, plugins=[pruner, Lifeline(interval=timedelta(seconds=0.1))])
    pruned: list[PluginTicked] = []
    staffa.telemetry.attach(
        lambda event: (
            pruned.append(event) if isinstance(event, PluginTicked) and event.plugin == "Pruner" else None
        )
    )
    async with staffa:
        kept = [
            await one(staffa, Answer.new(do="cancel"), State.CANCELLED),
            await one(staffa, Answer.using(max_attempts=1).new(do="raise"), State.DISCARDED),
        ]
        gone = await staffa.ainsert(Answer.new(do="nothing"))
        await eventually(lambda: is_gone(staffa, gone))
        await eventually(lambda: any(event.report.get("completed") for event in pruned))
    assert [found.id for found in await staffa.ajobs()] == [each.id for each in reversed(kept)]
    staffa.close()


class Once(Worker, name="machine.Once", unique=True):
    async def perform(self, job: Job) -> None: ...


async def test_keys_of_vanished_jobs_are_pruned_even_where_jobs_are_kept(url: str) -> None:
    staffa = quick(url, queues={}, plugins=[Pruner(interval=timedelta(seconds=0.1), max_age=None, limit=2)])
    reports: list[dict[str, Any]] = []
    staffa.telemetry.attach(
        lambda event: (
            reports.append(event.report)
            if isinstance(event, PluginTicked) and event.plugin == "Pruner"
            else None
        )
    )
    async with staffa:
        stored = await staffa.ainsert_all([Once.new(n=n) for n in range(9)])
        await staffa.adelete(*stored[:7])
        await eventually(lambda: sum(report.get("keys", 0) for report in reports) == 7)
        answers = await staffa.ainsert_all([Once.new(n=n) for n in range(9)])
    assert [answer.conflict for answer in answers] == [False] * 7 + [True] * 2
    staffa.close()


async def test_a_job_that_moves_to_another_queue_wakes_that_one(url: str) -> None:
    staffa = quick(url, queues={"default": 1}, poll=timedelta(seconds=60))
    async with staffa:
        stored = await staffa.ainsert(Once.using(queue="elsewhere", unique=Unique(fields=["worker"])).new())
        moved = await staffa.ainsert(Once.using(unique=Unique(fields=["worker"]), replace=["queue"]).new())
        assert (moved.id, moved.queue, moved.conflict) == (stored.id, "default", True)
        await finished(staffa, [stored])
    staffa.close()


async def is_gone(staffa: Staffa, stored: Job) -> bool:
    return await staffa.aget(stored.id or 0) is None


async def test_telemetry_tells_of_every_job_with_its_times(staffa: Staffa) -> None:
    stops: list[JobStopped] = []
    staffa.telemetry.attach(lambda event: stops.append(event) if isinstance(event, JobStopped) else None)
    async with staffa:
        await one(staffa, Answer.new(do="raise"), State.RETRYABLE)
    [stop] = stops
    assert stop.job.state == State.RETRYABLE
    assert isinstance(stop.error, ValueError)
    assert stop.took > timedelta(0)
    assert stop.waited >= timedelta(0)


async def test_a_blocked_event_loop_is_reported_with_the_stacks_of_all_threads(url: str) -> None:
    class Culprit(Worker, name="machine.Culprit"):
        async def perform(self, job: Job) -> None:
            time.sleep(1)

    staffa = quick(url, stuck_after=timedelta(seconds=0.4))
    reports: list[LoopStuck] = []
    staffa.telemetry.attach(lambda event: reports.append(event) if isinstance(event, LoopStuck) else None)
    async with staffa:
        await one(staffa, Culprit.new(), State.COMPLETED)
    [report] = reports
    assert "time.sleep(1)" in report.stacks
    assert report.silent >= timedelta(seconds=0.4)
    staffa.close()


async def test_times_come_from_the_database(staffa: Staffa, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose own clock is wrong by a year writes the right times all the same."""
    if staffa.url.startswith("sqlite"):
        pytest.skip("SQLite has no clock but this machine's")
    wrong: Callable[[], datetime] = lambda: datetime(2001, 1, 1, tzinfo=UTC)  # noqa: E731 - a clock
    monkeypatch.setattr("staffa._executor.utc_now", wrong)
    monkeypatch.setattr("staffa._clock.utc_now", wrong)
    async with staffa:
        failed = await one(staffa, Answer.new(do="raise"), State.RETRYABLE)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(failed.errors[0]["at"])) < timedelta(minutes=1)


async def test_each_failed_attempt_is_one_line_in_the_log(
    staffa: Staffa, caplog: pytest.LogCaptureFixture
) -> None:
    async with staffa:
        failed = await one(staffa, Answer.new(do="raise"), State.RETRYABLE)
        await one(staffa, Answer.new(do="nothing"), State.COMPLETED)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("job ")]
    assert lines == [f"job {failed.id} (machine.Answer) is retryable, attempt 1 of 3: ValueError: kaboom"]


# What stays in memory


@dataclass
class Held:
    """Arguments that tell whether somebody still has them."""

    do: str


def do_what_is_said(job: Job[Held]) -> None:
    told[job.args.do] = weakref.ref(job.args)
    if job.args.do == "fail":
        raise RuntimeError("no")
    if job.args.do == "linger":
        go.wait(60)


class HeldInLoop(Worker, name="machine.HeldInLoop", args=Held, max_attempts=1):
    async def perform(self, job: Job[Held]) -> None:
        do_what_is_said(job)


class HeldInThread(
    Worker, name="machine.HeldInThread", args=Held, max_attempts=1, timeout=timedelta(seconds=0.2)
):
    def perform(self, job: Job[Held]) -> None:
        do_what_is_said(job)


@pytest.mark.parametrize(
    ("worker", "do"),
    [
        (HeldInLoop, "complete"),
        (HeldInLoop, "fail"),
        (HeldInThread, "complete"),
        (HeldInThread, "fail"),
        (HeldInThread, "linger"),
    ],
)
async def test_nothing_of_a_job_stays_in_memory(staffa: Staffa, worker: type[Worker], do: str):
    async with staffa:
        stored = await worker.using(instance=staffa).aenqueue(do=do)
        await finished(staffa, [stored])
        go.set()
        held = told[do]

        def gone() -> bool:
            gc.collect()
            return held() is None

        await eventually(gone)
