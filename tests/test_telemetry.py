"""Events are types; whoever listens hears those of one instance, and can harm nobody."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from contract import finals
from nodes import SILENCE, OtherNode, eventually, finished, quick
from staffa import Job, Pruner, Staffa, Stager, State, Worker
from staffa._job import replace
from staffa.errors import InvalidJob, StaffaError
from staffa.telemetry import (
    ElectionFailed,
    EngineCalled,
    Event,
    InstanceStarted,
    InstanceStopped,
    JobStarted,
    JobStopped,
    LeaderChanged,
    NotificationMalformed,
    NotifierListening,
    NotifierLost,
    PluginFailed,
    PluginStarted,
    PluginTicked,
    QueuePaused,
    Telemetry,
)

ZERO = timedelta(0)
INTERVAL = timedelta(seconds=0.1)


class Told(Worker, name="telemetry.Told", queue="default"):
    def perform(self, job: Job) -> None: ...


@pytest.fixture
async def staffa(url: str) -> AsyncIterator[Staffa]:
    instance = quick(url)
    yield instance
    await instance.stop()
    instance.close()


def gathered(telemetry: Telemetry, *types: type[Event]) -> list[Any]:
    """Gather events of these types."""
    events: list[Any] = []
    telemetry.attach(events.append, *types or (Event,))
    return events


# Listening


def test_a_listener_hears_the_types_it_asked_for_and_no_others():
    telemetry = Telemetry()
    some, all_of_them = gathered(telemetry, QueuePaused, LeaderChanged), gathered(telemetry)
    paused, listening = QueuePaused("a"), NotifierListening()

    telemetry.emit(paused)
    telemetry.emit(listening)

    assert (some, all_of_them) == ([paused], [paused, listening])


def test_types_that_nobody_asked_for_are_not_heard():
    telemetry = Telemetry()
    assert not telemetry.hears(JobStarted)

    detach = telemetry.attach(print, JobStopped)
    assert (telemetry.hears(JobStarted), telemetry.hears(JobStopped)) == (False, True)

    detach()
    assert not telemetry.hears(JobStopped)


def test_a_listener_attached_twice_hears_twice_and_is_detached_once_each():
    telemetry, events = Telemetry(), []
    first, second = telemetry.attach(events.append), telemetry.attach(events.append)

    telemetry.emit(QueuePaused("both"))
    first()
    first()
    telemetry.emit(QueuePaused("one"))
    second()
    telemetry.emit(QueuePaused("none"))

    assert [event.queue for event in events] == ["both", "both", "one"]


@pytest.mark.parametrize("kind", [int, "JobStopped", JobStopped | JobStarted, None])
def test_what_is_no_type_of_events_is_refused_by_name(kind):
    telemetry = Telemetry()
    with pytest.raises(TypeError, match="is no type of events"):
        telemetry.attach(print, kind)
    assert not telemetry.hears(JobStopped)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="cannot be called"):
        Telemetry().attach("listener")


def test_listeners_come_and_go_in_many_threads_while_events_are_told():
    telemetry, lasting = Telemetry(), []
    telemetry.attach(lasting.append, QueuePaused)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            telemetry.attach(lambda _: None, QueuePaused)()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2_000):
        telemetry.emit(QueuePaused(str(number)))
    stop.set()
    for thread in threads:
        thread.join()

    assert [event.queue for event in lasting] == [str(number) for number in range(2_000)]
    left = Telemetry.attach(telemetry, lambda _: None, QueuePaused)
    left()
    assert len(telemetry._audience.seats) == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError, GeneratorExit])
async def test_whatever_a_listener_raises_jobs_run_and_others_hear(staffa, caplog, error):
    def bad(_: Event) -> None:
        raise error("not today")

    staffa.telemetry.attach(bad)
    stops = gathered(staffa.telemetry, JobStopped)
    async with staffa:
        await finished(staffa, [await staffa.ainsert(Told.new())])

    assert len(stops) == 1
    assert "a telemetry listener failed on JobStopped" in caplog.text


async def test_a_slow_listener_makes_no_producer_look_dead(url):
    """Heartbeats have a thread of their own, and no listener is called on it."""
    slow, other = quick(url), quick(url, queues={"other": 1})
    reports, beats = gathered(other.telemetry, PluginTicked), []

    def hear(event: EngineCalled) -> None:
        beats.append(event)
        time.sleep(2 * SILENCE.total_seconds() if event.word == "beat" and len(beats) < 100 else 0)

    with OtherNode(slow):
        async with other:
            await eventually(lambda: any(tick.plugin == "Lifeline" for tick in reports))
            detach = slow.telemetry.attach(hear, EngineCalled)
            await eventually(lambda: sum(event.word == "beat" for event in beats) >= 2)
            detach()

    assert [tick.report for tick in reports if tick.report.get("expired")] == []
    other.close()


# Instances


async def test_the_life_of_an_instance_is_told(staffa):
    events = gathered(staffa.telemetry, InstanceStarted, InstanceStopped)
    async with staffa:
        assert events == [InstanceStarted({"default": 10})]
    assert isinstance(events[1], InstanceStopped)
    assert events[1].took > ZERO
    assert (staffa.telemetry.instance, staffa.telemetry.node) == (staffa.name, staffa.node)


async def test_what_never_started_tells_of_no_end(staffa):
    events = gathered(staffa.telemetry, InstanceStarted, InstanceStopped)
    staffa.modules = ("there_is_no_such_module",)
    with pytest.raises(StaffaError):
        await staffa.start()
    await staffa.stop()
    assert events == []


# Words of the engine


async def test_every_word_of_an_engine_is_told_with_its_time_and_its_jobs(make):
    staffa = make(run_queues=False)
    calls = gathered(staffa.telemetry, EngineCalled)

    stored = await staffa.ainsert_all([Told.new(), Told.new()])
    await asyncio.to_thread(staffa.cancel, *(job.id for job in stored))
    await staffa.ajobs()
    await staffa.engine.stage(10)
    await staffa.engine.prune(finals(), 10)
    await staffa.engine.lead("staffa:test", "me", timedelta(seconds=1))

    assert [(call.word, call.given, call.answered, call.error) for call in calls] == [
        ("insert", 2, 2, None),
        ("cancel", 0, 2, None),
        ("jobs", 0, 2, None),
        ("stage", 0, 0, None),
        ("prune", 0, 0, None),
        ("lead", 0, 0, None),
    ]
    assert all(call.took > ZERO for call in calls)


async def test_queues_tell_of_their_exchanges_and_their_hearts_of_their_beats(staffa):
    calls = gathered(staffa.telemetry, EngineCalled)
    async with staffa:
        await finished(staffa, await staffa.ainsert_all([Told.new(), Told.new()]))
        await eventually(lambda: any(call.word == "beat" and call.answered for call in calls))

    exchanges = [call for call in calls if call.word == "exchange"]
    assert sum(call.given for call in exchanges) == 2
    assert sum(call.answered for call in exchanges) == 2
    assert {"register", "exchange", "beat", "lead", "retire", "resign"} <= {call.word for call in calls}


async def test_a_word_that_fails_is_told_with_its_error(url):
    wrong = (
        url.replace("staffa_shared", "nowhere")
        if url.startswith("postgres")
        else "sqlite:////no/such/folder/x"
    )
    staffa = Staffa(wrong, run_queues=False)
    calls = gathered(staffa.telemetry, EngineCalled)

    with pytest.raises(StaffaError) as refused:
        await staffa.acounts()

    assert [(call.word, call.error) for call in calls] == [("counts", refused.value)]
    staffa.close()


async def test_words_in_a_transaction_of_the_caller_are_told(make, url):
    staffa = make(run_queues=False)
    await staffa.amigrate()
    calls = gathered(staffa.telemetry, EngineCalled)
    file = url.removeprefix("sqlite:///")
    with closing(psycopg.connect(url) if url.startswith("postgres") else sqlite3.connect(file)) as connection:
        Told.using(instance=staffa, connection=connection).enqueue()
        connection.commit()
    assert [(call.word, call.answered) for call in calls] == [("insert", 1)]


async def test_what_is_refused_before_the_engine_is_called_is_no_call(make):
    staffa = make(run_queues=False)
    calls = gathered(staffa.telemetry, EngineCalled)
    with pytest.raises(InvalidJob):
        await staffa.ainsert(Told.using(priority=77).new())
    assert calls == []


def test_inline_engines_tell_too():
    staffa = Staffa(testing="inline")
    calls = gathered(staffa.telemetry, EngineCalled)
    staffa.insert_all([Told.new(), Told.new()])
    assert [(call.word, call.given, call.answered) for call in calls] == [("insert", 2, 2)]
    staffa.close()


# Plugins


class Broken:
    interval, leader_only = INTERVAL, False

    async def tick(self, engine: Any) -> dict[str, Any]:
        raise ValueError("broken")


async def test_plugins_tell_that_they_begin_what_they_did_and_what_failed(url):
    staffa = quick(url, plugins=[Broken(), Pruner(interval=INTERVAL)])
    begun, ticks, failures = (
        gathered(staffa.telemetry, kind) for kind in (PluginStarted, PluginTicked, PluginFailed)
    )
    async with staffa:
        await eventually(lambda: failures and {"Pruner", "Stager"} <= {tick.plugin for tick in ticks})

    assert {"Broken", "Pruner", "Lifeline", "Stager"} <= {event.plugin for event in begun}
    assert (failures[0].plugin, str(failures[0].error)) == ("Broken", "broken")
    assert all(event.took >= ZERO for event in [*ticks, *failures])
    staffa.close()


async def test_the_stager_counts_the_jobs_it_staged_and_not_their_queues(make):
    staffa = make(run_queues=False)
    due = timedelta(seconds=-1)
    jobs = [Told.using(queue=queue, schedule_in=due).new() for queue in ("a", "a", "a", "b")]
    await staffa.ainsert_all([replace(job, state=State.SCHEDULED) for job in jobs])

    report = await Stager().tick(staffa.engine)

    assert report == {"staged": 4, "queues": {"a": 3, "b": 1}}
    assert (await Stager().tick(staffa.engine))["staged"] == 0


# Leading


async def test_who_leads_is_told_with_the_lease_and_the_name_in_it(staffa):
    changes = gathered(staffa.telemetry, LeaderChanged)
    async with staffa:
        await eventually(lambda: staffa.leads)
        holder = await staffa.engine.leader("staffa:Staffa")
    assert changes == [
        LeaderChanged(leads=True, lease="staffa:Staffa", member=holder),
        LeaderChanged(leads=False, lease="staffa:Staffa", member=holder),
    ]


async def test_an_election_that_fails_is_told(url, monkeypatch):
    staffa = quick(url)
    failures = gathered(staffa.telemetry, ElectionFailed)

    async def lead(*_: Any, **__: Any) -> bool:
        raise ValueError("no election today")

    monkeypatch.setattr(staffa.engine, "lead", lead, raising=False)
    async with staffa:
        await eventually(lambda: failures)
    assert (failures[0].lease, str(failures[0].error)) == ("staffa:Staffa", "no election today")
    staffa.close()


# Notifications


async def test_it_is_told_when_notifications_are_heard(staffa):
    events = gathered(staffa.telemetry, NotifierListening)
    async with staffa:
        await eventually(lambda: events)
    assert events == [NotifierListening()]


async def test_a_lost_and_a_malformed_notification_are_told(postgres_url):
    staffa = quick(postgres_url)
    events = gathered(staffa.telemetry, NotifierListening, NotifierLost, NotificationMalformed)
    async with staffa:
        await eventually(lambda: NotifierListening() in events)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("""select pg_notify('public.oban_insert', '{"queue": ')""")
            await eventually(lambda: len(events) == 2)
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                """ where datname = current_database() and query like 'listen "public.oban%'"""
            )
        await eventually(lambda: events[-1] == NotifierListening() and len(events) == 4)
    assert events[1] == NotificationMalformed("public.oban_insert", '{"queue": ')
    assert isinstance(events[2], NotifierLost)
    staffa.close()
