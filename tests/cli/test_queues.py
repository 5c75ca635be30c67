"""`staffa queues list`."""

from datetime import timedelta

from staffa import Job
from staffa._bridge import at_once
from staffa.engine import ProducerInfo


def producer(id, node, queue="mail"):
    return ProducerInfo(id=id, node=node, queue=queue, limit=3)


def test_it_shows_limits_purposes_counts_nodes_and_who_leads(project, staffa):
    project.configure(queues={"mail": {"limit": 4, "purpose": "Mails to customers"}, "reports": 1})
    with_jobs = project.instance()
    with_jobs.insert_all(
        [Job(worker="w", queue="mail"), Job(worker="w", queue="mail"), Job(worker="w", queue="old")]
    )
    with_jobs.insert(Job(worker="w", queue="mail", schedule_in=timedelta(hours=1)))
    engine = with_jobs.plain_engine
    at_once(engine.register([producer("p-1", "worker-1"), producer("p-2", "worker-2")]))
    at_once(engine.lead("staffa:Staffa", "worker-2/x", timedelta(minutes=1)))

    out = staffa("queues", "list").out
    found = staffa("queues", "list", "--json").json

    header, mail, old, reports = (line.split() for line in out.splitlines()[:4])
    assert header[:5] == ["QUEUE", "LIMIT", "AVAILABLE", "SCHEDULED", "EXECUTING"]
    assert mail[:5] == ["mail", "4", "2", "1", "0"]
    assert "worker-1 (3), worker-2 (3)  Mails to customers" in out
    assert old[:3] == ["old", "-", "1"]
    assert reports[:2] == ["reports", "1"]
    assert "nowhere" in reports
    assert "Leader: worker-2/x" in out

    assert found["leader"] == "worker-2/x"
    first = found["queues"][0]
    assert (first["queue"], first["limit"], first["purpose"]) == ("mail", 4, "Mails to customers")
    assert (first["jobs"]["available"], first["jobs"]["scheduled"], first["jobs"]["completed"]) == (2, 1, 0)
    assert [(each["node"], each["limit"], each["expired"]) for each in first["producers"]] == [
        ("worker-1", 3, False),
        ("worker-2", 3, False),
    ]
    assert found["queues"][1]["limit"] is None
    with_jobs.close()


def test_a_stopped_node_is_shown_only_while_jobs_must_come_back_from_it(project, staffa):
    with_jobs = project.instance()
    engine = with_jobs.plain_engine
    former = producer("p-0", "worker-1")
    at_once(engine.register([former, producer("p-1", "worker-1"), producer("p-2", "worker-2", "default")]))
    with_jobs.insert(Job(worker="w", queue="mail"))
    at_once(engine.exchange(producer("p-1", "worker-1"), [], 1))
    at_once(engine.retire(["p-0", "p-1", "p-2"]))

    out = staffa("queues", "list").out

    assert out.count("worker-1 (3) has stopped") == 1
    assert "worker-2" not in out
    assert "Leader: none" in out
    with_jobs.close()
