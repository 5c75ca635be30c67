"""What every engine promises of unique jobs: equal ones are stored once, whoever asks, and the answer says so."""

from datetime import timedelta

import pytest

from contract import HOUR, NOW, SECOND, Trial, finals, ids, job
from staffa import Job, State, Unique, _lifecycle
from staffa._admission import admitted
from staffa._filter import JobFilter
from staffa._unique import states_of
from staffa.errors import UnstorableData

FOREVER = Unique(period=None)
A_MINUTE = Unique()
INCOMPLETE = Unique(period=None, states="incomplete")


def once(unique: Unique = FOREVER, **options) -> Job:
    return admitted(job(**{"unique": unique, **options}))


async def stored(trial: Trial) -> list[Job]:
    return list(reversed(await trial.engine.jobs(JobFilter(limit=1_000))))


async def keys(trial: Trial) -> list[tuple[object, ...]]:
    return await trial.sql("select key, job_id from staffa_keys order by key")


# Inserting


async def test_a_job_that_repeats_another_is_answered_by_that_one(any_way_in: Trial):
    [first] = await any_way_in.insert(once(args={"a": 1}, tags=["first"]))
    [second] = await any_way_in.insert(once(args={"a": 1}, tags=["second"]), now=NOW + SECOND)
    assert (first.conflict, second.conflict) == (False, True)
    assert second == first == await any_way_in.get(first)
    assert await stored(any_way_in) == [first]


async def test_a_job_that_differs_is_stored(any_way_in: Trial):
    given = [
        once(args={"a": 1}),
        once(args={"a": 2}),
        once(args={"a": 1}, queue="other"),
        once(worker="x", args={"a": 1}),
    ]
    for each in given:
        [answer] = await any_way_in.insert(each)
        assert not answer.conflict
    assert len(await stored(any_way_in)) == len(given)


async def test_a_stored_job_bears_its_key_and_not_its_rule(any_way_in: Trial):
    given = once(args={"a": 1}, replace=["args"])
    [answer] = await any_way_in.insert(given)
    assert (answer.unique_key, answer.unique, answer.replace) == (given.unique_key, None, None)
    assert await any_way_in.get(answer) == answer
    assert await keys(any_way_in) == [(given.unique_key, answer.id)]


async def test_equal_jobs_of_one_batch_are_stored_once(any_way_in: Trial):
    answers = await any_way_in.insert(*(once(args={"n": n % 3}) for n in range(9)))
    assert [each.conflict for each in answers] == [False] * 3 + [True] * 6
    assert ids(answers) == ids(answers[:3]) * 3
    assert [each.args for each in await stored(any_way_in)] == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_one_object_given_twice_is_two_jobs_of_which_one_is_stored(any_way_in: Trial):
    unique, plain = once(), job()
    answers = await any_way_in.insert(unique, plain, unique, plain)
    assert [each.conflict for each in answers] == [False, False, True, False]
    assert len({*ids(answers)}) == len(await stored(any_way_in)) == 3


async def test_a_mixed_batch_is_answered_in_order(any_way_in: Trial):
    [there] = await any_way_in.insert(once(args={"n": 1}))
    answers = await any_way_in.insert(
        job(args={"n": 1}),
        once(args={"n": 1}),
        once(args={"n": 2}),
        job(args={"n": 1}),
        once(args={"n": 2}),
    )
    assert [each.conflict for each in answers] == [False, True, False, False, True]
    assert [each.args["n"] for each in answers] == [1, 1, 2, 1, 2]
    assert answers[1] == there
    assert answers[4] == answers[2]
    assert len({*ids(answers)}) == 4
    assert len(await stored(any_way_in)) == 4


async def test_jobs_without_a_rule_repeat_each_other_and_unique_ones(any_way_in: Trial):
    await any_way_in.insert(once())
    answers = await any_way_in.insert(job(), job())
    assert [each.conflict for each in answers] == [False, False]
    assert len(await stored(any_way_in)) == 3


async def test_a_large_batch_is_unique_and_so_is_its_repetition(any_way_in: Trial):
    batch = [once(args={"n": n}) for n in range(2_000)]
    first = await any_way_in.insert(*batch)
    second = await any_way_in.insert(*reversed(batch))
    assert not any(each.conflict for each in first)
    assert all(each.conflict for each in second)
    assert ids(second) == ids(first)[::-1]


async def test_all_or_none_holds_for_keys_too(any_way_in: Trial):
    with pytest.raises(UnstorableData):
        await any_way_in.insert(once(), job(queue=None))
    assert await keys(any_way_in) == []
    [answer] = await any_way_in.insert(once())
    assert not answer.conflict


# Who is in the way


@pytest.mark.parametrize(
    "group", ["all", "incomplete", "scheduled", "successful", ["executing", "discarded"]]
)
async def test_a_holder_is_in_the_way_in_the_states_of_the_rule_alone(trial: Trial, group):
    unique = Unique(period=None, states=group)
    batch = [once(unique, args={"state": str(state)}) for state in State]
    for holder in await trial.insert(*batch):
        await trial.change(holder, state=holder.args["state"])
    answers = await trial.insert(*batch)
    assert {each.args["state"] for each in answers if each.conflict} == states_of(unique)
    assert len(await stored(trial)) == 2 * len(State) - len(states_of(unique))


async def test_workers_that_name_different_states_share_their_keys(trial: Trial):
    [waiting] = await trial.insert(once(Unique(period=None, states=["available"])))
    await trial.change(waiting, state="executing")
    [kept_out] = await trial.insert(once(INCOMPLETE))
    [second] = await trial.insert(once(Unique(period=None, states=["available"])))
    assert (kept_out.id, kept_out.conflict) == (waiting.id, True)
    assert not second.conflict


async def test_a_period_slides_with_each_insert(any_way_in: Trial):
    [first] = await any_way_in.insert(once(A_MINUTE))
    for later, expected in [(30, True), (60, True), (61, False), (62, True), (121, True), (122, False)]:
        [answer] = await any_way_in.insert(once(A_MINUTE), now=NOW + later * SECOND)
        assert answer.conflict is expected, later
    assert [each.inserted_at - NOW for each in await stored(any_way_in)] == [
        0 * SECOND,
        61 * SECOND,
        122 * SECOND,
    ]
    assert first.inserted_at == NOW


async def test_a_period_may_be_counted_from_when_a_job_is_due(any_way_in: Trial):
    unique = Unique(timestamp="scheduled_at")
    await any_way_in.insert(once(unique, schedule_in=HOUR))
    [within] = await any_way_in.insert(once(unique), now=NOW + HOUR + 60 * SECOND)
    [after] = await any_way_in.insert(once(unique), now=NOW + HOUR + 61 * SECOND)
    assert (within.conflict, after.conflict) == (True, False)


async def test_without_a_given_time_the_clock_of_the_database_counts(any_way_in: Trial):
    short = Unique(period=timedelta(hours=1))
    [first] = await any_way_in.engine.insert([once(short)])
    [second] = await any_way_in.engine.insert([once(short)])
    assert second.conflict
    await any_way_in.sql(
        "update oban_jobs set inserted_at = ?", (first.inserted_at - HOUR).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    )
    [third] = await any_way_in.engine.insert([once(short)])
    assert not third.conflict


async def test_each_insert_follows_its_own_rule(trial: Trial):
    await trial.insert(once(A_MINUTE))
    [forever] = await trial.insert(once(FOREVER), now=NOW + HOUR)
    [minute] = await trial.insert(once(A_MINUTE), now=NOW + HOUR)
    assert (forever.conflict, minute.conflict) == (True, False)


async def test_a_later_job_of_a_batch_may_take_over_from_whom_an_earlier_one_met(any_way_in: Trial):
    [there] = await any_way_in.insert(once(A_MINUTE))
    first, second, third = await any_way_in.insert(
        once(FOREVER), once(A_MINUTE), once(FOREVER), now=NOW + HOUR
    )
    assert [each.conflict for each in (first, second, third)] == [True, False, True]
    assert ids([first, third]) == [there.id, second.id]


async def test_keys_of_args_and_meta_are_compared_alone(any_way_in: Trial):
    by_user = Unique(fields=["args", "meta", "worker"], keys=["user_id"], period=None)
    [first] = await any_way_in.insert(once(by_user, args={"user_id": 1, "at": 1}, queue="a"))
    [same] = await any_way_in.insert(once(by_user, args={"user_id": 1, "at": 2}, queue="b"))
    [other] = await any_way_in.insert(once(by_user, args={"user_id": 2, "at": 1}))
    assert (same.id, same.conflict, same.args) == (first.id, True, {"user_id": 1, "at": 1})
    assert not other.conflict


# When the holder vanishes


async def test_a_deleted_holder_leaves_its_key(trial: Trial):
    [first] = await trial.insert(once())
    await trial.engine.delete(JobFilter(ids=first.id))
    [second] = await trial.insert(once())
    assert not second.conflict
    assert await keys(trial) == [(second.unique_key, second.id)]


async def test_a_row_that_got_the_holder_s_id_by_accident_is_not_the_holder(trial: Trial):
    [first] = await trial.insert(once())
    await trial.change(first, unique_key="another")
    [second] = await trial.insert(once())
    assert not second.conflict


async def test_keys_of_vanished_jobs_are_pruned(trial: Trial):
    kept, deleted, elsewhere = await trial.insert(*(once(args={"n": n}) for n in range(3)))
    await trial.engine.delete(JobFilter(ids=deleted.id))
    await trial.sql(f"delete from oban_jobs where id = {elsewhere.id}")
    assert await trial.engine.prune_keys("", 10) == (2, None)
    assert await keys(trial) == [(kept.unique_key, kept.id)]
    assert await trial.engine.prune_keys("", 10) == (0, None)


async def test_keys_are_looked_at_a_few_at_a_time(trial: Trial):
    gone = await trial.insert(*(once(args={"n": n}) for n in range(5)))
    await trial.engine.delete(JobFilter(ids=ids(gone[1:])))
    after, pruned = "", []
    while after is not None:
        swept = await trial.engine.prune_keys(after, 2)
        pruned.append(swept.pruned)
        after = swept.last
    assert (len(pruned), sum(pruned)) == (3, 4)
    assert await keys(trial) == [(gone[0].unique_key, gone[0].id)]


async def test_pruning_keys_of_an_empty_table_finds_nothing(trial: Trial):
    assert await trial.engine.prune_keys("", 10) == (0, None)


async def test_a_key_that_got_a_holder_while_it_was_being_locked_is_kept(on_postgres: Trial):
    kept, gone = await on_postgres.insert(once(args={"n": 1}), once(args={"n": 2}))
    await on_postgres.engine.delete(JobFilter(ids=gone.id))
    picked = [kept.unique_key, gone.unique_key]
    deleted = await on_postgres.engine.connection.write(
        lambda session: session.run("delete_vacant_keys", keys=picked)
    )
    assert deleted == [(gone.unique_key,)]


async def test_a_pruned_holder_is_no_longer_in_the_way(trial: Trial):
    [first] = await trial.insert(once(Unique(period=None, states="all")))
    await trial.change(first, state="completed", completed_at="2020-01-01T00:00:00.000000Z")
    assert await trial.engine.prune(finals(), 10, now=NOW) == {State.COMPLETED: 1}
    [second] = await trial.insert(once(Unique(period=None, states="all")))
    assert not second.conflict


# Replacing


async def test_fields_of_the_job_in_the_way_are_replaced(any_way_in: Trial):
    by_user = Unique(keys=["user_id"], fields=["args"], period=None)
    everything = ["args", "max_attempts", "meta", "priority", "queue", "scheduled_at", "tags", "worker"]
    [first] = await any_way_in.insert(once(by_user, args={"user_id": 1}, schedule_in=HOUR))
    [answer] = await any_way_in.insert(
        once(
            by_user,
            worker="other",
            args={"user_id": 1, "text": 'ä"\\', "yes": True},
            meta={"note": [1, None]},
            tags=["late"],
            queue="calm",
            priority=3,
            max_attempts=2,
            schedule_in=2 * HOUR,
            replace=everything,
        )
    )
    assert (answer.id, answer.conflict) == (first.id, True)
    assert answer == await any_way_in.get(first)
    assert (answer.args, answer.meta) == ({"user_id": 1, "text": 'ä"\\', "yes": True}, {"note": [1, None]})
    assert (answer.worker, answer.queue, answer.priority, answer.max_attempts) == ("other", "calm", 3, 2)
    assert (answer.tags, answer.state) == (["late"], State.SCHEDULED)
    assert (answer.scheduled_at, answer.inserted_at) == (NOW + 2 * HOUR, NOW)
    assert answer.unique_key == first.unique_key


async def test_values_that_python_takes_for_equal_are_replaced_too(any_way_in: Trial):
    by_queue = Unique(fields=["queue"], period=None)
    await any_way_in.insert(once(by_queue, args={"n": 1}))
    [answer] = await any_way_in.insert(once(by_queue, args={"n": True}, replace=["args"]))
    assert (await any_way_in.get(answer)).args["n"] is True


async def test_each_state_has_its_own_fields_to_replace(trial: Trial):
    rule = {"unique": INCOMPLETE, "replace": {"scheduled": ["priority"], "executing": ["meta"]}}
    [holder] = await trial.insert(once(schedule_in=HOUR, **rule))
    new = once(priority=7, meta={"new": 1}, **rule)
    [scheduled] = await trial.insert(new)
    assert (scheduled.priority, scheduled.meta) == (7, {})
    await trial.change(holder, state="executing", priority=0)
    [executing] = await trial.insert(new)
    assert (executing.priority, executing.meta) == (0, {"new": 1})
    await trial.change(holder, state="retryable", meta="{}")
    [retryable] = await trial.insert(new)
    assert (retryable.priority, retryable.meta, retryable.conflict) == (0, {}, True)


async def test_what_is_not_replaced_stays_as_somebody_else_wrote_it(any_way_in: Trial):
    [holder] = await any_way_in.insert(once(Unique(fields=["queue"], period=None)))
    await any_way_in.sql("""update oban_jobs set args = '"no object"', meta = '[1]'""")
    await any_way_in.insert(once(Unique(fields=["queue"], period=None), replace=["priority"], priority=4))
    found = await any_way_in.sql("select cast(args as text), cast(meta as text), priority from oban_jobs")
    assert found == [('"no object"', "[1]", 4)]
    assert (await any_way_in.get(holder)).args == "no object"


async def test_jobs_of_one_batch_replace_in_their_order(any_way_in: Trial):
    by_worker = {"unique": Unique(fields=["worker"], period=None), "replace": ["args", "scheduled_at"]}
    answers = await any_way_in.insert(
        *(once(args={"n": n}, schedule_in=n * HOUR, **by_worker) for n in (1, 3, 2))
    )
    assert [each.conflict for each in answers] == [False, True, True]
    assert [each.args for each in answers] == [{"n": 2}] * 3
    assert answers[0] == await any_way_in.get(answers[0])
    assert answers[0].scheduled_at == NOW + 2 * HOUR


async def test_a_waiting_job_can_be_put_off_and_called_up(any_way_in: Trial):
    rule = {"unique": FOREVER, "replace": ["scheduled_at"]}
    [holder] = await any_way_in.insert(once(**rule))
    [put_off] = await any_way_in.insert(once(schedule_in=HOUR, **rule))
    assert (put_off.state, put_off.scheduled_at) == (State.SCHEDULED, NOW + HOUR)
    assert await any_way_in.get(holder) == put_off
    [called_up] = await any_way_in.insert(once(**rule), now=NOW + SECOND)
    assert (called_up.state, called_up.scheduled_at) == (State.SCHEDULED, NOW + SECOND)
    await any_way_in.engine.stage(10, now=NOW + SECOND)
    called_up = await any_way_in.get(called_up)
    assert (called_up.state, called_up.scheduled_at) == (State.AVAILABLE, NOW + SECOND)
    assert await any_way_in.get(holder) == called_up


async def test_a_job_that_runs_on_keeps_its_attempts_and_its_outcome(trial: Trial):
    rule = {"unique": INCOMPLETE, "replace": ["args", "max_attempts"]}
    producer, held = await trial.taken(once(**rule))
    by_key = once(max_attempts=1, **rule)
    [answer] = await trial.insert(by_key)
    assert (answer.state, answer.attempt, answer.max_attempts) == (State.EXECUTING, 1, 1)
    await trial.complete(producer, held)
    assert (await trial.get(held)).state is State.COMPLETED


# Retrying by hand


async def retry(trial: Trial, *jobs: Job, now=NOW) -> list[Job]:
    return [each.job for each in await trial.engine.retry(JobFilter(ids=ids(jobs)), now=now)]


async def test_a_retry_into_a_taken_key_answers_with_the_job_that_has_it(trial: Trial):
    [old] = await trial.insert(once(INCOMPLETE))
    await trial.change(old, state="discarded", attempt=20)
    before = await trial.get(old)
    [new] = await trial.insert(once(INCOMPLETE))
    [answer] = await retry(trial, old)
    assert (answer.id, answer.conflict) == (new.id, True)
    assert await trial.get(old) == before
    assert await trial.get(new) == new


async def test_a_retry_into_a_free_key_claims_it(trial: Trial):
    [old] = await trial.insert(once(INCOMPLETE))
    await trial.change(old, state="discarded")
    [new] = await trial.insert(once(INCOMPLETE))
    await trial.change(new, state="cancelled")
    [answer] = await retry(trial, old)
    assert (answer.id, answer.state, answer.conflict) == (old.id, State.AVAILABLE, False)
    assert await keys(trial) == [(old.unique_key, old.id)]
    [kept_out] = await trial.insert(once(INCOMPLETE))
    assert (kept_out.id, kept_out.conflict) == (old.id, True)


async def test_a_job_that_holds_its_own_key_is_retried(trial: Trial):
    [holder] = await trial.insert(once(Unique(period=None, states="all")))
    await trial.change(holder, state="completed")
    [answer] = await retry(trial, holder)
    assert (answer.id, answer.state, answer.conflict) == (holder.id, State.AVAILABLE, False)


async def test_of_several_jobs_retried_into_one_key_the_oldest_gets_it(trial: Trial):
    twins = []
    for _ in range(3):
        twins += await trial.insert(once(INCOMPLETE))
        await trial.change(twins[-1], state="discarded")
    [plain] = await trial.insert(job())
    await trial.change(plain, state="discarded")
    answers = await retry(trial, *twins[::-1], plain)
    assert [(each.id, each.conflict) for each in answers] == [
        (twins[0].id, False),
        (twins[0].id, True),
        (twins[0].id, True),
        (plain.id, False),
    ]
    assert await trial.states() == ["available", "discarded", "discarded", "available"]


async def test_a_retry_follows_the_rule_by_which_the_key_was_taken(trial: Trial):
    minute = Unique(states="incomplete")
    [old] = await trial.insert(once(minute))
    await trial.change(old, state="discarded")
    await trial.insert(once(minute), now=NOW + SECOND)
    [within] = await retry(trial, old, now=NOW + 61 * SECOND)
    [after] = await retry(trial, old, now=NOW + 62 * SECOND)
    assert (within.conflict, after.conflict) == (True, False)


async def test_a_retry_of_a_job_whose_key_was_pruned_claims_it_anew(trial: Trial):
    [old] = await trial.insert(once(INCOMPLETE))
    await trial.change(old, state="discarded")
    [new] = await trial.insert(once(INCOMPLETE))
    await trial.engine.delete(JobFilter(ids=new.id))
    assert (await trial.engine.prune_keys("", 10)).pruned == 1
    [answer] = await retry(trial, old)
    assert (answer.id, answer.conflict) == (old.id, False)
    assert await keys(trial) == [(old.unique_key, old.id)]


async def test_of_several_jobs_retried_into_a_key_that_was_pruned_the_oldest_gets_it(trial: Trial):
    twins = []
    for _ in range(2):
        twins += await trial.insert(once(INCOMPLETE))
        await trial.change(twins[-1], state="discarded")
    [holder] = await trial.insert(once(INCOMPLETE))
    await trial.engine.delete(JobFilter(ids=holder.id))
    assert (await trial.engine.prune_keys("", 10)).pruned == 1
    answers = await retry(trial, *twins)
    assert [(each.id, each.conflict) for each in answers] == [(twins[0].id, False), (twins[0].id, True)]
    assert await keys(trial) == [(twins[0].unique_key, twins[0].id)]


async def test_a_job_that_cannot_be_retried_claims_nothing(trial: Trial):
    [old] = await trial.insert(once(Unique(period=None, states=["scheduled"])))
    [new] = await trial.insert(once(Unique(period=None, states=["scheduled"])))
    assert await retry(trial, old) == []
    assert await keys(trial) == [(new.unique_key, new.id)]


# What never asks for a key


async def test_staging_snoozing_and_rescue_do_not_mind_a_taken_key(trial: Trial):
    rule = Unique(period=None, states=["available"])
    await trial.insert(once(rule, schedule_in=SECOND))
    [retryable] = await trial.insert(once(rule, schedule_in=SECOND))
    await trial.change(retryable, state="retryable")
    producer, _ = await trial.taken(once(rule))
    _, snoozed = await trial.taken(once(rule), producer)
    await trial.hand_in(producer, (snoozed, _lifecycle.snoozed(snoozed, NOW, SECOND)))
    [holder] = await trial.insert(once(rule))

    await trial.engine.stage(10, now=NOW + HOUR)
    await trial.engine.retire([producer.id])
    await trial.engine.rescue(10, now=NOW + HOUR)

    assert await trial.states() == ["available"] * 5
    [answer] = await trial.insert(once(rule))
    assert (answer.id, answer.conflict) == (holder.id, True)


async def test_a_job_that_runs_answers_as_it_runs(trial: Trial):
    [holder] = await trial.insert(once())
    [held] = await trial.take(await trial.producer())
    [answer] = await trial.insert(once())
    assert (answer.id, answer.state, answer.conflict) == (holder.id, State.EXECUTING, True)
    assert answer == held
