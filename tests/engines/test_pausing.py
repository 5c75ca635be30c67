"""What every engine promises about queues: the last word about pausing counts, producers are shown as they are."""

import pytest

from contract import Trial, ids, job
from staffa._pauses import ANYWHERE, EVERY, Pause, newest
from staffa.engine import ProducerInfo

WORDS = {
    "a queue everywhere": [("mail", ANYWHERE, True)],
    "a queue on this node": [("mail", "n1", True)],
    "every queue": [(EVERY, ANYWHERE, True)],
    "every queue on this node": [(EVERY, "n1", True)],
    "another queue": [("other", ANYWHERE, True)],
    "the queue on another node": [("mail", "n2", True)],
    "every queue, then this one goes on": [(EVERY, ANYWHERE, True), ("mail", ANYWHERE, False)],
    "this one goes on, then every queue pauses": [("mail", ANYWHERE, False), (EVERY, ANYWHERE, True)],
    "everywhere, then this node goes on": [("mail", ANYWHERE, True), ("mail", "n1", False)],
    "this node, then everywhere goes on": [("mail", "n1", True), ("mail", ANYWHERE, False)],
    "this node, then another goes on": [("mail", "n1", True), ("mail", "n2", False)],
    "this node's queues, then the queue everywhere goes on": [(EVERY, "n1", True), ("mail", ANYWHERE, False)],
    "the queue everywhere, then all of this node go on": [("mail", ANYWHERE, True), (EVERY, "n1", False)],
}
PAUSED = {
    "a queue everywhere",
    "a queue on this node",
    "every queue",
    "every queue on this node",
    "this one goes on, then every queue pauses",
    "this node, then another goes on",
}


@pytest.mark.parametrize("said", WORDS)
async def test_the_last_word_about_a_queue_and_a_node_counts(any_way_in: Trial, said: str):
    for queue, node, paused in WORDS[said]:
        await any_way_in.engine.pause(queue, node, "any", paused=paused)
    word = newest(await any_way_in.engine.pauses(), "mail", "n1")
    assert (word is not None and word.paused) == (said in PAUSED)


async def test_words_are_numbered_in_the_order_in_which_they_were_said(trial: Trial):
    given = [await trial.engine.pause(queue, "", "any", paused=True) for queue in ("a", "b", "a")]
    assert [word.number for word in given] == sorted({word.number for word in given})
    assert await trial.engine.pauses() == given[1:]
    everything = await trial.engine.pause(EVERY, ANYWHERE, "any", paused=False)
    assert everything.number > given[-1].number
    assert await trial.engine.pauses() == [Pause(everything.number, EVERY, ANYWHERE, paused=False)]


async def test_a_word_replaces_those_that_it_overrules_and_no_others(trial: Trial):
    for queue, node in [("mail", "n1"), ("mail", "n2"), ("other", "n1"), ("other", ANYWHERE)]:
        await trial.engine.pause(queue, node, "any", paused=True)
    await trial.engine.pause("mail", ANYWHERE, "any", paused=False)
    await trial.engine.pause(EVERY, "n1", "any", paused=False)
    assert [(each.queue, each.node, each.paused) for each in await trial.engine.pauses()] == [
        ("other", ANYWHERE, True),
        ("mail", ANYWHERE, False),
        (EVERY, "n1", False),
    ]


async def test_a_producer_is_shown_as_it_last_said_it_is(any_way_in: Trial):
    info = ProducerInfo(id="p", node="n1", queue="mail", limit=3)
    await any_way_in.engine.register([info])
    [before] = await any_way_in.engine.producers()
    assert (before.limit, before.paused) == (3, False)
    changed = ProducerInfo(id="p", node="n1", queue="mail", limit=7, paused=True)
    await any_way_in.engine.register([changed])
    [after] = await any_way_in.engine.producers()
    assert (after.limit, after.paused, after.started_at) == (7, True, before.started_at)


async def test_a_change_does_not_bring_an_expired_producer_back_to_life(trial: Trial):
    producer = await trial.producer()
    await trial.engine.retire([producer.id])
    await trial.engine.register([producer])
    assert (await trial.engine.producers())[0].expired
    await trial.insert(job())
    assert await trial.take(producer) == []


async def test_executing_jobs_are_named_by_their_producer(trial: Trial):
    assert await trial.engine.executing() == {}
    one, other = await trial.producer(), await trial.producer()
    await trial.insert_many(4)
    mine = await trial.take(one, 2)
    theirs = await trial.take(other, 1)
    assert await trial.engine.executing() == {one.id: ids(mine), other.id: ids(theirs)}
