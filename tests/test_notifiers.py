"""A hint reaches everyone who listens, and nothing that is said deafens anybody."""

import asyncio
import base64
import contextlib
import gzip
import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from nodes import eventually
from staffa import Job, JobFilter, Staffa, State, _lifecycle
from staffa._bridge import at_once
from staffa._clock import utc_now
from staffa.engine import Ack, ProducerInfo
from staffa.notifier import CHANNELS, DUE, INSERT, SIGNAL
from staffa.notifiers.local import LocalNotifier
from staffa.notifiers.postgres import decoded

Heard = list[tuple[str, dict[str, Any]]]
INSERTER = """
import sys
from staffa import Job, JobFilter, Staffa, State, _lifecycle
instance = Staffa(sys.argv[1], run_queues=False)
for line in sys.stdin:
    instance.insert(Job(worker="w", queue=line.strip()))
    print("stored", flush=True)
"""


@asynccontextmanager
async def listening(staffa: Staffa) -> AsyncIterator[Heard]:
    """Listen to what is told on an instance's database, from the moment that one can hear."""
    heard: Heard = []
    await staffa._database.open()
    task = asyncio.create_task(
        staffa._database.notifier().run(lambda channel, payload: heard.append((channel, dict(payload))))
    )
    try:
        await eventually(lambda: (DUE, {}) in heard)  # which says that one listens
        heard.clear()
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await staffa._database.close()


async def heard_of(heard: Heard, queue: str, within: float = 10) -> None:
    """Wait until something was heard that means this queue."""
    meant = ((INSERT, {"queue": queue}), (INSERT, {}))
    await eventually(lambda: any(each in meant for each in heard), within=within)


def notify(url: str, payload: str, channel: str = "public.oban_insert") -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select pg_notify(%s, %s)", [channel, payload])


# On both databases


async def test_an_insert_is_heard_by_another_instance(make: Callable[..., Staffa]):
    one, other = make(run_queues=False), make(run_queues=False)
    await one.ainsert(Job(worker="w", queue="before"))
    async with listening(other) as heard:
        await one.ainsert(Job(worker="w", queue="mail"))
        await heard_of(heard, "mail")


async def test_an_insert_of_another_process_is_heard(make: Callable[..., Staffa], url: str):
    here = make(run_queues=False)
    process = subprocess.Popen(
        [sys.executable, "-c", INSERTER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write("first\n")
        process.stdin.flush()
        assert await asyncio.to_thread(process.stdout.readline) == "stored\n"
        async with listening(here) as heard:
            for queue in ("second", "third"):
                await asyncio.sleep(0.05)  # SQLite looks every 40 ms; what it saw before does not count
                heard.clear()
                process.stdin.write(f"{queue}\n")
                process.stdin.flush()
                await heard_of(heard, queue)
        process.stdin.close()


async def test_what_an_instance_tells_it_hears_itself(make: Callable[..., Staffa]):
    staffa = make(run_queues=False)
    async with listening(staffa) as heard:
        await staffa.engine.tell(SIGNAL, [{"action": "pkill", "job_id": 1}, {"action": "ü"}])
        await eventually(lambda: len([each for each in heard if each[0] == SIGNAL]) == 2)
        assert [payload for channel, payload in heard if channel == SIGNAL] == [
            {"action": "pkill", "job_id": 1},
            {"action": "ü"},
        ]


async def test_a_signal_of_another_instance_is_heard_with_its_payload_and_once(make: Callable[..., Staffa]):
    one, other = make(run_queues=False), make(run_queues=False)
    await one.engine.tell(SIGNAL, [{"action": "before"}])
    async with listening(one) as heard, listening(other) as heard_elsewhere:
        for number in range(3):
            await one.engine.tell(SIGNAL, [{"action": "a", "n": number}, {"action": "ü", "n": number}])
        await other.engine.tell(SIGNAL, [{"action": "last"}])
        for each in (heard, heard_elsewhere):
            await eventually(lambda each=each: (SIGNAL, {"action": "last"}) in each)
            told = [payload for channel, payload in each if channel == SIGNAL]
            assert told == [
                *({"action": action, "n": number} for number in range(3) for action in ("a", "ü")),
                {"action": "last"},
            ]


SIGNALLER = """
import sys
from staffa import Staffa
from staffa._bridge import at_once
instance = Staffa(sys.argv[1], run_queues=False)
for line in sys.stdin:
    at_once(instance.plain_engine.tell("signal", [{"action": line.strip()}]))
"""


async def test_a_signal_of_another_process_is_heard_with_its_payload(make: Callable[..., Staffa], url: str):
    here = make(run_queues=False)
    async with listening(here) as heard:
        process = subprocess.Popen([sys.executable, "-c", SIGNALLER, url], stdin=subprocess.PIPE, text=True)
        assert process.stdin is not None
        with process:
            process.stdin.write("one\ntwo\n")
            process.stdin.close()
        await eventually(lambda: (SIGNAL, {"action": "two"}) in heard)
        assert [payload["action"] for channel, payload in heard if channel == SIGNAL] == ["one", "two"]


async def test_what_is_told_in_a_callers_transaction_is_heard_when_it_is_committed(
    make: Callable[..., Staffa], url: str
):
    staffa = make(run_queues=False)
    await staffa.amigrate()

    def tell(connection: Any, action: str) -> None:
        at_once(staffa._database.joined(connection).tell(SIGNAL, [{"action": action}]))

    def in_a_transaction() -> None:
        postgres = url.startswith("postgres")
        connect = (
            psycopg.connect(url) if postgres else sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
        )
        with contextlib.closing(connect) as connection:
            connection.execute("select 1" if postgres else "begin")
            tell(connection, "undone")
            connection.rollback()
            connection.execute("select 1" if postgres else "begin")
            tell(connection, "done")
            connection.commit()

    async with listening(staffa) as heard:
        await asyncio.to_thread(in_a_transaction)
        await eventually(lambda: (SIGNAL, {"action": "done"}) in heard)
        assert [payload["action"] for channel, payload in heard if channel == SIGNAL] == ["done"]


# Jobs that are due before whoever stages would look again

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def job(due_in: timedelta | None = None) -> Job:
    return Job(worker="w", scheduled_at=None if due_in is None else NOW + due_in)


async def inserted(staffa: Staffa, delay: timedelta) -> None:
    await staffa.engine.insert([job(), job(HOUR), job(delay)], now=NOW)


async def snoozed(staffa: Staffa, delay: timedelta) -> None:
    producer, held = await taken(staffa)
    await staffa.engine.exchange(producer, [Ack(held, _lifecycle.snoozed(held, NOW, delay))], 0, now=NOW)


async def failed(staffa: Staffa, delay: timedelta) -> None:
    producer, held = await taken(staffa)
    await staffa.engine.exchange(
        producer, [Ack(held, _lifecycle.failed(held, NOW, "kaboom", delay))], 0, now=NOW
    )


async def updated(staffa: Staffa, delay: timedelta) -> None:
    [stored] = await staffa.engine.insert([job(HOUR)], now=NOW)
    wanted = JobFilter(ids=[stored.id])
    await staffa.engine.update(wanted, lambda _: {"scheduled_at": NOW + delay}, now=NOW)


async def taken(staffa: Staffa) -> tuple[ProducerInfo, Job]:
    producer = ProducerInfo(id="p", node="n", queue="default", limit=1)
    await staffa.engine.register([producer])
    await staffa.engine.insert([job()], now=NOW)
    [held] = (await staffa.engine.exchange(producer, [], 1, now=NOW)).taken
    return producer, held


@pytest.mark.parametrize("act", [inserted, snoozed, failed, updated])
async def test_a_job_that_will_be_due_soon_is_told_and_a_later_one_is_not(
    make: Callable[..., Staffa], act: Any
):
    staffa = make(run_queues=False)
    async with listening(staffa) as heard:
        for delay, told in ((HOUR, 0), (SECOND, 1)):
            await act(staffa, delay)
            await staffa.engine.tell(SIGNAL, [{"action": f"{told} told"}])
            await eventually(lambda told=told: (SIGNAL, {"action": f"{told} told"}) in heard)
            assert [channel for channel, _ in heard].count(DUE) == told


async def test_a_job_that_will_be_due_soon_is_told_when_its_transaction_is_committed(
    make: Callable[..., Staffa], url: str
):
    staffa = make(run_queues=False)
    await staffa.amigrate()

    def in_a_transaction() -> None:
        postgres = url.startswith("postgres")
        connect = (
            psycopg.connect(url) if postgres else sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
        )
        with contextlib.closing(connect) as connection:
            staffa.insert(Job(worker="w", schedule_in=SECOND), connection=connection)
            connection.commit()

    async with listening(staffa) as heard:
        await asyncio.to_thread(in_a_transaction)
        await eventually(lambda: (DUE, {}) in heard)


# Notices in a SQLite file


async def write_notice(url: str, payload: object, channel: object = SIGNAL) -> None:
    """Leave a notice as a careless program would."""

    def write() -> None:
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as connection:
            connection.execute(
                "insert into staffa_notices (channel, payload) values (?, ?)",
                (channel, payload),
            )
            connection.commit()

    await asyncio.to_thread(write)


async def test_malformed_notices_deafen_nobody(sqlite_url: str, caplog: pytest.LogCaptureFixture):
    staffa = Staffa(sqlite_url, run_queues=False)
    await staffa.amigrate()
    malformed = ["", "no JSON", "[1]", "null", 7, b"\xff", b"{}x", "[" * 7_000]
    async with listening(staffa) as heard:
        for payload in malformed:
            await write_notice(sqlite_url, payload)
        await write_notice(sqlite_url, '{"action": "odd"}', channel=b"\xff")
        await write_notice(sqlite_url, '{"action": "after"}')
        await eventually(lambda: (SIGNAL, {"action": "after"}) in heard)
        assert [payload for channel, payload in heard if channel == SIGNAL] == [{"action": "after"}]
    staffa.close()
    assert sum("malformed notice" in record.message for record in caplog.records) == len(malformed)


async def test_notices_are_thrown_away_after_a_minute(sqlite_url: str, monkeypatch: pytest.MonkeyPatch):
    staffa = Staffa(sqlite_url, run_queues=False)
    clock = utc_now()
    monkeypatch.setattr("staffa.engines._sqlite_session.utc_now", lambda: clock)
    for number in range(150):
        await staffa.engine.tell(SIGNAL, [{"n": number}])
    clock += timedelta(seconds=59)
    await staffa.engine.tell(SIGNAL, [{"n": 150}])
    notices = "select payload from staffa_notices order by id"
    file = sqlite_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert len(connection.execute(notices).fetchall()) == 151
        clock += timedelta(seconds=2)
        await staffa.engine.tell(SIGNAL, [{"n": 151}])
        await staffa.engine.tell(SIGNAL, [{"n": 152}])
        left = [json.loads(text)["n"] for (text,) in connection.execute(notices)]
        assert left == [150, 151, 152]
    staffa.close()


async def test_a_process_that_listens_again_hears_nothing_old(sqlite_url: str):
    staffa, other = Staffa(sqlite_url, run_queues=False), Staffa(sqlite_url, run_queues=False)
    async with listening(staffa):
        await other.engine.tell(SIGNAL, [{"action": "first"}])
    await other.engine.tell(SIGNAL, [{"action": "missed"}])
    async with listening(staffa) as heard:
        await other.engine.tell(SIGNAL, [{"action": "second"}])
        await eventually(lambda: (SIGNAL, {"action": "second"}) in heard)
        assert [payload for channel, payload in heard if channel == SIGNAL] == [{"action": "second"}]
    staffa.close()
    other.close()


async def test_two_who_listen_in_one_process_each_hear_until_they_leave(sqlite_url: str):
    staffa, other = Staffa(sqlite_url, run_queues=False), Staffa(sqlite_url, run_queues=False)
    async with listening(staffa) as heard:
        async with listening(staffa) as heard_too:
            await other.engine.tell(SIGNAL, [{"action": "both"}])
            await eventually(lambda: (SIGNAL, {"action": "both"}) in heard)
            await eventually(lambda: (SIGNAL, {"action": "both"}) in heard_too)
        await other.engine.tell(SIGNAL, [{"action": "one"}])
        await eventually(lambda: (SIGNAL, {"action": "one"}) in heard)
        assert (SIGNAL, {"action": "one"}) not in heard_too
    staffa.close()
    other.close()


async def test_a_notice_is_told_only_when_it_is_stored(sqlite_url: str):
    staffa = Staffa(sqlite_url, run_queues=False)

    async def tells_and_fails(session: Any) -> None:
        await session.tell(SIGNAL, [{"action": "undone"}])
        raise ZeroDivisionError

    async with listening(staffa) as heard:
        with pytest.raises(ZeroDivisionError):
            await staffa.engine.connection.write(tells_and_fails)
        await staffa.engine.tell(SIGNAL, [{"action": "done"}])
        await eventually(lambda: (SIGNAL, {"action": "done"}) in heard)
        assert [payload["action"] for channel, payload in heard if channel == SIGNAL] == ["done"]
    staffa.close()


# On PostgreSQL, where a notification waits for its transaction


async def test_a_rolled_back_insert_wakes_nobody_and_a_committed_one_does(postgres_url: str):
    staffa = Staffa(postgres_url, run_queues=False)
    async with listening(staffa) as heard, await psycopg.AsyncConnection.connect(postgres_url) as connection:
        await staffa.ainsert(Job(worker="w", queue="undone"), connection=connection)
        await connection.rollback()
        await staffa.ainsert(Job(worker="w", queue="done"), connection=connection)
        await connection.commit()
        await heard_of(heard, "done")
        assert heard == [(INSERT, {"queue": "done"})]
    staffa.close()


async def test_jobs_for_later_wake_nobody(postgres_url: str):
    staffa = Staffa(postgres_url, run_queues=False)
    async with listening(staffa) as heard:
        later = Job(worker="w", queue="later", state=State.SUSPENDED)
        await staffa.engine.insert([later, Job(worker="w", queue="now")])
        await heard_of(heard, "now")
        assert heard == [(INSERT, {"queue": "now"})]
    staffa.close()


# In one process


async def test_local_listeners_hear_on_their_own_loop_and_until_they_stop():
    notifier, heard, loops = LocalNotifier(), [], []

    def hear(channel: str, payload: Any) -> None:
        heard.append((channel, payload))
        loops.append(asyncio.get_running_loop())

    task = asyncio.create_task(notifier.run(hear))
    await asyncio.sleep(0)
    await asyncio.to_thread(notifier.tell, INSERT, [{"queue": "a"}])
    await eventually(lambda: heard == [(INSERT, {"queue": "a"})])
    assert loops == [asyncio.get_running_loop()]

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    notifier.tell(INSERT, [{"queue": "b"}])
    await asyncio.sleep(0)
    assert len(heard) == 1


async def test_a_function_that_listens_twice_hears_until_its_last_listening_ends():
    notifier, heard = LocalNotifier(), []

    def hear(channel, payload):
        heard.append(payload["id"])

    with notifier.listening(hear, CHANNELS):
        with notifier.listening(hear, CHANNELS):
            pass
        notifier.tell(SIGNAL, [{"id": 1}])
        await eventually(lambda: heard == [1])
    notifier.tell(SIGNAL, [{"id": 2}])
    await asyncio.sleep(0)
    assert heard == [1]


async def test_who_listened_on_a_loop_that_has_closed_stops_nobody():
    notifier, heard = LocalNotifier(), []
    closed = asyncio.new_event_loop()
    closed.close()
    notifier._listeners[object()] = closed, lambda _channel, _payload: None, CHANNELS
    task = asyncio.create_task(notifier.run(lambda channel, payload: heard.append((channel, payload))))
    await asyncio.sleep(0)
    notifier.tell(INSERT, [{"queue": "a"}])
    await eventually(lambda: heard == [(INSERT, {"queue": "a"})])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# Oban's three ways of writing a payload


def packed(payload: object) -> str:
    return base64.b64encode(gzip.compress(json.dumps(payload).encode())).decode()


@pytest.mark.parametrize(
    "text",
    [json.dumps({"queue": "ü"}), packed({"queue": "ü"}), "Z:" + packed({"queue": "ü"})],
    ids=["JSON", "gzip", "Z"],
)
def test_each_of_obans_forms_is_read(text: str):
    assert decoded(text) == {"queue": "ü"}


CORRUPT = base64.b64encode(gzip.compress(b'{"queue": "a"}')[:10] + b"\x07garbage" * 4).decode()
CHECKSUM = base64.b64encode(gzip.compress(b'{"queue": "a"}')[:-8] + b"\0" * 8).decode()
MALFORMED = [
    "",
    "no JSON",
    "[1, 2]",
    "null",
    "7",
    '"text"',
    "{",
    "[" * 7_000,
    "H4sI",
    "H4sIAAAA",
    "Z:",
    "Z:no base64",
    "Z:\N{SNOWMAN}",
    "Z:e30=",
    packed([1]),
    "Z:" + packed("text"),
    CORRUPT,
    "Z:" + CORRUPT,
    CHECKSUM,
    base64.b64encode(gzip.compress(b"\xff")).decode(),
]


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_payload_is_none(text: str):
    assert decoded(text) is None


# On PostgreSQL


async def test_malformed_payloads_deafen_nobody(postgres_url: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "staffa")
    staffa = Staffa(postgres_url, run_queues=False)
    async with listening(staffa) as heard:
        for text in MALFORMED:
            await asyncio.to_thread(notify, postgres_url, text)
        await asyncio.to_thread(notify, postgres_url, "Z:" + packed({"queue": "after"}))
        await heard_of(heard, "after")
        assert heard == [(INSERT, {"queue": "after"})]
    staffa.close()
    assert sum("malformed notification" in record.message for record in caplog.records) == len(MALFORMED)
    assert not [record for record in caplog.records if "trying again" in record.message]


async def test_payloads_are_written_as_plain_json_on_obans_channels(postgres_url: str):
    staffa = Staffa(postgres_url, run_queues=False)
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as elixir:
        await elixir.execute('listen "public.oban_insert"')
        await elixir.execute('listen "public.oban_signal"')
        await staffa.ainsert(Job(worker="w", queue='ü"'))
        await staffa.engine.tell(SIGNAL, [{"action": "pkill", "job_id": 7}])
        told = [each async for each in elixir.notifies(timeout=10, stop_after=2)]
    assert [(each.channel, json.loads(each.payload)) for each in told] == [
        ("public.oban_insert", {"queue": 'ü"'}),
        ("public.oban_signal", {"action": "pkill", "job_id": 7}),
    ]
    staffa.close()


async def test_schemas_do_not_hear_each_other(postgres_url: str):
    odd = 'odd "schema"'
    one, other = (Staffa(postgres_url, run_queues=False, schema=name) for name in ("public", odd))
    await other.amigrate()
    async with listening(one) as heard, listening(other) as heard_elsewhere:
        await one.ainsert(Job(worker="w", queue="here"))
        await other.ainsert(Job(worker="w", queue="there"))
        await heard_of(heard, "here")
        await heard_of(heard_elsewhere, "there")
        assert (heard, heard_elsewhere) == ([(INSERT, {"queue": "here"})], [(INSERT, {"queue": "there"})])
    one.close()
    other.close()


async def test_a_lost_connection_is_opened_again_and_what_was_missed_is_asked_for(postgres_url: str):
    staffa = Staffa(postgres_url, run_queues=False)
    async with listening(staffa) as heard:
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            killed = admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and query like 'listen%'"
            ).fetchall()
        assert killed == [(True,)]
        await eventually(lambda: (INSERT, {}) in heard, within=30)
        heard.clear()
        await asyncio.to_thread(notify, postgres_url, '{"queue": "after"}')
        await heard_of(heard, "after")
    staffa.close()
