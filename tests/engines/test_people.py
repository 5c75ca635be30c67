"""What every engine promises to people who look at jobs and act on them."""

import asyncio

import pytest

from contract import HOUR, NOW, SECOND, Trial, failed, ids, job, these
from staffa import State, _lifecycle
from staffa._filter import JobFilter
from staffa._job import replace

UNFINISHED = ("available", "suspended", "scheduled", "executing", "retryable")
FINISHED = ("completed", "discarded", "cancelled")


async def _in_every_state(trial: Trial) -> dict[str, int]:
    stored = await trial.insert_many(8)
    for each, state in zip(stored, (*UNFINISHED, *FINISHED), strict=True):
        await trial.change(each, state=state)
    return dict(zip((*UNFINISHED, *FINISHED), ids(stored), strict=True))


# Cancelling


async def test_cancelling_spares_what_is_finished_and_tells_what_was_before(trial: Trial):
    stored = await _in_every_state(trial)
    cancelled = await trial.engine.cancel(these(list(stored.values())), now=NOW + SECOND)
    assert {each.was: each.job.id for each in cancelled} == {state: stored[state] for state in UNFINISHED}
    assert {each.job.state for each in cancelled} == {State.CANCELLED}
    assert {each.job.cancelled_at for each in cancelled} == {NOW + SECOND}
    assert await trial.states() == ["cancelled"] * 5 + list(FINISHED)


async def test_a_cancelled_job_keeps_all_else(trial: Trial):
    _, held = await trial.taken(job(args={"a": 1}, meta={"b": {"c": None}}, tags=["t"]))
    [cancelled] = await trial.engine.cancel(these([held.id]), now=NOW)
    assert cancelled.job == replace(held, state=State.CANCELLED, cancelled_at=NOW)
    assert await trial.get(held) == cancelled.job


async def test_cancelling_twice_or_nobody_changes_nothing(trial: Trial):
    [stored] = await trial.insert(job())
    await trial.engine.cancel(these([stored.id]), now=NOW)
    assert await trial.engine.cancel(these([stored.id, 999]), now=NOW + SECOND) == []
    assert await trial.engine.cancel(these([])) == []
    assert (await trial.get(stored)).cancelled_at == NOW


async def test_a_job_is_either_cancelled_or_taken_not_both(trial: Trial):
    stored = await trial.insert_many(30)
    producer = await trial.producer()
    taken, cancelled = await asyncio.gather(
        trial.take(producer, 30), trial.engine.cancel(these(ids(stored)), now=NOW)
    )
    before = {each.job.id: each.was for each in cancelled}
    assert len(before) == 30
    assert {each for each, was in before.items() if was is State.EXECUTING} == set(ids(taken))
    assert (await trial.complete(producer, *taken)).again == []
    assert await trial.states() == ["cancelled"] * 30


# Retrying


async def test_retrying_spares_what_is_available_or_executing(trial: Trial):
    stored = await _in_every_state(trial)
    retried = await trial.engine.retry(these(list(stored.values())), now=NOW + SECOND)
    spared = {stored["available"], stored["executing"]}
    assert set(ids(retried)) == set(stored.values()) - spared
    assert {(each.job.state, each.job.scheduled_at) for each in retried} == {(State.AVAILABLE, NOW + SECOND)}
    assert sorted(await trial.states()) == ["available"] * 7 + ["executing"]


async def test_a_spent_job_that_is_retried_truly_runs(trial: Trial):
    producer, held = await trial.taken(job(max_attempts=1))
    await trial.hand_in(producer, (held, failed(held)))
    [(_, retried)] = await trial.engine.retry(these([held.id]), now=NOW + HOUR)
    assert (retried.max_attempts, retried.attempt, len(retried.errors)) == (2, 1, 1)
    assert (retried.completed_at, retried.discarded_at, retried.cancelled_at) == (None, None, None)
    assert await trial.get(held) == retried
    [again] = await trial.take(producer, now=NOW + HOUR)
    assert (again.state, again.attempt) == (State.EXECUTING, 2)
    assert await trial.complete(producer, again) == ([], [], [])
    assert (await trial.get(held)).state is State.COMPLETED


async def test_a_job_with_attempts_left_keeps_its_limit_when_retried(trial: Trial):
    producer, held = await trial.taken(job(max_attempts=3))
    await trial.complete(producer, held)
    [(_, retried)] = await trial.engine.retry(these([held.id]))
    assert (retried.max_attempts, retried.completed_at) == (3, None)


async def test_a_job_for_later_runs_now_when_retried(trial: Trial):
    [stored] = await trial.insert(job(schedule_in=HOUR))
    await trial.engine.retry(these([stored.id]), now=NOW)
    assert ids(await trial.take(await trial.producer())) == [stored.id]


async def test_two_who_retry_at_once_retry_once(trial: Trial):
    [stored] = await trial.insert(job())
    await trial.engine.cancel(these([stored.id]))
    batches = await asyncio.gather(*(trial.engine.retry(these([stored.id]), now=NOW) for _ in range(4)))
    assert sorted(len(batch) for batch in batches) == [0, 0, 0, 1]


# Deleting


async def test_deleting_spares_what_is_executing(trial: Trial):
    stored = await _in_every_state(trial)
    deleted = await trial.engine.delete(these([*stored.values(), 999]))
    assert sorted(deleted) == sorted(set(stored.values()) - {stored["executing"]})
    assert await trial.states() == ["executing"]


# Looking


async def test_an_empty_filter_lists_the_newest_first_up_to_its_limit(trial: Trial):
    stored = ids(await trial.insert_many(60))
    assert ids(await trial.engine.jobs(JobFilter())) == stored[:-51:-1]
    assert ids(await trial.engine.jobs(JobFilter(limit=2))) == stored[:-3:-1]


async def test_a_listing_continues_below_an_id(trial: Trial):
    stored = ids(await trial.insert_many(5))
    first = ids(await trial.engine.jobs(JobFilter(limit=2)))
    second = ids(await trial.engine.jobs(JobFilter(limit=2, before=first[-1])))
    third = ids(await trial.engine.jobs(JobFilter(limit=2, before=second[-1])))
    assert first + second + third == stored[::-1]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"ids": [1, 3, 99]}, [3, 1]),
        ({"ids": [99]}, []),
        ({"states": [State.AVAILABLE]}, [4, 2, 1]),
        ({"states": [State.SCHEDULED, State.SUSPENDED]}, [5, 3]),
        ({"queues": ["a"]}, [3, 1]),
        ({"queues": ["a", "b"]}, [4, 3, 2, 1]),
        ({"workers": ["W"]}, [3, 2]),
        ({"queues": ["a"], "states": [State.AVAILABLE], "workers": ["w"]}, [1]),
        ({"ids": [1, 2, 3], "queues": ["b"], "before": 3}, [2]),
        ({"ids": [5, 4, 3, 2, 1], "limit": 1}, [5]),
        ({"before": 2}, [1]),
        ({"queues": ["nobody's"]}, []),
    ],
)
async def test_all_conditions_of_a_filter_must_hold(trial: Trial, wanted, found):
    await trial.insert(
        job("w", queue="a"),
        job("W", queue="b"),
        job("W", queue="a", schedule_in=HOUR),
        job("w", queue="b"),
        job("w", queue="c", state=State.SUSPENDED),
    )
    assert ids(await trial.engine.jobs(JobFilter(**wanted))) == found


async def test_jobs_are_counted_by_queue_and_state(trial: Trial):
    assert await trial.engine.counts() == {}
    await trial.insert(job(queue="a"), job(queue="a"), job(queue="a", schedule_in=HOUR), job(queue="b"))
    assert await trial.engine.counts() == {
        "a": {State.AVAILABLE: 2, State.SCHEDULED: 1},
        "b": {State.AVAILABLE: 1},
    }


async def test_queues_with_available_jobs_are_named(trial: Trial):
    assert await trial.engine.ready(["a"]) == []
    await trial.insert(job(queue="a"), job(queue="a"), job(queue="ü"), job(queue="later", schedule_in=HOUR))
    assert await trial.engine.ready([]) == []
    assert sorted(await trial.engine.ready(["a", "later", "none", "ü"])) == ["a", "ü"]
    assert await trial.engine.ready(["later", "none"]) == []


async def test_what_is_read_is_what_was_written(trial: Trial):
    producer, held = await trial.taken(job(args={"a": [1]}, priority=3))
    after = _lifecycle.failed(held, NOW, "no", HOUR)
    await trial.hand_in(producer, (held, after))
    assert await trial.engine.jobs(JobFilter(ids=[held.id])) == [after]


async def test_states_are_told_of_those_jobs_that_are_there(trial: Trial):
    _, held = await trial.taken(job())
    waiting, later = await trial.insert(job(queue="a"), job(queue="a", schedule_in=HOUR))
    assert await trial.engine.states([held.id, waiting.id, later.id, 4711]) == {
        held.id: State.EXECUTING,
        waiting.id: State.AVAILABLE,
        later.id: State.SCHEDULED,
    }
    assert await trial.engine.states([]) == {}
