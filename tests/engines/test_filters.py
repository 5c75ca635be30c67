"""What every engine promises to those who ask for jobs by what they are, and act on all of them."""

import asyncio
from datetime import timedelta

import psycopg
import pytest

from contract import HOUR, NOW, SECOND, Trial, ids, job, these
from staffa import State, _lifecycle
from staffa._filter import JobFilter
from staffa.errors import InvalidFilter


async def _found(trial: Trial, **wanted: object) -> list[int]:
    """List ids in order of age, and see that counting agrees."""
    found = sorted(ids(await trial.engine.jobs(JobFilter(**wanted))))
    assert await trial.engine.count(JobFilter(**wanted)) == len(found)
    return found


# What is asked


async def test_jobs_are_found_by_what_they_are(any_way_in: Trial):
    await any_way_in.insert(
        job(tags=["a", "b"], priority=3, args={"user": {"id": 7, "name": "Ann"}, "to": [1, 2, 3]}),
        job(tags=["a"], priority=7, args={"user": {"id": 7}}, meta={"source": "it's"}),
        job(args={"none": None}),
        job(args={"to": [[1]]}),
    )
    cases: list[tuple[dict[str, object], list[int]]] = [
        ({}, [1, 2, 3, 4]),
        ({"tags": ["a"]}, [1, 2]),
        ({"tags": ["b", "a"]}, [1]),
        ({"tags": "A "}, [1, 2]),
        ({"tags": ["c"]}, []),
        ({"priorities": [0, 7]}, [2, 3, 4]),
        ({"priorities": 3}, [1]),
        ({"args": {"user": {"id": 7}}}, [1, 2]),
        ({"args": {"user": {"id": 7}, "to": [3, 1]}}, [1]),
        ({"args": {"user": {}}}, [1, 2]),
        ({"args": {"to": 1}}, []),
        ({"args": {"none": None}}, [3]),
        ({"args": {"some": None}}, []),
        ({"meta": {"source": "it's"}}, [2]),
        ({"meta": {"source": "it's"}, "args": {"user": {"id": 8}}}, []),
        ({"after": 1, "before": 4}, [2, 3]),
        ({"queues": [], "tags": ["a"]}, []),
        ({"ids": []}, []),
        ({"states": []}, []),
        ({"limit": 0}, []),
        ({"states": "available", "queues": "default", "workers": "w", "limit": 9}, [1, 2, 3, 4]),
    ]
    for wanted, found in cases:
        assert await _found(any_way_in, **wanted) == found, wanted


async def test_instants_are_found_from_after_to_before(trial: Trial):
    for hours in range(3):
        await trial.insert(job(scheduled_at=NOW + hours * HOUR), now=NOW - (3 - hours) * HOUR)
    assert await _found(trial, inserted_after=NOW - 2 * HOUR) == [2, 3]
    assert await _found(trial, inserted_before=NOW - 2 * HOUR) == [1]
    assert await _found(trial, scheduled_after=NOW + HOUR, scheduled_before=NOW + 2 * HOUR) == [2]


async def test_jobs_are_found_by_when_they_finished_and_others_are_not(trial: Trial):
    for end in ("completed", "cancelled", "discarded"):
        [each] = await trial.insert(job())
        await trial.change(each, state=end)
        await trial.sql(f"update oban_jobs set {end}_at = scheduled_at where id = ?", each.id)
    await trial.insert(job())
    assert await _found(trial, finished_after=NOW) == [1, 2, 3]
    assert await _found(trial, finished_after=NOW, states=["discarded", "available"]) == [3]
    assert await _found(trial, finished_before=NOW) == []
    assert await _found(trial, finished_before=NOW + SECOND) == [1, 2, 3]


async def test_jobs_are_found_by_the_node_that_ran_them_last(trial: Trial):
    await trial.taken(job(), await trial.producer(node="a"))
    await trial.taken(job(), await trial.producer(node="b"))
    await trial.insert(job())
    assert await _found(trial, nodes="b") == [2]
    assert await _found(trial, nodes=["a", "b", "c"]) == [1, 2]


async def test_as_many_jobs_are_listed_as_ids_are_given(trial: Trial):
    stored = ids(await trial.insert_many(60))
    assert len(await trial.engine.jobs(these(stored))) == 60
    assert len(await trial.engine.jobs(JobFilter())) == 50


async def test_counting_stops_at_a_limit(trial: Trial):
    await trial.insert_many(5)
    assert await trial.engine.count(JobFilter()) == 5
    assert await trial.engine.count(JobFilter(limit=3)) == 3


async def test_odd_rows_of_others_are_passed_over(on_sqlite: Trial):
    await on_sqlite.insert_many(3)
    await on_sqlite.change_all("id = 1", args="{broken", tags="7", attempted_by="oh")
    await on_sqlite.change_all("id = 2", args="[" * 5_000, tags="")
    await on_sqlite.change_all("id = 3", args='{"a": 1, "a": 2}')
    assert await _found(on_sqlite, args={"a": 2}) == [3]
    assert await _found(on_sqlite, tags=["x"]) == []
    assert await _found(on_sqlite, nodes=["x"]) == []


# What is refused


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"states": ["avalable"]}, "did you mean 'available'"),
        ({"states": "availble"}, "did you mean 'available'"),
        ({"states": [None]}, "unknown state 'None'"),
        ({"ids": [None]}, "ids: a whole number"),
        ({"ids": ["1"]}, "ids: a whole number"),
        ({"ids": "12"}, "ids: a whole number"),
        ({"ids": True}, "ids: a whole number"),
        ({"ids": 2**63}, "ids: a whole number"),
        ({"ids": 1.5}, "ids: a value or a list"),
        ({"queues": [1]}, "queues: text"),
        ({"queues": ["a\0"]}, "queues: text"),
        ({"queues": b"default"}, "queues: a value or a list"),
        ({"workers": [int]}, "workers: text"),
        ({"tags": []}, "tags: without a tag every job would match"),
        ({"tags": " "}, "tags: without a tag every job would match"),
        ({"args": {}}, "args={} would match every job"),
        ({"meta": {}}, "meta={} would match every job"),
        ({"args": ["a"]}, "args must be an object"),
        ({"args": {"a": float("nan")}}, r"args\['a'\] is nan"),
        ({"inserted_after": NOW.replace(tzinfo=None)}, "inserted_after: a datetime with a time zone"),
        ({"scheduled_before": "today"}, "scheduled_before: a datetime with a time zone"),
        ({"limit": -1}, "limit: a number of jobs"),
        ({"before": "9"}, "before: a whole number"),
    ],
)
def test_what_no_job_can_be_is_refused_by_name(wanted: dict[str, object], told: str):
    with pytest.raises(InvalidFilter, match=told):
        JobFilter(**wanted)


# Acting on what is asked


async def test_acts_mean_only_what_is_asked(any_way_in: Trial):
    await any_way_in.insert_many(4)
    await any_way_in.insert_many(2, queue="other", args={"a": [1]})
    mine = JobFilter(queues="other", args={"a": [1]})
    assert [each.job.id for each in await any_way_in.engine.cancel(mine)] == [5, 6]
    assert ids(await any_way_in.engine.retry(mine)) == [5, 6]
    assert await any_way_in.engine.delete(mine) == [5, 6]
    assert await any_way_in.states() == ["available"] * 4


async def test_acts_mean_no_job_where_a_list_is_empty(trial: Trial):
    await trial.insert_many(2)
    for nobody in (these([]), JobFilter(queues=[]), JobFilter(states=[]), JobFilter(limit=0)):
        assert await trial.engine.cancel(nobody) == []
        assert await trial.engine.retry(nobody) == []
        assert await trial.engine.update(nobody, lambda _: {"priority": 9}) == []
        assert await trial.engine.delete(nobody) == []
    assert await trial.states() == ["available"] * 2


async def test_acts_go_through_jobs_by_id_as_many_as_asked(trial: Trial):
    await trial.insert_many(5)
    assert [each.job.id for each in await trial.engine.cancel(JobFilter(limit=2))] == [1, 2]
    assert [each.job.id for each in await trial.engine.cancel(JobFilter(limit=2))] == [3, 4]
    assert await trial.engine.delete(JobFilter(after=2, limit=2)) == [3, 4]
    assert await trial.engine.delete(JobFilter(before=2)) == [1]
    assert await trial.states() == ["cancelled", "available"]


async def test_the_state_that_is_asked_for_limits_an_act(trial: Trial):
    await trial.insert(job(), job(schedule_in=HOUR))
    assert await trial.engine.cancel(JobFilter(states=["completed"])) == []
    assert await trial.engine.retry(JobFilter(states="available")) == []
    assert [each.job.id for each in await trial.engine.cancel(JobFilter(states="scheduled"))] == [2]


async def test_many_who_act_on_all_jobs_at_once_wait_for_each_other_but_never_in_a_circle(trial: Trial):
    await trial.insert_many(300)
    await trial.insert_many(300, queue="other")
    batches = await asyncio.gather(
        trial.engine.cancel(JobFilter(), now=NOW),
        trial.engine.update(JobFilter(queues=["other", "default"]), lambda _: {"priority": 1}),
        trial.engine.cancel(these(range(600, 0, -1)), now=NOW),
        trial.engine.update(JobFilter(states=list(State)), lambda _: {"tags": ["x"]}),
        trial.engine.delete(these([5, 599])),
    )
    assert sum(len(batch) for batch in (batches[0], batches[2])) in range(598, 601)
    assert batches[4] == [5, 599]
    left = await trial.engine.jobs(JobFilter(limit=600))
    assert {(each.state, each.priority, *each.tags) for each in left} == {(State.CANCELLED, 1, "x")}


async def test_a_job_that_changed_while_its_lock_was_awaited_is_spared(on_postgres: Trial):
    [stored] = await on_postgres.insert(job())
    async with await psycopg.AsyncConnection.connect(on_postgres.url) as other:
        await other.execute("update oban_jobs set queue = 'elsewhere' where id = %s", [stored.id])
        cancelling = asyncio.gather(on_postgres.engine.cancel(JobFilter(queues="default")))
        while not await on_postgres.sql("select 1 from pg_stat_activity where wait_event_type = 'Lock'"):
            await asyncio.sleep(0.01)
        await other.commit()
    assert await cancelling == [[]]
    assert await on_postgres.states() == ["available"]


# Updating


async def test_what_is_changed_is_changed_and_nothing_else_is(any_way_in: Trial):
    [stored] = await any_way_in.insert(job(args={"a": 1}, meta={"b": {"c": None}}, tags=["t"]))
    changes = {
        "args": {"x": [1.5, "é", None]},
        "meta": {"y": True},
        "tags": ["u", "v"],
        "queue": "other",
        "worker": "W",
        "priority": 9,
        "max_attempts": 3,
        "scheduled_at": NOW + HOUR,
    }
    for name, value in changes.items():
        before = await any_way_in.get(stored)
        [after] = await any_way_in.engine.update(these([stored.id]), lambda _, c={name: value}: c, now=NOW)
        assert await any_way_in.get(stored) == after
        different = {f for f in after.__struct_fields__ if getattr(after, f) != getattr(before, f)}
        assert different == {name} | ({"state"} if name == "scheduled_at" else set())
        assert getattr(after, name) == value


async def test_a_change_sees_the_job_as_it_is_under_its_lock(trial: Trial):
    [stored] = await trial.insert(job(meta={"count": 0}))

    def count(seen):
        return {"meta": {**seen.meta, "count": seen.meta["count"] + 1}}

    await asyncio.gather(*(trial.engine.update(these([stored.id]), count) for _ in range(10)))
    assert (await trial.get(stored)).meta == {"count": 10}


async def test_a_change_that_raises_changes_nothing(any_way_in: Trial):
    await any_way_in.insert_many(3)

    def refuse_the_third(seen):
        if seen.id == 3:
            raise LookupError("the third")
        return {"priority": 5}

    with pytest.raises(LookupError, match="the third"):
        await any_way_in.engine.update(JobFilter(), refuse_the_third)
    assert {each.priority for each in await any_way_in.engine.jobs(JobFilter())} == {0}


async def test_a_job_put_off_waits_for_its_new_time(trial: Trial):
    [stored] = await trial.insert(job())
    [later] = await trial.engine.update(these([stored.id]), lambda _: {"scheduled_at": NOW + HOUR}, now=NOW)
    assert (later.state, later.scheduled_at) == (State.SCHEDULED, NOW + HOUR)
    assert await trial.take(await trial.producer(), now=NOW) == []
    [soon] = await trial.engine.update(these([stored.id]), lambda _: {"scheduled_at": NOW}, now=NOW)
    assert soon.state is State.SCHEDULED
    await trial.engine.stage(10, now=NOW)
    assert ids(await trial.take(await trial.producer(), now=NOW)) == [stored.id]


async def test_the_limit_of_attempts_never_goes_below_those_made(trial: Trial):
    producer, held = await trial.taken(job(max_attempts=5))
    await trial.hand_in(producer, (held, _lifecycle.failed(held, NOW, "no", timedelta(0))))
    await trial.engine.stage(10, now=NOW)
    [second] = await trial.take(producer)
    [updated] = await trial.engine.update(these([held.id]), lambda _: {"max_attempts": 1})
    assert (updated.attempt, updated.max_attempts) == (2, 2)
    assert (await trial.get(second)).max_attempts == 2


async def test_a_running_attempt_ends_as_it_began_and_keeps_what_was_changed_meanwhile(trial: Trial):
    producer, held = await trial.taken(job(args={"a": 1}, meta={"old": 1}, max_attempts=5))
    changes = {
        "args": {"a": 2},
        "meta": {"new": 2},
        "tags": ["t"],
        "queue": "q2",
        "priority": 4,
        "worker": "W",
        "max_attempts": 9,
    }
    await trial.engine.update(these([held.id]), lambda _: changes)
    after = _lifecycle.failed(held, NOW, "no", HOUR)
    assert await trial.hand_in(producer, (held, after)) == ([], [], [])
    found = await trial.get(held)
    assert {name: getattr(found, name) for name in changes} == changes
    assert (found.state, found.scheduled_at, found.errors) == (State.RETRYABLE, NOW + HOUR, after.errors)


async def test_rows_of_others_keep_what_is_not_changed(on_sqlite: Trial):
    await on_sqlite.insert(job())
    await on_sqlite.change_all("id = 1", args="{broken", meta="7")
    await on_sqlite.engine.update(these([1]), lambda _: {"priority": 2})
    assert await on_sqlite.sql("select args, meta, priority from oban_jobs") == [("{broken", 7, 2)]
