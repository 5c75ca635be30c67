"""A plugin ticks at its interval, sooner if it asked for that or somebody wakes it, and only where it may."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from nodes import eventually, finished, quick
from staffa import Job, Snooze, Staffa, Stager, State, Worker
from staffa._repeat import Repeated
from staffa.plugin import Report
from staffa.telemetry import Telemetry

LONG = timedelta(hours=1)
SHORT = timedelta(seconds=0.05)


class Peer:
    """A node that leads when it is told to."""

    leads = True


class Plugin:
    """Counts its ticks, and answers each as it was told."""

    interval, leader_only = LONG, True

    def __init__(self, *answers: Any) -> None:
        self.answers, self.ticks = list(answers), 0

    async def tick(self, engine: Any) -> dict[str, Any]:
        self.ticks += 1
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def repeated(plugin: Plugin, peer: Any = None) -> AsyncIterator[Repeated]:
    runner = Repeated(plugin, engine=None, peer=peer or Peer(), telemetry=Telemetry())  # type: ignore[arg-type]
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_plugin_that_asks_for_it_ticks_again_before_its_interval_is_over():
    plugin = Plugin(Report(again_in=SHORT), Report(again_in=timedelta(0)), Report())
    async with repeated(plugin):
        await eventually(lambda: plugin.ticks == 3)


async def test_a_plugin_never_waits_longer_than_its_interval():
    plugin = Plugin(Report(again_in=LONG))
    plugin.interval = SHORT
    async with repeated(plugin):
        await eventually(lambda: plugin.ticks >= 3)


async def test_who_is_woken_ticks_after_a_failure_too():
    plugin = Plugin({}, ValueError("kaboom"))
    async with repeated(plugin) as runner:
        for ticks in (1, 2, 3):
            await eventually(lambda ticks=ticks: plugin.ticks == ticks)
            runner.wake()


async def test_one_tick_is_for_all_who_wake_it_at_once():
    plugin = Plugin()
    async with repeated(plugin) as runner:
        await eventually(lambda: plugin.ticks == 1)
        for _ in range(100):
            runner.wake()
        await eventually(lambda: plugin.ticks == 2)
        runner.wake()
        await eventually(lambda: plugin.ticks == 3)


async def test_who_is_woken_where_another_node_leads_does_nothing():
    plugin, peer = Plugin(), Peer()
    peer.leads = False
    async with repeated(plugin, peer) as runner:
        runner.wake()
        await eventually(lambda: not runner._woken.is_set())
        assert plugin.ticks == 0
        peer.leads = True
        runner.wake()
        await eventually(lambda: plugin.ticks == 1)


# Stagers that would look once an hour


class Later(Worker, name="repeat.Later"):
    def perform(self, job: Job) -> Snooze | None:
        return Snooze(SHORT) if job.args.get("snooze") and "snoozed" not in job.meta else None


@pytest.fixture
def patient(url: str) -> Any:
    made: list[Staffa] = []

    def make_one(**options: Any) -> Staffa:
        made.append(quick(url, **{"plugins": [Stager(interval=LONG)], "poll": LONG, **options}))
        return made[-1]

    yield make_one
    for each in made:
        each.close()


async def test_scheduled_jobs_are_staged_when_they_are_due_whoever_stored_them(
    patient: Callable[..., Staffa],
):
    worker, other = patient(), patient(run_queues=False)
    async with worker, other:
        await eventually(lambda: worker.leads)
        jobs = [
            await instance.ainsert(Later.using(schedule_in=number * SHORT).new())
            for number, instance in enumerate((other, worker, other, worker), start=1)
        ]
        assert {job.state for job in await finished(worker, jobs)} == {State.COMPLETED}


async def test_snoozed_jobs_are_staged_when_they_are_due(patient: Callable[..., Staffa]):
    async with patient() as worker:
        [done] = await finished(worker, [await worker.ainsert(Later.new(snooze=True))])
        assert (done.state, done.meta) == (State.COMPLETED, {"snoozed": 1})


async def test_more_jobs_than_are_staged_at_once_are_staged_one_after_the_other(
    patient: Callable[..., Staffa],
):
    async with patient(plugins=[Stager(interval=LONG, limit=3)]) as worker:
        jobs = await worker.ainsert_all([Later.using(schedule_in=SHORT).new() for _ in range(10)])
        assert {job.state for job in await finished(worker, jobs)} == {State.COMPLETED}


async def test_what_was_due_before_a_node_led_is_staged_when_it_leads(patient: Callable[..., Staffa]):
    stored = await patient(run_queues=False).ainsert(Later.using(schedule_in=SHORT).new())
    async with patient() as worker:
        [done] = await finished(worker, [stored])
        assert done.state is State.COMPLETED
