"""Queues are paused, resumed, scaled, started and stopped while they run, on one node or on all, by us or by Elixir."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from nodes import BEAT, OtherNode, eventually, finished, quick
from staffa import Job, Staffa, Stager, State, Worker
from staffa.engine import Exchanged
from staffa.errors import ConfigError, DatabaseUnavailable, UnknownNode, UnknownQueue
from staffa.notifier import SIGNAL
from staffa.telemetry import (
    EngineCalled,
    Event,
    QueuePaused,
    QueueResumed,
    QueueScaled,
    QueueStarted,
    QueueStopped,
)

LONG = timedelta(minutes=5)

go = threading.Event()
began: list[int] = []


@pytest.fixture(autouse=True)
def nothing_began() -> None:
    go.clear()
    began.clear()


class Waits(Worker, name="queues.Waits"):
    async def perform(self, job: Job) -> None:
        began.append(job.id or 0)
        while not go.is_set():
            await asyncio.sleep(0.01)


class WaitsInThread(Worker, name="queues.WaitsInThread"):
    def perform(self, job: Job) -> None:
        began.append(job.id or 0)
        go.wait(20)


@pytest.fixture
def node(url: str) -> Iterator[Callable[..., Staffa]]:
    """Make nodes that learn of what is said by hints alone: their heartbeats and looks come far too late."""
    made: list[Staffa] = []

    def make(node: str = "n1", **options: Any) -> Staffa:
        given = {"heartbeat": LONG, "poll": LONG, "plugins": [Stager(interval=timedelta(seconds=0.1))]}
        made.append(quick(url, node=node, **{**given, **options}))
        noting_that_it_listens(made[-1])
        return made[-1]

    yield make
    for instance in made:
        instance.close()


def noting_that_it_listens(staffa: Any) -> None:
    hear, staffa.heard = staffa._heard, []

    def heard(channel: str, payload: Any) -> None:
        staffa.heard.append(channel)
        hear(channel, payload)

    staffa._heard = heard


def listens(url: str, **options: Any) -> Staffa:
    staffa = quick(url, **options)
    noting_that_it_listens(staffa)
    return staffa


@asynccontextmanager
async def listening(*nodes: Any) -> AsyncIterator[None]:
    """Run nodes, the first one on this loop, and wait until all of them hear what is told."""
    here, *others = nodes
    here.heard.clear()
    with ExitStack() as stack:
        for other in others:
            stack.enter_context(OtherNode(other))
        async with here:
            await eventually(lambda: all(each.heard for each in nodes))
            yield


async def shown(staffa: Staffa, queue: str = "default", **wanted: Any) -> None:
    """Wait until every producer of a queue is shown with these values."""

    async def is_so() -> bool:
        found = [each for each in await staffa.acheck_all_queues() if each.queue == queue]
        return bool(found) and all(getattr(each, key) == wanted[key] for each in found for key in wanted)

    await eventually(is_so, f"{queue} was never {wanted}")


async def state(staffa: Staffa, job: Job) -> State:
    found = await staffa.aget(job.id or 0)
    assert found is not None
    return found.state


def tell_as_elixir(url: str, payload: dict[str, Any]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select pg_notify('public.oban_signal', %s)", [json.dumps(payload)])


# Pausing


async def test_a_paused_queue_takes_nothing_and_what_runs_goes_on(node: Callable[..., Staffa]):
    staffa = node()
    async with listening(staffa):
        running = await staffa.ainsert(Waits.new())
        await eventually(lambda: began == [running.id])
        await staffa.apause_queue("default")
        await shown(staffa, paused=True, running=(running.id,))
        waiting = await staffa.ainsert(Waits.new())
        go.set()
        [done] = await finished(staffa, [running])
        assert done.state is State.COMPLETED
        await asyncio.sleep(0.1)  # in which it would have been taken, as it was told of
        assert await state(staffa, waiting) is State.AVAILABLE

        await staffa.aresume_queue("default")
        await finished(staffa, [waiting])
        await shown(staffa, paused=False)


async def test_a_pause_said_elsewhere_is_heard_by_every_node_at_once(node: Callable[..., Staffa]):
    one, other, elsewhere = node("n1"), node("n2"), node("cli", run_queues=False)
    async with listening(one, other):
        await elsewhere.apause_queue("default")
        await shown(elsewhere, paused=True)
        assert {each.node for each in await elsewhere.acheck_queue("default")} == {"n1", "n2"}
        waiting = await elsewhere.ainsert_all([Waits.new() for _ in range(3)])
        await elsewhere.aresume_queue("default", node="n2")
        go.set()
        for each in await finished(elsewhere, waiting):
            assert each.attempted_by[0] == "n2"


async def test_one_node_is_paused_and_the_others_are_not(node: Callable[..., Staffa]):
    one, other = node("n1"), node("n2")
    go.set()
    async with listening(one, other):
        await one.apause_queue("default", node="n2")
        await eventually(lambda: other.takes_from == frozenset())
        assert one.takes_from == {"default"}
        for each in await finished(one, await one.ainsert_all([Waits.new() for _ in range(5)])):
            assert each.attempted_by[0] == "n1"


async def nodes_of(staffa: Staffa, count: int) -> bool:
    return len(await staffa.acheck_queue("default")) == count


async def test_a_pause_outlives_restarts_and_new_nodes_start_paused(node: Callable[..., Staffa]):
    first = node("n1")
    async with first:
        await first.apause_queue("default")
    waiting = await first.ainsert(Waits.new())
    again, new = node("n1"), node("n2")
    go.set()
    async with listening(again, new):
        await eventually(lambda: nodes_of(again, 2))
        await shown(again, paused=True)
        assert await state(again, waiting) is State.AVAILABLE
        await new.aresume_queue("default")
        await finished(again, [waiting])
    async with node("n3") as third:
        await shown(third, paused=False)


async def test_all_queues_pause_those_that_are_yet_to_come_too(node: Callable[..., Staffa]):
    staffa = node(queues={"mail": 1, "reports": 1})
    async with listening(staffa):
        await staffa.apause_all_queues()
        await shown(staffa, "mail", paused=True)
        await shown(staffa, "reports", paused=True)
        await staffa.astart_queue("late", 1)
        await shown(staffa, "late", paused=True)
        await staffa.aresume_queue("late")
        await shown(staffa, "late", paused=False)
        assert staffa.takes_from == {"late"}
        await staffa.aresume_all_queues()
        await shown(staffa, "mail", paused=False)
        await shown(staffa, "reports", paused=False)


async def test_a_pause_of_which_no_hint_came_is_obeyed_within_a_heartbeat(url: str):
    deaf, elsewhere = quick(url), quick(url, run_queues=False)
    await elsewhere.amigrate()
    deaf._heard = lambda *_: None  # type: ignore[method-assign]
    async with deaf:
        await elsewhere.apause_queue("default")
        await shown(elsewhere, paused=True)
        await elsewhere.aresume_queue("default")
        await shown(elsewhere, paused=False)
    deaf.close()
    elsewhere.close()


async def test_a_queue_at_rest_exchanges_nothing_until_there_are_jobs(url: str):
    staffa, words = listens(url), []
    staffa.telemetry.attach(lambda event: words.append(event.word), EngineCalled)
    go.set()
    async with listening(staffa):
        await eventually(lambda: words.count("reconcile") > 2)
        words.clear()
        await eventually(lambda: words.count("reconcile") > 2 and "ready" in words)
        assert "exchange" not in words
        await finished(staffa, [await staffa.ainsert(Waits.new())])
        assert "exchange" in words
    staffa.close()


async def test_a_word_that_comes_late_does_not_undo_a_later_one(node: Callable[..., Staffa]):
    staffa = node()
    async with listening(staffa):
        await staffa.apause_queue("default")
        [pause] = await staffa.engine.pauses()
        await staffa.aresume_queue("default")
        await shown(staffa, paused=False)
        late = {"action": "pause", "ident": "any", "queue": "default", "number": pause.number}
        await staffa.engine.tell(SIGNAL, [late])
        await staffa.engine.tell(SIGNAL, [{**late, "action": "scale", "limit": 3}])
        await shown(staffa, limit=3, paused=False)


async def test_a_number_that_nobody_said_deafens_no_queue(url: str):
    staffa = listens(url)
    paused: list[Event] = []
    staffa.telemetry.attach(paused.append, QueuePaused)
    async with listening(staffa):
        await staffa.aresume_queue("default")
        await shown(staffa, paused=False)
        forged = {"action": "pause", "ident": "any", "queue": "default", "number": 2**62}
        await staffa.engine.tell(SIGNAL, [forged])
        await eventually(lambda: paused)
        await shown(staffa, paused=False)
        await staffa.apause_queue("default")
        await shown(staffa, paused=True)
    staffa.close()


async def test_jobs_that_were_being_taken_when_the_pause_came_run(
    node: Callable[..., Staffa], monkeypatch: pytest.MonkeyPatch
):
    staffa = node()
    answered, answer = asyncio.Event(), asyncio.Event()
    exchange = staffa.engine.exchange

    async def slow(*args: Any, **named: Any) -> Exchanged:
        exchanged = await exchange(*args, **named)
        if exchanged.taken:
            answered.set()
            await answer.wait()
        return exchanged

    monkeypatch.setattr(staffa.engine, "exchange", slow)
    async with listening(staffa):
        taken = await staffa.ainsert(Waits.new())
        await answered.wait()
        await staffa.apause_queue("default")
        await eventually(lambda: not staffa.takes_from)
        answer.set()
        go.set()
        [done] = await finished(staffa, [taken])
        assert done.state is State.COMPLETED


async def test_a_pause_that_comes_while_the_database_is_away_is_obeyed_when_it_is_back(
    node: Callable[..., Staffa], monkeypatch: pytest.MonkeyPatch
):
    staffa, elsewhere = node(), node("cli", run_queues=False)
    away, refused, looked = asyncio.Event(), asyncio.Event(), asyncio.Event()
    exchange = staffa.engine.exchange

    async def unreachable(*args: Any, **named: Any) -> Exchanged:
        if away.is_set():
            refused.set()
            raise DatabaseUnavailable("gone")
        exchanged = await exchange(*args, **named)
        looked.set()
        return exchanged

    monkeypatch.setattr(staffa.engine, "exchange", unreachable)
    async with listening(staffa):
        await looked.wait()
        away.set()
        waiting = await elsewhere.ainsert(Waits.new())
        await refused.wait()
        await elsewhere.apause_queue("default")
        await eventually(lambda: not staffa.takes_from)
        away.clear()
        await shown(elsewhere, paused=True)
        assert await state(elsewhere, waiting) is State.AVAILABLE
        go.set()
        await elsewhere.aresume_queue("default")
        await finished(elsewhere, [waiting])


# Limits


@pytest.mark.parametrize("worker", [Waits, WaitsInThread])
async def test_a_queue_is_scaled_up_and_down_while_it_runs(node: Callable[..., Staffa], worker: Any):
    staffa, elsewhere = node(queues={"default": 1}), node("cli", run_queues=False)
    async with listening(staffa):
        jobs = await staffa.ainsert_all([worker.new() for _ in range(6)])
        await eventually(lambda: len(began) == 1)
        await elsewhere.ascale_queue("default", 5)
        await eventually(lambda: len(began) == 5)
        await shown(elsewhere, limit=5)

        await elsewhere.ascale_queue("default", 2)
        await shown(elsewhere, limit=2)
        [check] = await elsewhere.acheck_queue("default")
        assert check.running == tuple(each.id for each in jobs[:5]), "none of them is stopped"
        assert check.started_at is not None
        go.set()
        await finished(staffa, jobs)
        assert len(began) == 6


async def test_after_scaling_down_no_job_starts_before_fewer_run_than_the_limit(
    node: Callable[..., Staffa],
):
    ends: dict[int, asyncio.Event] = {}

    class Ends(Worker, name="queues.Ends"):
        async def perform(self, job: Job) -> None:
            ends[job.args["n"]] = asyncio.Event()
            await ends[job.args["n"]].wait()

    staffa = node(queues={"default": 3})
    async with listening(staffa):
        jobs = await staffa.ainsert_all([Ends.new(n=n) for n in range(4)])
        await eventually(lambda: len(ends) == 3)
        await staffa.ascale_queue("default", 1)
        await shown(staffa, limit=1)
        for n in range(2):
            ends[n].set()
            await finished(staffa, [jobs[n]])
            assert len(ends) == 3
        ends[2].set()
        await eventually(lambda: len(ends) == 4)
        ends[3].set()
        await finished(staffa, jobs)


async def test_a_scaled_limit_lasts_until_the_node_restarts(node: Callable[..., Staffa]):
    staffa = node(queues={"default": 4})
    async with listening(staffa):
        await staffa.ascale_queue("default", 9, node="n1")
        await shown(staffa, limit=9)
    async with listening(staffa):
        await shown(staffa, limit=4)


# Starting and stopping


async def test_a_queue_is_started_on_every_node_or_on_one(node: Callable[..., Staffa]):
    one, other = node("n1", queues={"a": 1}), node("n2", queues={"b": 1})
    async with listening(one, other):
        await eventually(lambda: one._queues.living() and other._queues.living())
        await one.astart_queue("extra", 3)
        await eventually(lambda: "extra" in one.takes_from and "extra" in other.takes_from)
        await one.astart_queue("single", 2, node="n2")
        await shown(one, "single", node="n2", limit=2)
        assert "single" not in one.takes_from
        go.set()
        await finished(one, await one.ainsert_all([Waits.using(queue="extra").new() for _ in range(4)]))


async def test_a_queue_may_be_started_paused(node: Callable[..., Staffa]):
    staffa = node()
    async with listening(staffa):
        await eventually(lambda: staffa.takes_from == {"default"})
        await staffa.astart_queue("extra", 3, paused=True)
        await shown(staffa, "extra", paused=True, limit=3)
        assert staffa.takes_from == {"default"}


async def test_a_stopped_queue_lets_its_jobs_end_and_takes_no_more(node: Callable[..., Staffa]):
    staffa, elsewhere = node(queues={"default": 1, "other": 1}), node("cli", run_queues=False)
    async with listening(staffa):
        running = await staffa.ainsert(Waits.new())
        await eventually(lambda: began)
        waiting = await staffa.ainsert(Waits.new())
        await elsewhere.astop_queue("default")
        await eventually(lambda: staffa.takes_from == {"other"})
        assert staffa.unstopped == 1
        go.set()
        [done] = await finished(staffa, [running])
        assert done.state is State.COMPLETED
        await eventually(lambda: staffa._queues._leaving == [])
        assert await state(staffa, waiting) is State.AVAILABLE
        assert await elsewhere.acheck_queue("default") == []

        await elsewhere.astart_queue("default", 1)
        await finished(staffa, [waiting])


async def test_what_a_stopped_queue_cuts_off_is_put_back_with_its_attempt(node: Callable[..., Staffa]):
    staffa = node(queues={"default": 1, "other": 1}, grace=timedelta(seconds=0.1))
    async with listening(staffa):
        running = await staffa.ainsert(Waits.new())
        await eventually(lambda: began)
        await staffa.astop_queue("default")
        await eventually(lambda: staffa._queues._leaving == [] and staffa.takes_from == {"other"})
        found = await staffa.aget(running.id or 0)
        assert found is not None
        assert (found.state, found.attempt) == (State.AVAILABLE, 0)


async def test_an_instance_whose_queue_was_stopped_stops_and_starts_as_configured(
    node: Callable[..., Staffa],
):
    staffa = node()
    go.set()
    async with listening(staffa):
        await staffa.astart_queue("extra", 1)
        await eventually(lambda: staffa.takes_from == {"default", "extra"})
        await staffa.astop_queue("default")
        await eventually(lambda: staffa.takes_from == {"extra"})
    async with listening(staffa):
        await eventually(lambda: staffa.takes_from == {"default"})
        await finished(staffa, [await staffa.ainsert(Waits.new())])


async def test_telemetry_tells_what_became_of_a_queue(node: Callable[..., Staffa]):
    staffa = node(queues={"other": 1})
    heard: list[Event] = []
    for kind in (QueueStarted, QueuePaused, QueueResumed, QueueScaled, QueueStopped):
        staffa.telemetry.attach(heard.append, kind)
    async with listening(staffa):
        await eventually(lambda: len(heard) == 1)
        await staffa.astart_queue("extra", 3, paused=True)
        await shown(staffa, "extra", paused=True)
        await staffa.aresume_queue("extra")
        await shown(staffa, "extra", paused=False)
        await staffa.apause_all_queues()
        await shown(staffa, "extra", paused=True)
        await staffa.ascale_queue("extra", 5)
        await shown(staffa, "extra", limit=5)
        await staffa.astop_queue("extra")
        await eventually(lambda: any(isinstance(event, QueueStopped) for event in heard))
    stopped = [event for event in heard if isinstance(event, QueueStopped)]
    assert [(event.queue, event.orphaned) for event in stopped] == [("extra", ()), ("other", ())]
    assert [event for event in heard if getattr(event, "queue", "") == "extra"] == [
        QueueStarted("extra", 3, paused=True),
        QueueResumed("extra"),
        QueuePaused("extra"),
        QueueScaled("extra", 5, was=3),
        stopped[0],
    ]


# What is refused


def test_unknown_names_and_limits_are_refused_with_a_hint_and_nothing_is_written(make: Callable[..., Staffa]):
    staffa = make(queues={"mailers": 3}, run_queues=False, node="worker-1")
    staffa.insert(Job(worker="w", queue="holds_jobs"))
    for say in (staffa.pause_queue, staffa.resume_queue, staffa.stop_queue, staffa.check_queue):
        with pytest.raises(UnknownQueue, match="unknown queue 'mialers'; did you mean 'mailers'"):
            say("mialers")
    with pytest.raises(UnknownQueue, match="did you mean 'holds_jobs'"):
        staffa.scale_queue("holds_job", 3)
    with pytest.raises(UnknownNode, match="unknown node 'worker-2'; did you mean 'worker-1'"):
        staffa.pause_queue("mailers", node="worker-2")
    for say_all in (staffa.pause_all_queues, staffa.resume_all_queues):
        with pytest.raises(UnknownNode, match="did you mean 'worker-1'"):
            say_all(node="worker")
    with pytest.raises(UnknownNode):
        staffa.start_queue("new", 1, node="nowhere")
    for limit in (0, -1, "7", True, None, 2**31):
        with pytest.raises(ConfigError, match="the limit"):
            staffa.scale_queue("mailers", limit)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="the limit"):
            staffa.start_queue("mailers", limit)  # type: ignore[arg-type]
    for name in ("", "q" * 128, "\0"):
        with pytest.raises(ConfigError, match="a queue's name"):
            staffa.start_queue(name, 1)
    for several in (staffa.stop_queue, lambda name: staffa.scale_queue(name, 1)):
        with pytest.raises(ConfigError, match="means every queue"):
            several("*")
    assert staffa._blocking(lambda engine: engine.pauses(), "pauses") == []
    staffa.pause_queue("holds_jobs")
    assert staffa.check_queue("holds_jobs") == []
    assert staffa.check_all_queues() == []


def test_a_queue_that_is_only_paused_is_known(make: Callable[..., Staffa]):
    staffa = make(queues={"mail": 1}, run_queues=False)
    staffa.pause_queue("mail")
    other = make(queues={}, run_queues=False)
    other.resume_queue("mail")


# Beside Elixir


async def test_a_pause_by_elixir_is_obeyed_and_not_kept(postgres_url: str):
    staffa = listens(postgres_url, node="n1")
    async with listening(staffa):
        await staffa.aresume_queue("default")
        await shown(staffa, paused=False)
        pause = {"action": "pause", "ident": "any", "queue": "default"}
        await asyncio.to_thread(tell_as_elixir, postgres_url, pause)
        await shown(staffa, paused=True)
        await asyncio.sleep(
            3 * BEAT.total_seconds()
        )  # heartbeats look at what is kept, which says nothing new
        await shown(staffa, paused=True)
        other = listens(postgres_url, node="n2")
        async with listening(other):
            await eventually(lambda: other.takes_from == {"default"})
            await asyncio.to_thread(
                tell_as_elixir, postgres_url, {**pause, "ident": "Staffa.n2", "queue": "*"}
            )
            await eventually(lambda: other.takes_from == frozenset())
            await asyncio.to_thread(tell_as_elixir, postgres_url, {**pause, "action": "resume"})
            await shown(staffa, paused=False)
        other.close()
    staffa.close()


async def test_elixir_hears_what_we_say_in_its_own_words(postgres_url: str):
    staffa = Staffa(postgres_url, queues={"mail": 1}, name="Oban", node="n1", run_queues=False)
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as elixir:
        await elixir.execute('listen "public.oban_signal"')
        await staffa.apause_queue("mail")
        await staffa.aresume_all_queues(node="n1")
        await staffa.ascale_queue("mail", 7)
        await staffa.astop_queue("mail")
        await staffa.astart_queue("mail", 4)
        heard = [json.loads(each.payload) async for each in elixir.notifies(timeout=10, stop_after=5)]
    numbers = [each.pop("number") for each in heard[:2]]
    assert numbers == sorted(set(numbers))
    assert heard == [
        {"action": "pause", "ident": "any", "queue": "mail"},
        {"action": "resume", "ident": "Oban.n1", "queue": "*"},
        {"action": "scale", "ident": "any", "queue": "mail", "limit": 7},
        {"action": "stop", "ident": "any", "queue": "mail"},
        {"action": "start", "ident": "Oban.n1", "queue": "mail", "limit": 4, "paused": False},
    ]
    staffa.close()


async def test_elixir_scales_and_stops_what_runs_here_and_starts_only_what_is_ours(postgres_url: str):
    staffa = listens(postgres_url, node="n1", queues={"ours": 1})
    tell = tell_as_elixir
    async with listening(staffa):
        await shown(staffa, "ours", limit=1)
        start = {"action": "start", "ident": "any", "queue": "theirs", "limit": 4, "paused": False}
        await asyncio.to_thread(tell, postgres_url, start)
        await asyncio.to_thread(
            tell, postgres_url, {"action": "scale", "ident": "any", "queue": "ours", "limit": 7}
        )
        await shown(staffa, "ours", limit=7)
        assert staffa.takes_from == {"ours"}
        await asyncio.to_thread(tell, postgres_url, {"action": "stop", "ident": "any", "queue": "ours"})
        await eventually(lambda: staffa.takes_from == frozenset())
        await asyncio.to_thread(tell, postgres_url, {**start, "queue": "ours", "paused": True})
        await shown(staffa, "ours", limit=4, paused=True)
        await asyncio.to_thread(tell, postgres_url, {**start, "ident": "Staffa.n1"})
        await eventually(lambda: staffa.takes_from == {"theirs"})
    staffa.close()


async def test_nonsense_on_the_signal_channel_deafens_nobody(
    node: Callable[..., Staffa], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "staffa")
    staffa = node()
    nonsense = [
        {},
        {"action": "explode"},
        {"action": "scale", "queue": "default", "limit": "7"},
        {"action": "scale", "queue": "default", "limit": None},
        {"action": "scale", "queue": "default", "limit": 10**30},
        {"action": "pause", "queue": ["default"]},
        {"action": "pkill", "job_id": "all"},
        {"action": "stop", "queue": "unknown_here"},
        {"action": "pause", "queue": "default", "ident": "Oban.elsewhere"},
    ]
    async with listening(staffa):
        await staffa.engine.tell(SIGNAL, nonsense)
        await staffa.engine.tell(SIGNAL, [{"action": "scale", "queue": "default", "limit": 6}])
        await shown(staffa, limit=6, paused=False)
    assert sum("a signal was ignored" in record.message for record in caplog.records) == 7
