"""What every engine promises to the crontab."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from contract import HOUR, NOW, SECOND, Trial, job
from staffa import State
from staffa.engine import CronMark, CronTick
from staffa.errors import UnstorableData

DAY = 24 * HOUR


def tick(at=NOW, entry="nightly", **options):
    return CronTick(entry, at, job(**options))


async def marks(trial, *entries):
    return {mark.entry: mark for mark in await trial.engine.cron_marks(entries)}


async def test_a_tick_inserts_its_job_once(any_way_in: Trial):
    trial = any_way_in
    [inserted] = await trial.engine.record_ticks([tick(queue="reports")], now=NOW)
    assert await trial.engine.record_ticks([tick(queue="reports")], now=NOW + HOUR) == []

    assert (inserted.state, inserted.queue, inserted.scheduled_at) == (State.AVAILABLE, "reports", NOW)
    assert await trial.states() == ["available"]
    assert await marks(trial, "nightly") == {"nightly": CronMark("nightly", NOW, NOW, inserted.id)}


async def test_of_several_ticks_only_the_new_ones_insert_and_their_jobs_come_in_their_order(trial: Trial):
    await trial.engine.record_ticks([tick(NOW + HOUR)], now=NOW)
    inserted = await trial.engine.record_ticks(
        [tick(NOW, worker="a"), tick(NOW + HOUR, worker="b"), tick(NOW + 2 * HOUR, worker="c")], now=NOW
    )

    assert [each.worker for each in inserted] == ["a", "c"]
    [mark] = (await marks(trial, "nightly")).values()
    assert mark == CronMark("nightly", NOW, NOW + 2 * HOUR, inserted[1].id)


async def test_the_same_tick_of_two_entries_inserts_two_jobs(trial: Trial):
    assert len(await trial.engine.record_ticks([tick(), tick(entry="other")], now=NOW)) == 2


async def test_ticks_are_instants_whatever_zone_they_are_given_in(trial: Trial):
    in_amsterdam = NOW.astimezone(ZoneInfo("Europe/Amsterdam"))
    assert len(await trial.engine.record_ticks([tick(in_amsterdam)], now=NOW)) == 1
    assert await trial.engine.record_ticks([tick(NOW)], now=NOW) == []


async def test_an_entry_becomes_known_without_a_job(trial: Trial):
    assert await trial.engine.record_ticks([CronTick("nightly", NOW, None)], now=NOW) == []
    assert await trial.states() == []
    assert await marks(trial, "nightly", "unknown") == {"nightly": CronMark("nightly", NOW, NOW, None)}


async def test_a_jittered_job_waits_for_its_time(trial: Trial):
    [inserted] = await trial.engine.record_ticks([tick(scheduled_at=NOW + 5 * SECOND)], now=NOW)
    assert (inserted.state, inserted.scheduled_at) == (State.SCHEDULED, NOW + 5 * SECOND)


async def test_a_tick_whose_job_cannot_be_stored_is_not_recorded(trial: Trial):
    with pytest.raises(UnstorableData):
        await trial.engine.record_ticks([tick(max_attempts=0 if trial.is_postgres else None)], now=NOW)

    assert await marks(trial, "nightly") == {}
    assert await trial.states() == []


async def test_of_many_who_record_the_same_ticks_at_once_one_inserts_each(trial: Trial):
    ticks = [tick(NOW + n * HOUR, entry) for n in range(5) for entry in ("a", "b")]
    answers = await asyncio.gather(
        *(trial.engine.record_ticks(ticks[:: -1 if n % 2 else 1], now=NOW) for n in range(8))
    )
    assert sum(map(len, answers)) == 10
    assert len(await trial.states()) == 10


async def test_a_tick_that_somebody_is_about_to_record_is_waited_for(on_postgres: Trial):
    trial = on_postgres
    other = "insert into staffa_cron_ticks (entry, tick, inserted_at) values ('nightly', ?, now())"
    async with trial.holding(other, NOW.replace(tzinfo=None)):
        recording = asyncio.ensure_future(trial.engine.record_ticks([tick()], now=NOW))
        waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
        async with asyncio.timeout(20):
            while not await trial.sql(waiting):
                await asyncio.sleep(0.01)
        assert not recording.done()
    assert len(await recording) == 1, "the other gave up"


async def test_old_ticks_are_pruned_but_the_newest_and_the_first_mark(trial: Trial):
    await trial.engine.record_ticks([CronTick("nightly", NOW - 9 * DAY, None)], now=NOW)
    for age in (4, 3, 2):
        await trial.engine.record_ticks([tick(NOW - age * DAY), tick(NOW - age * DAY, "other")], now=NOW)
    await trial.engine.record_ticks([tick(NOW - HOUR)], now=NOW)

    await trial.engine.prune_ticks(DAY, now=NOW)

    kept = await trial.sql("select entry, job_id is null from staffa_cron_ticks order by entry, tick")
    assert [(entry, bool(mark)) for entry, mark in kept] == [
        ("nightly", True),
        ("nightly", False),
        ("other", False),
    ]
    [mark] = (await marks(trial, "other")).values()
    assert mark.newest == NOW - 2 * DAY


async def test_a_start_is_told_once_until_another_one(trial: Trial):
    at_start = [tick(NOW, "warm")]
    assert len(await trial.engine.boot(at_start, NOW - SECOND, now=NOW)) == 1
    assert await trial.engine.boot([tick(NOW + SECOND, "warm")], NOW - SECOND, now=NOW + SECOND) == []

    again = NOW + HOUR
    assert len(await trial.engine.boot([tick(again, "warm")], again - SECOND, now=again)) == 1
    assert (await marks(trial, "warm"))["warm"].newest == again


async def test_no_start_is_told_while_another_leader_was_seen_since_it(trial: Trial):
    started = NOW + 5 * SECOND
    await trial.engine.boot([tick(NOW, "warm")], NOW, now=NOW)
    await trial.engine.boot([tick(NOW + 10 * SECOND, "warm")], NOW, now=NOW + 10 * SECOND)

    assert await trial.engine.boot([tick(NOW + HOUR, "warm")], started, now=NOW + HOUR) == []


async def test_of_many_who_tell_of_their_start_at_once_one_does(trial: Trial):
    answers = await asyncio.gather(
        *(trial.engine.boot([tick(NOW + n * SECOND, "warm")], NOW - SECOND, now=NOW) for n in range(8))
    )
    assert sum(map(len, answers)) == 1


async def test_pruning_does_not_make_a_start_forgotten(trial: Trial):
    await trial.engine.boot([tick(NOW, "warm")], NOW, now=NOW)
    await trial.engine.prune_ticks(DAY, now=NOW + 9 * DAY)
    assert await trial.engine.boot([tick(NOW + HOUR, "warm")], NOW - HOUR, now=NOW + HOUR) == []


async def test_the_clock_is_the_databases(trial: Trial):
    clock = await trial.engine.clock()
    if trial.is_postgres:
        [(now,)] = await trial.sql("select now()")
    else:
        now = datetime.now(UTC)
    assert clock.utcoffset() is not None
    assert abs(now - clock) < timedelta(minutes=1)
