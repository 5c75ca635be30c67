"""What every engine promises about jobs that move by themselves: staged, rescued, pruned."""

import asyncio
from datetime import datetime, timedelta

import pytest

from contract import HOUR, NOW, SECOND, Trial, error_of, finals, ids, job, these
from staffa import State, _lifecycle
from staffa._job import replace
from staffa.engine import Ack, Beat

# Reconciling: what a lost answer left behind


async def test_jobs_whose_taking_was_never_heard_of_go_back(trial: Trial):
    await trial.insert_many(3)
    producer = await trial.producer()
    held, *unheard = await trial.take(producer)
    reconciled = await trial.engine.reconcile(producer, [held])
    assert sorted(ids(reconciled.handed_back)) == ids(unheard)
    assert reconciled.lost == []
    assert {each.state for each in reconciled.handed_back} == {State.AVAILABLE}
    assert {each.attempt for each in reconciled.handed_back} == {0}
    assert await trial.get(held) == held
    assert ids(await trial.take(producer)) == ids(unheard)


async def test_a_producer_that_holds_nothing_gets_everything_back(trial: Trial):
    _, other = await trial.taken(job())
    producer, held = await trial.taken(job())
    assert ids((await trial.engine.reconcile(producer, [])).handed_back) == [held.id]
    assert (await trial.engine.reconcile(producer, [])).handed_back == []
    assert await trial.get(other) == other


async def test_a_job_held_from_an_older_take_is_lost_and_the_newer_take_goes_back(trial: Trial):
    producer, old = await trial.taken(job())
    await trial.hand_in(producer, (old, _lifecycle.handed_back(old)))
    [new] = await trial.take(producer)
    reconciled = await trial.engine.reconcile(producer, [old])
    assert ids(reconciled.handed_back) == [new.id]
    assert [(each.id, each.take) for each in reconciled.lost] == [(old.id, old.take)]


async def test_lost_jobs_are_reported_with_what_they_are_now(trial: Trial):
    await trial.insert_many(5)
    producer = await trial.producer()
    cancelled, deleted, back, elsewhere, ours = held = await trial.take(producer)
    await trial.engine.cancel(these(ids([cancelled, deleted])))
    await trial.engine.delete(these([deleted.id]))
    await trial.hand_in(producer, *((each, _lifecycle.handed_back(each)) for each in (back, elsewhere)))
    await trial.change(back, queue="elsewhere")
    await trial.take(await trial.producer())
    reconciled = await trial.engine.reconcile(producer, held)
    assert reconciled.handed_back == []
    assert [(each.id, each.state) for each in reconciled.lost] == [
        (cancelled.id, State.CANCELLED),
        (deleted.id, State.AVAILABLE),
        (back.id, State.AVAILABLE),
        (elsewhere.id, State.AVAILABLE),
    ]
    assert await trial.get(ours) == ours


# Progress


async def test_progress_is_stored_beside_what_meta_holds(trial: Trial):
    producer, held = await trial.taken(job(meta={"a": {"b": 1}}))
    told = {"current": 3, "total": None, "note": "ü"}
    await trial.engine.progress(
        producer, [(held, {"current": 1, "total": 9, "note": None}), (held, told)][1:]
    )
    assert (await trial.get(held)).meta == {"a": {"b": 1}, "progress": told}
    await trial.engine.progress(producer, [(held, {"current": 4, "total": 9, "note": None})])
    assert (await trial.get(held)).meta["progress"] == {"current": 4, "total": 9, "note": None}
    assert await trial.complete(producer, held) == ([], [], [])
    assert (await trial.get(held)).meta["progress"]["current"] == 4


async def test_progress_of_an_attempt_that_lost_its_job_is_not_stored(trial: Trial):
    told = {"current": 1, "total": None, "note": None}
    producer, lost = await trial.taken(job())
    await trial.hand_in(producer, (lost, _lifecycle.handed_back(lost)))
    await trial.engine.progress(producer, [(lost, told)])
    [held] = await trial.take(producer)
    await trial.engine.progress(producer, [(lost, told)])
    await trial.engine.progress(await trial.producer(), [(held, told)])
    assert (await trial.get(held)).meta == {}


# Staging


async def test_only_what_is_due_is_staged_and_is_counted_by_queue(trial: Trial):
    due, to_come, late, failed, _ = await trial.insert(
        job(queue="a", scheduled_at=NOW + SECOND),
        job(queue="b", scheduled_at=NOW + SECOND + timedelta(microseconds=1)),
        job(queue="a", schedule_in=timedelta(seconds=0.5)),
        job(queue="c", scheduled_at=NOW + SECOND),
        job(queue="d", state=State.SUSPENDED),
    )
    await trial.change(failed, state="retryable")
    assert (await trial.engine.stage(10, now=NOW)).queues == {}
    assert (await trial.engine.stage(10, now=NOW + SECOND)).queues == {"a": 2, "c": 1}
    assert (await trial.engine.stage(10, now=NOW + SECOND)).queues == {}
    assert await trial.states() == ["available", "scheduled", "available", "available", "suspended"]
    assert (await trial.get(due)).scheduled_at == NOW + SECOND
    assert late.id
    assert to_come.id


async def test_the_longest_due_are_staged_first_and_never_more_than_the_limit(trial: Trial):
    await trial.insert(*(job(scheduled_at=NOW + seconds * SECOND) for seconds in (3, 1, 2)))
    await trial.engine.stage(2, now=NOW + HOUR)
    assert await trial.states() == ["scheduled", "available", "available"]


async def test_staging_tells_in_how_long_the_next_job_is_due(trial: Trial):
    async def next_in(moment: datetime, limit: int = 10) -> timedelta | None:
        found = (await trial.engine.stage(limit, now=moment)).next_in
        return found and timedelta(
            milliseconds=int(found / timedelta(milliseconds=1))
        )  # SQLite rounds up to these

    await trial.insert(job(), job(state=State.SUSPENDED))
    assert await next_in(NOW) is None
    first, failed, *_ = await trial.insert(
        *(job(scheduled_at=NOW + seconds * SECOND) for seconds in (3, 2, 3.25, 3.25, 5_000))
    )
    await trial.change(failed, state="retryable")
    assert await next_in(NOW) in (2 * SECOND, 2.001 * SECOND)
    assert await next_in(NOW + 2 * SECOND) in (SECOND, 1.001 * SECOND)
    assert (await trial.get(first)).state is State.SCHEDULED
    assert await next_in(NOW + 4 * SECOND, limit=1) in (4_996 * SECOND, 4_996.001 * SECOND), (
        "what is due already and beyond the limit is no matter of time"
    )
    assert await trial.states() == ["available", "suspended"] + ["available"] * 2 + ["scheduled"] * 3


async def test_a_time_that_will_never_come_is_waited_for_by_nobody(trial: Trial):
    await trial.insert_many(1, schedule_in=HOUR)
    await trial.change_all("true", scheduled_at="infinity" if trial.is_postgres else "soon")
    assert await trial.engine.stage(10, now=NOW) == ({}, None)
    assert await trial.states() == ["scheduled"]


async def test_without_a_given_time_staging_goes_by_the_clock_of_the_database(trial: Trial):
    past, future = await trial.engine.insert([job(schedule_in=HOUR), job(schedule_in=HOUR)])
    await trial.change(past, scheduled_at=past.inserted_at.isoformat())
    assert (await trial.engine.stage(10)).queues == {"default": 1}
    assert (await trial.get(future)).state is State.SCHEDULED


# Life and death of producers


async def test_a_producer_lives_from_its_registration_to_its_retirement(trial: Trial):
    producer = await trial.producer("q", "here")
    [seen] = await trial.engine.producers()
    assert (seen.id, seen.node, seen.queue, seen.limit) == (producer.id, "here", "q", 10)
    assert (seen.expired, seen.started_at) == (False, seen.beat_at)
    assert await trial.engine.beat([producer.id]) == [producer.id]
    await trial.engine.retire([producer.id])
    assert await trial.engine.beat([producer.id]) == []
    assert [each.expired for each in await trial.engine.producers()] == [True]


async def test_registering_again_changes_nothing(trial: Trial):
    producer = await trial.producer()
    await trial.engine.beat([producer.id])
    before = await trial.engine.producers()
    await trial.engine.register([producer, producer])
    assert await trial.engine.producers() == before


async def test_every_beat_counts(trial: Trial):
    first, second = await trial.producer(), await trial.producer()
    assert sorted(await trial.engine.beat([first.id, second.id, "nobody"])) == sorted([first.id, second.id])
    await trial.engine.beat([first.id])
    beats = {each.id: each.beat for each in await trial.engine.producers()}
    assert beats == {first.id: 2, second.id: 1}


async def test_a_producer_whose_beat_moved_again_is_not_taken_for_dead(trial: Trial):
    silent, living = await trial.producer(), await trial.producer()
    seen = [Beat(each.id, each.beat) for each in await trial.engine.producers()]
    await trial.engine.beat([living.id])
    assert await trial.engine.expire(seen) == [silent.id]
    assert await trial.engine.expire(seen) == []
    assert await trial.engine.beat([silent.id, living.id]) == [living.id]


async def test_expired_producers_take_nothing_more(trial: Trial):
    await trial.insert_many(1)
    producer = await trial.producer()
    assert await trial.engine.expire([Beat(producer.id, 0)]) == [producer.id]
    assert await trial.take(producer) == []
    assert await trial.states() == ["available"]


async def test_dead_producers_are_forgotten_after_a_day_unless_a_job_is_still_under_them(trial: Trial):
    forgotten, recent, (holder, held) = (
        await trial.producer(),
        await trial.producer(),
        await trial.taken(job()),
    )
    await trial.engine.retire([forgotten.id, recent.id, holder.id])
    for old in (forgotten, holder):
        await trial.sql(
            f"update staffa_producers set expired_at = '2020-01-01T00:00:00.000000Z' where id = '{old.id}'"
        )
    assert ids(await trial.engine.rescue(10, now=NOW)) == [held.id]
    assert {each.id for each in await trial.engine.producers()} == {forgotten.id, recent.id, holder.id}
    assert await trial.engine.rescue(10, now=NOW) == []
    assert [each.id for each in await trial.engine.producers()] == [recent.id]


# Rescue


async def test_jobs_of_the_living_are_not_rescued(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.engine.beat([producer.id])
    assert await trial.engine.rescue(10, now=NOW + 365 * 24 * HOUR) == []
    assert await trial.get(held) == held


async def test_executing_jobs_of_nobody_we_know_are_left_alone(trial: Trial):
    stored = await trial.insert_many(3)
    elixir, python = ("{a,b}", "{a}") if trial.is_postgres else ('["a", "b"]', '["a"]')
    await trial.change(stored[0], state="executing", attempted_by=elixir)
    await trial.change(stored[1], state="executing", attempted_by=python)
    await trial.change(stored[2], state="executing")
    assert await trial.engine.rescue(10, now=NOW + HOUR) == []
    assert await trial.states() == ["executing"] * 3


async def test_a_first_rescue_is_at_once_and_returns_the_attempt(trial: Trial):
    rescued = await trial.orphan(job(meta={"a": 1}, max_attempts=1))
    assert (rescued.state, rescued.attempt, rescued.errors) == (State.AVAILABLE, 0, [])
    assert rescued.meta == {"a": 1, "rescued": 1}
    assert await trial.get(rescued) == rescued


@pytest.mark.parametrize(("times", "least"), [(2, 5), (3, 10), (4, 20)])
async def test_later_rescues_wait_longer_each_time(trial: Trial, times: int, least: int):
    rescued = await trial.orphan(job(), times)
    last = NOW + (times - 1) * HOUR
    assert (rescued.state, rescued.attempt) == (State.SCHEDULED, 0)
    assert rescued.meta == {"rescued": times}
    assert rescued.scheduled_at is not None
    assert least * SECOND <= rescued.scheduled_at - last <= 2 * least * SECOND
    assert await trial.get(rescued) == rescued


async def test_the_fifth_orphaning_discards_and_says_why(trial: Trial):
    given_up = await trial.orphan(job(), 5)
    assert (given_up.state, given_up.discarded_at) == (State.DISCARDED, NOW + 4 * HOUR)
    assert "orphaned 5 times" in error_of(given_up)["error"]
    assert await trial.get(given_up) == given_up


async def test_rescue_takes_no_more_than_its_limit(trial: Trial):
    await trial.insert_many(5)
    producer = await trial.producer()
    await trial.take(producer)
    await trial.engine.retire([producer.id])
    assert [len(await trial.engine.rescue(2, now=NOW)) for _ in range(4)] == [2, 2, 1, 0]


async def test_two_who_rescue_at_once_share_the_work(trial: Trial):
    await trial.insert_many(30)
    producer = await trial.producer()
    await trial.take(producer, 30)
    await trial.engine.retire([producer.id])
    batches = await asyncio.gather(*(trial.engine.rescue(30, now=NOW) for _ in range(4)))
    rescued = [each for batch in batches for each in ids(batch)]
    assert len(rescued) == len(set(rescued))
    await trial.engine.rescue(30, now=NOW)
    assert await trial.states() == ["available"] * 30
    assert {each.meta["rescued"] for each in await trial.take(await trial.producer(), 30)} == {1}


# Pruning


async def _finished(trial: Trial, age: timedelta) -> dict[State, int]:
    completed, cancelled, discarded = await trial.insert_many(3)
    moment = (NOW - age).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    await trial.change(completed, state="completed", completed_at=moment)
    await trial.change(cancelled, state="cancelled", cancelled_at=moment)
    await trial.change(discarded, state="discarded", discarded_at=moment)
    return dict(zip(finals(), ids([completed, cancelled, discarded]), strict=True))


async def test_pruning_keeps_the_young_and_the_unfinished(trial: Trial):
    await _finished(trial, HOUR + SECOND)
    young = await _finished(trial, HOUR - SECOND)
    unfinished = []
    for state in ("available", "suspended", "scheduled", "executing", "retryable"):
        [stored] = await trial.insert(job(), now=NOW - 999 * HOUR)
        await trial.change(stored, state=state, completed_at="2020-01-01T00:00:00.000000Z")
        unfinished.append(stored.id)
    assert await trial.engine.prune(finals(), 10, now=NOW) == dict.fromkeys(finals(), 1)
    left = [row[0] for row in await trial.sql("select id from oban_jobs order by id")]
    assert left == [*young.values(), *unfinished]
    assert await trial.engine.prune(finals(), 10, now=NOW) == {}


@pytest.mark.parametrize("state", list(finals()))
async def test_each_state_has_an_age_of_its_own(trial: Trial, state: State):
    old = await _finished(trial, 2 * HOUR)
    ages = {each: HOUR if each is state else 3 * HOUR for each in finals()}
    assert await trial.engine.prune(ages, 10, now=NOW) == {state: 1}
    left = {row[0] for row in await trial.sql("select id from oban_jobs")}
    assert left == {stored for each, stored in old.items() if each is not state}


async def test_a_state_without_an_age_is_kept_for_ever(trial: Trial):
    await _finished(trial, 99_999 * HOUR)
    assert await trial.engine.prune({}, 10, now=NOW) == {}
    assert await trial.engine.prune({State.DISCARDED: HOUR}, 10, now=NOW) == {State.DISCARDED: 1}
    assert await trial.states() == ["completed", "cancelled"]


async def test_an_age_without_end_prunes_nothing(trial: Trial):
    await _finished(trial, HOUR)
    assert await trial.engine.prune(dict.fromkeys(finals(), timedelta.max), 10, now=NOW) == {}


async def test_pruning_takes_the_oldest_of_each_state_up_to_the_limit(trial: Trial):
    for age in (2, 4, 3):
        await _finished(trial, age * HOUR)
    assert await trial.engine.prune(finals(), 2, now=NOW) == dict.fromkeys(finals(), 2)
    assert {row[0] for row in await trial.sql("select id from oban_jobs")} == {1, 2, 3}


async def test_without_a_given_time_age_goes_by_the_clock_of_the_database(trial: Trial):
    stored = await trial.engine.insert([job(), job()])
    await trial.engine.cancel(these(ids(stored)))
    await trial.change(stored[0], cancelled_at=(stored[0].inserted_at - HOUR).isoformat())
    assert await trial.engine.prune({State.CANCELLED: HOUR / 2}, 10) == {State.CANCELLED: 1}
    assert await trial.engine.prune({State.CANCELLED: timedelta(0)}, 10) == {State.CANCELLED: 1}


# What a late worker says after a rescue is covered by the exchange; here, that the rescue wins while it runs


async def test_a_rescue_and_an_ack_at_once_leave_one_outcome(trial: Trial):
    await trial.insert_many(20)
    producer = await trial.producer()
    held = await trial.take(producer, 20)
    await trial.engine.retire([producer.id])
    exchanged, rescued = await asyncio.gather(
        trial.complete(producer, *held), trial.engine.rescue(20, now=NOW)
    )
    again = exchanged.again
    while again:
        again = (await trial.hand_in(producer, *again)).again
    found = {each.id: each.state for each in await asyncio.gather(*(trial.get(each) for each in held))}
    assert {each.id for each in rescued} == {
        each for each, state in found.items() if state is State.AVAILABLE
    }
    assert set(found.values()) <= {State.AVAILABLE, State.COMPLETED}
    assert all(isinstance(bounced, Ack) for bounced in exchanged.bounced)
    assert replace(held[0], state=found[held[0].id]) != held[0]
