"""What every engine promises to a queue that hands in what it finished and takes what it may start."""

import asyncio
from datetime import timedelta

import pytest

from contract import HOUR, NOW, SECOND, Trial, error_of, failed, finals, ids, job, these
from staffa import State, _lifecycle
from staffa._clock import instant
from staffa._cursor import START, position_of
from staffa._filter import JobFilter
from staffa._job import replace
from staffa.engine import Ack

# Taking


async def test_jobs_are_taken_in_order_of_priority_time_and_id(trial: Trial):
    last, third, second, first, fourth = await trial.insert(
        job(priority=9, scheduled_at=NOW - 9 * SECOND),
        job(priority=1, scheduled_at=NOW - SECOND),
        job(priority=1, scheduled_at=NOW - 2 * SECOND),
        job(priority=0),
        job(priority=1, scheduled_at=NOW - SECOND),
    )
    producer = await trial.producer()
    taken = ids(await trial.take(producer, 2)) + ids(await trial.take(producer, 10))
    assert taken == ids([first, second, third, fourth, last])


async def test_jobs_are_taken_as_they_are_stored(trial: Trial):
    stored = await trial.insert(
        job(),
        job(
            worker='My "own" \\ Wörker',
            args={"text": 'ü "quoted" \\ \n % \u2028', "deep": [[{"a": None}], 1.5, -(2**53), True], "": {}},
            meta={"who": {"name": "%s"}},
            tags=["a", 'b "c"'],
            priority=7,
            max_attempts=3,
        ),
        job(scheduled_at=NOW - HOUR),
    )
    moments = {"completed_at": NOW, "discarded_at": NOW - SECOND, "cancelled_at": NOW - HOUR}
    history = {name: instant(moment) for name, moment in moments.items()}
    producer, earlier = await trial.producer(), await trial.producer()
    [once] = await trial.insert(job(max_attempts=2))
    for each in await trial.take(earlier):
        await trial.hand_in(earlier, (each, replace(failed(each), meta={"n": 1})))
    await trial.change_all("true", state="available")
    await trial.change(once, unique_key='a "key"', **history)

    taken = {each.id: each for each in await trial.take(producer, now=NOW + SECOND)}
    assert set(taken) == set(ids([*stored, once]))
    assert taken == {each.id: each for each in await trial.engine.jobs(JobFilter())}
    assert {each.take for each in taken.values()} == {2}


async def test_one_odd_row_changes_none_of_those_that_are_taken_with_it(on_sqlite: Trial):
    trial = on_sqlite
    rows = await trial.insert_many(4, tags=["t"])
    await trial.change(rows[1], args='{"a": 1}, "id": 1, "take": 7, "conflict": true')
    await trial.change(rows[2], args='{}}, {"args": {}')
    taken = await trial.take(await trial.producer())
    assert taken == (await trial.engine.jobs(JobFilter()))[::-1]
    assert [each.tags for each in taken] == [["t"]] * 4


async def test_never_more_is_taken_than_demanded(trial: Trial):
    await trial.insert_many(5)
    producer = await trial.producer()
    assert [len(await trial.take(producer, demand)) for demand in (0, 2, 1, 9, 9)] == [0, 2, 1, 2, 0]


async def test_a_look_behind_a_position_finds_all_that_come_after_it_in_order(trial: Trial):
    producer = await trial.producer()
    earlier = [job(priority=1, scheduled_at=NOW - each * SECOND) for each in (9, 8)]
    [first, *rest] = await trial.insert(
        *earlier,
        *(job(priority=1, scheduled_at=NOW - 7 * SECOND) for _ in range(2)),
        job(priority=1, scheduled_at=NOW - 6 * SECOND),
        job(priority=2, scheduled_at=NOW - 9 * SECOND),
    )
    taken = (await trial.engine.exchange(producer, [], 1, now=NOW)).taken
    assert ids(taken) == [first.id]
    for each in rest:
        exchanged = await trial.engine.exchange(producer, [], 1, after=position_of(taken[-1]), now=NOW)
        taken += exchanged.taken
        assert ids(exchanged.taken) == [each.id]
    assert (await trial.engine.exchange(producer, [], 1, after=position_of(taken[-1]), now=NOW)).taken == []


async def test_what_comes_before_a_position_is_passed_over_at_most_until_somebody_looks_for_all(trial: Trial):
    producer = await trial.producer()
    [last] = await trial.insert(job(priority=5))
    await trial.take(producer)
    urgent, early = await trial.insert(job(), job(priority=5, scheduled_at=NOW - HOUR))
    seen = (await trial.engine.exchange(producer, [], 9, after=position_of(last), now=NOW)).taken
    assert ids(seen) == ([] if trial.is_postgres else ids([urgent, early]))
    seen += await trial.take(producer)
    assert ids(seen) == ids([urgent, early])


async def test_there_are_no_jobs_before_the_start(trial: Trial):
    stored = await trial.insert(job(priority=0, scheduled_at=NOW - HOUR))
    exchanged = await trial.engine.exchange(await trial.producer(), [], 9, after=START, now=NOW)
    assert ids(exchanged.taken) == ids(stored)


async def test_a_queue_takes_only_its_own_jobs(trial: Trial):
    await trial.insert(job(queue="others"), job(queue="own"), job(queue="own "))
    assert [each.queue for each in await trial.take(await trial.producer("own"))] == ["own"]


@pytest.mark.parametrize("state", [state for state in State if state is not State.AVAILABLE])
async def test_only_available_jobs_are_taken(trial: Trial, state: State):
    [stored] = await trial.insert(job())
    await trial.change(stored, state=str(state))
    assert await trial.take(await trial.producer()) == []


async def test_a_taken_job_says_who_took_it_when_and_for_the_which_time(trial: Trial):
    [stored] = await trial.insert(job(args={"a": 1}, meta={"b": 2}, tags=["c"]))
    producer = await trial.producer(node="here")
    [taken] = await trial.take(producer, now=NOW + SECOND)
    assert taken == replace(
        stored,
        state=State.EXECUTING,
        attempt=1,
        take=1,
        attempted_at=NOW + SECOND,
        attempted_by=["here", producer.id],
    )
    assert await trial.get(taken) == taken


async def test_without_a_given_time_jobs_are_taken_by_the_clock_of_the_database(trial: Trial):
    [stored] = await trial.engine.insert([job()])
    [taken] = (await trial.engine.exchange(await trial.producer(), [], 1)).taken
    assert stored.inserted_at <= taken.attempted_at < stored.inserted_at + timedelta(minutes=1)


async def test_racing_exchanges_never_share_a_job(trial: Trial):
    stored = await trial.insert_many(60)
    producers = [await trial.producer() for _ in range(8)]
    batches = await asyncio.gather(*(trial.take(each, 5) for each in producers for _ in range(3)))
    taken = [each for batch in batches for each in ids(batch)]
    assert len(taken) == len(set(taken))
    rest = await trial.take(producers[0], 100)
    assert sorted(taken + ids(rest)) == ids(stored)


async def test_a_producer_that_nobody_knows_takes_nothing(trial: Trial):
    await trial.insert_many(1)
    known = await trial.producer()
    unknown = replace(known, id="nobody")
    assert await trial.take(unknown) == []
    assert len(await trial.take(known)) == 1


async def test_a_retired_producer_takes_nothing_more_but_still_hands_in(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.insert_many(1)
    await trial.engine.retire([producer.id])
    assert await trial.take(producer) == []
    assert await trial.complete(producer, held) == ([], [], [])
    assert await trial.states() == ["completed", "available"]


# Handing in


async def test_handing_in_and_taking_is_one_exchange(trial: Trial):
    _, second = await trial.insert_many(2)
    producer = await trial.producer()
    [held] = await trial.take(producer, 1)
    exchanged = await trial.hand_in(producer, (held, _lifecycle.completed(held, NOW)), demand=5)
    assert (ids(exchanged.taken), exchanged.again, exchanged.bounced) == ([second.id], [], [])
    assert await trial.states() == ["completed", "executing"]


async def test_a_completed_job_keeps_all_else(trial: Trial):
    producer, held = await trial.taken(job(args={"a": [1]}, meta={"m": 1}, tags=["t"]))
    await trial.complete(producer, held, now=NOW + SECOND)
    done = replace(held, state=State.COMPLETED, completed_at=NOW + SECOND)
    assert await trial.get(held) == done


async def test_many_outcomes_are_handed_in_at_once(trial: Trial):
    await trial.insert_many(400)
    producer = await trial.producer()
    held = await trial.take(producer, 400)
    outcomes = [
        (each, _lifecycle.completed(each, NOW) if each.id % 2 else failed(each)) for each in held if each.id
    ]
    assert await trial.hand_in(producer, *outcomes) == ([], [], [])
    assert sorted(await trial.states()) == ["completed"] * 200 + ["retryable"] * 200


async def test_a_failed_job_waits_and_says_why(trial: Trial):
    producer, held = await trial.taken(job())
    assert await trial.hand_in(producer, (held, failed(held, "böse\n🎉", 90 * SECOND))) == ([], [], [])
    found = await trial.get(held)
    assert (found.state, found.scheduled_at, found.attempt) == (State.RETRYABLE, NOW + 90 * SECOND, 1)
    assert found.errors == [{"at": "2030-01-01T12:00:00.000000Z", "attempt": 1, "error": "böse\n🎉"}]


async def test_errors_gather_oldest_first(trial: Trial):
    producer, held = await trial.taken(job(max_attempts=2))
    await trial.hand_in(producer, (held, failed(held, "first")))
    await trial.engine.stage(1, now=NOW + SECOND)
    [held] = await trial.take(producer)
    await trial.hand_in(producer, (held, failed(held, "second")))
    found = await trial.get(held)
    assert [(each["attempt"], each["error"]) for each in found.errors] == [(1, "first"), (2, "second")]
    assert (found.state, found.discarded_at) == (State.DISCARDED, NOW)


async def test_a_snoozed_job_gets_its_attempt_back(trial: Trial):
    producer, held = await trial.taken(job(meta={"kept": {"a": 1}}))
    await trial.hand_in(producer, (held, _lifecycle.snoozed(held, NOW, 30 * SECOND)))
    found = await trial.get(held)
    assert (found.state, found.scheduled_at, found.attempt) == (State.SCHEDULED, NOW + 30 * SECOND, 0)
    assert found.meta == {"kept": {"a": 1}, "snoozed": 1}
    assert found.take == 1


async def test_a_job_that_cancels_itself_says_why(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.hand_in(producer, (held, _lifecycle.cancelled(held, NOW, "no such file")))
    found = await trial.get(held)
    assert (found.state, found.cancelled_at, error_of(found)["error"]) == (
        State.CANCELLED,
        NOW,
        "no such file",
    )


async def test_a_job_handed_back_is_available_with_its_attempt(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.hand_in(producer, (held, _lifecycle.handed_back(held)))
    [again] = await trial.take(producer)
    assert (again.id, again.attempt, again.take) == (held.id, 1, 2)


async def test_what_a_job_became_is_merged_into_meta_that_changed_meanwhile(trial: Trial):
    producer, held = await trial.taken(job(meta={"a": 1}))
    await trial.change(held, meta='{"a": 1, "by_hand": true}')
    await trial.hand_in(producer, (held, _lifecycle.snoozed(held, NOW, SECOND)))
    assert (await trial.get(held)).meta == {"a": 1, "by_hand": True, "snoozed": 1}


async def test_meta_that_holds_objects_is_replaced_key_by_key(trial: Trial):
    producer, held = await trial.taken(job(meta={"progress": {"current": 1, "note": "old"}}))
    after = _lifecycle.completed(held, NOW)
    told = {"current": 2, "total": None, "note": None}
    await trial.hand_in(producer, (held, replace(after, meta={**held.meta, "progress": told})))
    assert (await trial.get(held)).meta == {"progress": told}


# Acks that come too late


async def test_an_ack_of_a_cancelled_job_bounces(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.engine.cancel(these([held.id]), now=NOW)
    cancelled = await trial.get(held)
    for after in (_lifecycle.completed(held, NOW), failed(held), _lifecycle.snoozed(held, NOW, SECOND)):
        assert await trial.hand_in(producer, (held, after)) == ([], [], [Ack(held, after)])
    assert await trial.get(held) == cancelled


async def test_an_ack_of_a_rescued_job_bounces(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.engine.retire([producer.id])
    [rescued] = await trial.engine.rescue(10, now=NOW)
    for after in (_lifecycle.completed(held, NOW), failed(held)):
        assert await trial.hand_in(producer, (held, after)) == ([], [], [Ack(held, after)])
    assert await trial.get(held) == rescued


@pytest.mark.parametrize("by_the_same", [True, False])
async def test_an_ack_of_a_job_that_was_taken_again_bounces(trial: Trial, by_the_same: bool):
    producer, lost = await trial.taken(job())
    await trial.hand_in(producer, (lost, _lifecycle.handed_back(lost)))
    [held] = await trial.take(producer if by_the_same else await trial.producer())
    assert held.attempt == lost.attempt
    for after in (_lifecycle.completed(lost, NOW), failed(lost)):
        assert await trial.hand_in(producer, (lost, after)) == ([], [], [Ack(lost, after)])
    assert await trial.get(held) == held


async def test_an_ack_of_a_deleted_job_bounces(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.engine.cancel(these([held.id]))
    await trial.engine.delete(these([held.id]))
    for after in (_lifecycle.completed(held, NOW), failed(held)):
        assert (await trial.hand_in(producer, (held, after))).bounced == [Ack(held, after)]


async def test_an_ack_of_somebody_elses_job_bounces(trial: Trial):
    _, held = await trial.taken(job())
    thief = await trial.producer()
    after = _lifecycle.completed(held, NOW)
    assert (await trial.hand_in(thief, (held, after))).bounced == [Ack(held, after)]
    assert await trial.get(held) == held


async def test_an_ack_of_a_job_that_obans_own_node_took_meanwhile_bounces(trial: Trial):
    producer, held = await trial.taken(job())
    await trial.hand_in(producer, (held, _lifecycle.handed_back(held)))
    elixir = "{node,uuid}" if trial.is_postgres else '["node", "uuid"]'
    await trial.change(held, state="executing", attempt=1, attempted_by=elixir)  # which knows no `take`
    theirs = await trial.get(held)
    assert theirs.take == held.take
    for after in (_lifecycle.completed(held, NOW), failed(held)):
        assert await trial.hand_in(producer, (held, after)) == ([], [], [Ack(held, after)])
    assert await trial.get(held) == theirs


async def test_late_acks_do_not_hold_up_their_neighbours(trial: Trial):
    await trial.insert_many(4)
    producer = await trial.producer()
    held = await trial.take(producer)
    await trial.engine.cancel(these([held[0].id, held[1].id]))
    after = [
        failed(held[0]),
        _lifecycle.completed(held[1], NOW),
        failed(held[2]),
        _lifecycle.completed(held[3], NOW),
    ]
    exchanged = await trial.hand_in(producer, *zip(held, after, strict=True))
    assert sorted(each.held.id for each in exchanged.bounced) == ids(held[:2])
    assert await trial.states() == ["cancelled", "cancelled", "retryable", "completed"]


# Acks that come twice


@pytest.mark.parametrize("become", ["completed", "retryable", "scheduled", "cancelled", "available"])
async def test_an_ack_that_was_applied_before_is_success_when_it_comes_again(trial: Trial, become: str):
    producer, held = await trial.taken(job())
    after = {
        "completed": _lifecycle.completed(held, NOW),
        "retryable": failed(held),
        "scheduled": _lifecycle.snoozed(held, NOW, SECOND),
        "cancelled": _lifecycle.cancelled(held, NOW, "no"),
        "available": _lifecycle.handed_back(held),
    }[become]
    assert await trial.hand_in(producer, (held, after)) == ([], [], [])
    recorded = await trial.get(held)
    assert recorded.state == become
    assert await trial.hand_in(producer, (held, after), now=NOW + SECOND) == ([], [], [])
    assert await trial.get(held) == recorded


async def test_an_ack_given_twice_in_one_exchange_is_applied_once(trial: Trial):
    producer, held = await trial.taken(job())
    after = failed(held)
    assert await trial.hand_in(producer, (held, after), (held, after)) == ([], [], [])
    assert len((await trial.get(held)).errors) == 1


# Acks that the database refuses


@pytest.mark.parametrize("poison", ["a \0 b", "a \ud800 b"], ids=["NUL", "lone surrogate"])
async def test_text_that_no_database_takes_is_made_visible_and_blocks_nobody(trial: Trial, poison: str):
    await trial.insert_many(4)
    producer = await trial.producer()
    held = await trial.take(producer, 3)
    outcomes = [
        (held[0], failed(held[0], "fine")),
        (held[1], failed(held[1], poison)),
        (held[2], _lifecycle.completed(held[2], NOW)),
    ]
    exchanged = await trial.hand_in(producer, *outcomes, demand=1)
    assert (len(exchanged.taken), exchanged.again, exchanged.bounced) == (1, [], [])
    assert await trial.states() == ["retryable", "retryable", "completed", "executing"]
    shown = error_of(await trial.get(held[1]))["error"]
    assert shown in ("a \\x00 b", "a \\ud800 b")


async def test_an_outcome_that_cannot_be_stored_stays_open_and_blocks_nobody(trial: Trial):
    await trial.insert_many(4)
    producer = await trial.producer()
    held = await trial.take(producer, 3)
    unstorable = replace(failed(held[1]), attempt=None)
    outcomes = [
        (held[0], failed(held[0])),
        (held[1], unstorable),
        (held[2], _lifecycle.completed(held[2], NOW)),
    ]
    exchanged = await trial.hand_in(producer, *outcomes, demand=1)
    assert (len(exchanged.taken), exchanged.again, exchanged.bounced) == (1, [Ack(held[1], unstorable)], [])
    assert await trial.states() == ["retryable", "executing", "completed", "executing"]


# Rows that somebody else has locked (only PostgreSQL locks rows)


async def test_an_ack_of_a_locked_row_comes_back_and_stalls_nobody(on_postgres: Trial):
    trial = on_postgres
    await trial.insert_many(5)
    producer = await trial.producer()
    held = await trial.take(producer, 4)
    plain, other = _lifecycle.completed(held[0], NOW), failed(held[1])
    neighbours = [(held[2], _lifecycle.completed(held[2], NOW)), (held[3], failed(held[3]))]

    async with locked(trial, held[0].id, held[1].id):
        exchanged = await asyncio.wait_for(
            trial.hand_in(producer, (held[0], plain), (held[1], other), *neighbours, demand=1), 10
        )
        assert len(exchanged.taken) == 1
        assert exchanged.bounced == []
        assert sorted(exchanged.again, key=lambda ack: ack.held.id) == [
            Ack(held[0], plain),
            Ack(held[1], other),
        ]

    assert await trial.hand_in(producer, *exchanged.again) == ([], [], [])
    assert (await trial.states())[:4] == ["completed", "retryable", "completed", "retryable"]


async def test_locked_rows_are_passed_over_by_all_that_sweeps(on_postgres: Trial):
    trial = on_postgres
    available, due, orphan, old = await trial.insert_many(4)
    lost = await trial.producer()
    await trial.change(due, state="retryable")
    await trial.change(orphan, state="executing", attempt=1, attempted_by=["n", lost.id])
    await trial.change(old, state="completed", completed_at=NOW - timedelta(days=1))
    await trial.engine.retire([lost.id])
    producer = await trial.producer()

    async with locked(trial, *ids([available, due, orphan, old])), asyncio.timeout(10):
        assert await trial.take(producer) == []
        assert (await trial.engine.stage(10, now=NOW)).queues == {}
        assert await trial.engine.rescue(10, now=NOW) == []
        assert await trial.engine.prune(finals(), 10, now=NOW) == {}
        assert (await trial.engine.reconcile(lost, [])).handed_back == []
    assert await trial.states() == ["available", "retryable", "executing", "completed"]


def locked(trial: Trial, *ids: int | None):
    """Hold rows in somebody's open transaction."""
    return trial.holding("select from oban_jobs where id = any(?) for update", list(ids))


async def test_two_attempts_at_a_job_that_fail_at_once_are_told_apart(trial: Trial):
    producer, lost = await trial.taken(job())
    await trial.change(lost, state="available")
    [held] = await trial.take(producer)
    assert await trial.hand_in(producer, (lost, failed(lost, "late")), (held, failed(held, "in time"))) == (
        [],
        [],
        [Ack(lost, failed(lost, "late"))],
    )
    assert [each["error"] for each in (await trial.get(held)).errors] == ["in time"]
