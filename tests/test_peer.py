"""One node leads, and none believes in its lease longer than it lasts."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta

import psycopg
import pytest

from nodes import eventually
from staffa import Staffa
from staffa._peer import Peer
from staffa.telemetry import LeaderChanged, Telemetry

LEASE = "staffa:test"
SHORT = timedelta(seconds=0.6)
LONG = timedelta(hours=1)


class Node:
    """A peer, and what it said."""

    def __init__(self, staffa: Staffa, name: str, period: timedelta) -> None:
        self.changes: list[bool] = []
        self.events: list[object] = []
        telemetry = Telemetry()
        telemetry.attach(self.events.append)
        self.peer = Peer(
            LEASE, name, engine=staffa.engine, telemetry=telemetry, changed=self.changes.append, period=period
        )

    @property
    def leads(self) -> bool:
        return self.peer.leads


@pytest.fixture
def node(make: Callable[..., Staffa]) -> Callable[..., Node]:
    return lambda name, period=LONG: Node(make(run_queues=False), name, period)


@pytest.fixture
def unreachable(url: str) -> Callable[[], AbstractContextManager[None]]:
    """Make the database refuse or stall everyone for a while."""
    return lambda: _locked(url) if url.startswith("sqlite") else _refusing(url)


@contextmanager
def _locked(url: str) -> Iterator[None]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("begin immediate")
        yield
        other.execute("rollback")


@contextmanager
def _refusing(url: str) -> Iterator[None]:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"alter database {name} allow_connections false".encode())
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        yield
        admin.execute(f"alter database {name} allow_connections true".encode())


async def test_of_two_nodes_one_leads(node: Callable[..., Node]):
    one, other = node("one"), node("other")
    await asyncio.gather(one.peer.elect(), other.peer.elect())
    assert sorted([one.leads, other.leads]) == [False, True]
    await asyncio.gather(one.peer.elect(), other.peer.elect())
    assert sorted([one.leads, other.leads]) == [False, True]


async def test_nobody_leads_before_asking(node: Callable[..., Node]):
    assert not node("one").leads


async def test_a_change_of_leadership_is_told_once(node: Callable[..., Node]):
    one, other = node("one"), node("other")
    for _ in range(3):
        await one.peer.elect()
        await other.peer.elect()
    assert (one.changes, one.events) == ([True], [LeaderChanged(True, LEASE, "one")])
    assert (other.changes, other.events) == ([], [])


async def test_a_leader_that_is_silent_is_followed_when_its_lease_ends(node: Callable[..., Node]):
    silent, other = node("silent", SHORT), node("other")
    await silent.peer.elect()
    assert silent.leads
    await other.peer.elect()
    assert not other.leads

    async def elected() -> bool:
        await other.peer.elect()
        assert not (silent.leads and other.leads)
        return other.leads

    await eventually(elected)
    assert not silent.leads


async def test_a_running_leader_renews_its_lease(node: Callable[..., Node]):
    one, other = node("one", SHORT), node("other", SHORT)
    task = asyncio.create_task(one.peer.run())
    await eventually(lambda: one.leads)
    deadline = asyncio.get_running_loop().time() + 3 * SHORT.total_seconds()
    while asyncio.get_running_loop().time() < deadline:
        await other.peer.elect()
        assert not other.leads
        await asyncio.sleep(0.05)
    assert one.changes == [True]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_stops_hands_over_at_once(node: Callable[..., Node]):
    one, other = node("one", LONG), node("other", LONG)
    task = asyncio.create_task(one.peer.run())
    await eventually(lambda: one.leads)
    await other.peer.elect()
    assert not other.leads

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (one.leads, one.changes) == (False, [True, False])
    await other.peer.elect()
    assert other.leads


async def test_who_does_not_lead_takes_nothing_from_the_leader_by_stopping(node: Callable[..., Node]):
    one, other, third = node("one"), node("other", SHORT), node("third")
    await one.peer.elect()
    task = asyncio.create_task(other.peer.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await third.peer.elect()
    assert (one.leads, third.leads) == (True, False)


async def test_a_node_that_cannot_reach_the_database_stops_believing_in_time_and_leads_again_after(
    node: Callable[..., Node], unreachable: Callable[[], AbstractContextManager[None]]
):
    one = node("one", SHORT)
    task = asyncio.create_task(one.peer.run())
    await eventually(lambda: one.leads)
    with unreachable():
        await eventually(lambda: not one.leads)
        assert not task.done()
    await eventually(lambda: one.leads)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_database_that_is_gone_does_not_keep_a_node_from_stopping(
    node: Callable[..., Node], unreachable: Callable[[], AbstractContextManager[None]]
):
    one, other = node("one", timedelta(seconds=2)), node("other", SHORT)
    task = asyncio.create_task(one.peer.run())
    await eventually(lambda: one.leads)
    with unreachable():
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert not one.leads

    async def elected() -> bool:
        await other.peer.elect()
        return other.leads

    await eventually(elected)


async def test_who_stops_is_followed_at_once_by_a_node_that_would_not_ask_for_long(
    make: Callable[..., Staffa],
):
    first, second = make(queues={}), make(queues={})
    async with first:
        await eventually(lambda: first.leads)
        async with second:
            await _listens(second)
            assert not second.leads
            second._parts.peer._period = LONG  # asks by itself only after twenty minutes
            second._parts.peer.hear({"down": second._parts.peer._lease})  # ends the short wait begun before
            await asyncio.sleep(0.05)
            await first.stop()
            await eventually(lambda: second.leads)


async def test_somebody_elses_lease_and_odd_words_about_leases_are_no_reason_to_ask(
    node: Callable[..., Node],
):
    one = node("one")
    for payload in ({"down": "Oban"}, {"down": 7}, {"down": None}, {"down": [LEASE]}, {"up": LEASE}, {}):
        one.peer.hear(payload)
    assert not one.peer._vacant.is_set()
    one.peer.hear({"down": LEASE})
    assert one.peer._vacant.is_set()


async def _listens(staffa: Staffa) -> None:
    """Wait until an instance hears what is told."""
    heard: list[object] = []
    parts, engine = staffa._parts, staffa.engine
    assert parts is not None
    before, parts.peer.hear = parts.peer.hear, heard.append  # type: ignore[method-assign]

    async def hears() -> bool:
        await engine.tell("leader", [{"down": "nobody's"}])
        return bool(heard)

    await eventually(hears)
    parts.peer.hear = before  # type: ignore[method-assign]
