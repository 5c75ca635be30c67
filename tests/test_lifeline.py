"""Whom Lifeline takes for dead, and what it tells of the jobs that it brings back."""

from contextlib import suppress
from datetime import timedelta

from staffa import Job, Lifeline, State
from staffa._bridge import at_once
from staffa.engine import ProducerInfo
from staffa.errors import DatabaseUnavailable


def test_jobs_brought_back_from_a_dead_process_are_told_in_the_log(make, caplog):
    staffa = make(testing="manual")
    engine = staffa.plain_engine
    dead = ProducerInfo(id="p-1", node="worker-1", queue="mailers", limit=3)
    at_once(engine.register([dead]))
    job = staffa.insert(Job(worker="w", queue="mailers"))
    at_once(engine.exchange(dead, [], 1))
    at_once(engine.retire(["p-1"]))

    at_once(Lifeline().tick(engine))

    assert staffa.get(job.id).state != State.EXECUTING
    assert f"jobs of dead processes brought back: 1, job {job.id} first" in caplog.text


class Flaky:
    """An engine that cannot be reached now and then."""

    def __init__(self, engine):
        self._engine, self.away = engine, False

    def __getattr__(self, word):
        if self.away:
            raise DatabaseUnavailable("gone")
        return getattr(self._engine, word)


def test_silence_counts_only_while_the_judge_itself_reached_the_database(make, monkeypatch):
    engine = Flaky(make(testing="manual").plain_engine)
    now = [1_000.0]
    monkeypatch.setattr("staffa.plugins.lifeline.time.monotonic", lambda: now[0])
    lifeline = Lifeline(interval=timedelta(seconds=2), silence=timedelta(seconds=20))

    def tick(seconds):
        """Let time pass in the judge's own steps; name who was taken for dead."""
        expired = []
        for _ in range(0, seconds, 2):
            now[0] += 2
            with suppress(DatabaseUnavailable):
                expired += at_once(lifeline.tick(engine))["expired"]
        return expired

    at_once(engine.register([ProducerInfo(id="p-1", node="n", queue="default", limit=3)]))
    assert tick(10) == [], "ten seconds of silence"

    engine.away = True
    assert tick(30) == []
    engine.away = False
    assert tick(18) == [], "what came before the outage, and the outage itself, do not count"

    at_once(engine.beat(["p-1"]))
    assert tick(18) == [], "a beat begins it anew"
    now[0] += 40
    assert tick(18) == [], "nor does the time in which the judge was blocked"
    assert tick(6) == ["p-1"], "twenty seconds without interruption do"
