"""`staffa queues`: who runs what, and what queues are told."""

import time
from datetime import timedelta

import pytest

from staffa import Job
from staffa._bridge import at_once
from staffa.engine import ProducerInfo

PATIENCE = 60.0


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


# What queues are told


@pytest.fixture
def nodes(project):
    """Run two nodes, and wait until both are there."""
    with_jobs = project.instance()
    with_jobs.migrate()
    for name in ("worker-1", "worker-2"):
        project.start("run", STAFFA_NODE=name)
    deadline = time.monotonic() + PATIENCE
    while len(with_jobs.check_all_queues()) < 4:
        assert time.monotonic() < deadline, "two nodes with two queues each never ran"
        time.sleep(0.02)
    yield with_jobs
    with_jobs.close()


def test_running_queues_do_what_they_are_told_and_the_command_says_where(project, staffa, nodes):
    def said(*arguments):
        answer = staffa("queues", *arguments)
        assert answer.code == 0, (arguments, answer)
        return answer.out

    both = "on 2 nodes: worker-1, worker-2\n"
    assert said("pause", "mail") == f"mail: paused {both}"
    waiting = nodes.insert(Job(worker=project.worker("greet"), args={"name": "a"}, queue="mail"))
    assert "worker-1 (2, paused), worker-2 (2, paused)" in said("list")
    assert said("resume", "mail", "--node", "worker-2").startswith("mail: takes jobs on 1 node: worker-2")
    project.wait_for("greeted-a")
    assert nodes.get(waiting.id).attempted_by[0] == "worker-2"

    assert said("scale", "mail:7", "default:3") == (
        f"mail: up to 7 at once {both}default: up to 3 at once {both}"
    )
    running = nodes.insert(Job(worker=project.worker("waits_for_go")))
    project.wait_for("started")
    header, *rows = (line.split() for line in said("check").splitlines())
    assert header == ["QUEUE", "NODE", "LIMIT", "PAUSED", "RUNNING", "STARTED"]
    assert [row[:4] for row in rows] == [
        ["default", "worker-1", "3", "no"],
        ["default", "worker-2", "3", "no"],
        ["mail", "worker-1", "7", "yes"],
        ["mail", "worker-2", "7", "no"],
    ]
    assert sorted(row[4] for row in rows) == ["-", "-", "-", str(running.id)]
    found = staffa("queues", "check", "default", "--json").json
    assert sorted(job_id for each in found for job_id in each["running"]) == [running.id]

    assert "is stopping on 1 node: worker-" in said("stop", "default")
    assert said("stop", "mail") == "mail: runs nowhere\n"
    project.say_go()
    assert said("start", "mail:4", "--node", "worker-1", "--paused") == "mail: runs on 1 node: worker-1\n"
    assert said("pause", "--all").endswith("mail: paused on 1 node: worker-1\n")
    assert "takes jobs on 1 node: worker-1" in said("resume", "--all")


def test_what_nobody_runs_is_kept_or_said_to_be_in_vain(project, staffa):
    project.instance().migrate()

    assert staffa("queues", "pause", "mail").out == (
        "mail: paused; no node runs it now, and those that start begin paused\n"
    )
    assert "nowhere, paused" in staffa("queues", "list").out
    listed = {each["queue"]: each["paused"] for each in staffa("queues", "list", "--json").json["queues"]}
    assert listed == {"default": False, "mail": True}
    assert staffa("queues", "check", "mail").out == "No node runs them.\n"
    scaled = staffa("queues", "scale", "mail:3")
    assert (scaled.code, scaled.out) == (1, "mail: no node runs it, so nothing was changed\n")
    assert staffa("queues", "stop", "mail").out == "mail: runs nowhere\n"
    assert staffa("queues", "resume", "mail").out == "mail: may take jobs, but no node runs it now\n"
    assert staffa("queues", "pause", "--all").out == "Every queue is paused; no node runs any now.\n"
    assert staffa("queues", "pause", "mail", "--json").json == {
        "queues": [{"queue": "mail", "nodes": [], "unanswered": []}]
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["pause"], "name the queues, or say --all"),
        (["pause", "mail", "--all"], "not both"),
        (["pause", "mail", "mial"], "unknown queue 'mial'; did you mean 'mail'?"),
        (["resume", "mail", "--node", "nowhere"], "unknown node 'nowhere'"),
        (["scale", "mail"], "write name:limit"),
        (["scale", "mail:0"], "above 0"),
        (["scale", "mail:2", "mial:3"], "unknown queue 'mial'"),
        (["start", "mail:2", "mail:3"], "given twice"),
        (["stop", "mial"], "unknown queue 'mial'"),
        (["check", "mial"], "unknown queue 'mial'"),
    ],
)
def test_what_is_asked_wrongly_is_refused_and_nothing_is_said(project, staffa, arguments, why):
    with_jobs = project.instance()
    with_jobs.migrate()

    said = staffa("queues", *arguments)

    assert said.code == 2
    assert why in said.err
    assert at_once(with_jobs.plain_engine.pauses()) == []
    with_jobs.close()
