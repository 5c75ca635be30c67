"""What Lifeline tells of the jobs that it brings back."""

from staffa import Job, Lifeline, State
from staffa._bridge import at_once
from staffa.engine import ProducerInfo


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
