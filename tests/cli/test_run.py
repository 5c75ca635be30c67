"""`staffa run`, as its own process."""

import json
import signal
import sys
from datetime import timedelta

import pytest

from staffa import Job, Staffa, State
from staffa.cli import run
from staffa.engines import _sqlite_examination

pytestmark = pytest.mark.usefixtures("staffa")
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # where no database matters


def states(instance):
    return {job.id: job.state for job in instance.jobs()}


def test_until_idle_runs_what_is_available_and_exits_0(project):
    with_jobs = project.instance()
    stored = with_jobs.insert(Job(worker=project.worker("greet"), args={"name": "Asha"}, queue="mail"))

    said = project.run("run", "--until-idle")

    assert said.code == 0, said.err
    assert (project.path / "greeted-Asha").exists()
    assert with_jobs.get(stored.id).state is State.COMPLETED
    with_jobs.close()


@on_sqlite
def test_the_garbage_collector_passes_over_what_was_there_before_the_first_job(project):
    with_jobs = project.instance()
    with_jobs.insert(Job(worker=project.worker("counts_what_stays")))
    with_jobs.close()

    assert project.run("run", "--until-idle").code == 0

    assert int((project.path / "stays").read_text()) > 0


def test_until_idle_runs_due_jobs_and_leaves_later_ones(project):
    with_jobs = project.instance()
    later = with_jobs.insert(
        Job(
            worker=project.worker("greet"),
            args={"name": "later"},
            queue="mail",
            schedule_in=timedelta(hours=1),
        )
    )
    due = with_jobs.insert(
        Job(
            worker=project.worker("greet"),
            args={"name": "due"},
            queue="mail",
            schedule_in=timedelta(milliseconds=1),
        )
    )

    assert project.run("run", "--until-idle").code == 0

    assert states(with_jobs) == {later.id: State.SCHEDULED, due.id: State.COMPLETED}
    with_jobs.close()


@on_sqlite
def test_until_idle_waits_for_jobs_that_jobs_enqueue_and_runs_them_too(project):
    project.write(
        "chain.py",
        "from staffa import Staffa, job\n\nits_own = Staffa('sqlite:///elsewhere.db', default=True)\n\n"
        "@job\ndef link(left: int) -> None:\n    if left:\n        link.enqueue(left - 1)\n",
    )
    project.configure(modules=["chain"])
    with_jobs = project.instance()
    with_jobs.insert(Job(worker="chain.link", args={"left": 3}))

    assert project.run("run", "--until-idle").code == 0

    assert list(states(with_jobs).values()) == [State.COMPLETED] * 4
    with_jobs.close()


def test_until_idle_leaves_jobs_of_paused_queues_and_says_so(project):
    with_jobs = project.instance(queues={"mail": 1})
    greets = project.worker("greet")
    paused = with_jobs.insert(Job(worker=greets, args={"name": "paused"}, queue="mail"))
    runs = with_jobs.insert(Job(worker=greets, args={"name": "runs"}, queue="default"))
    with_jobs.pause_queue("mail")

    said = project.run("run", "--until-idle")

    assert said.code == 0, said.err
    assert states(with_jobs) == {paused.id: State.AVAILABLE, runs.id: State.COMPLETED}
    assert "queue mail takes no jobs here, as it is paused or stopped; 1 job left waiting in it" in said.err
    with_jobs.close()


def test_it_says_what_it_runs_and_hides_the_password(project):
    said = project.run("run", "--until-idle")

    assert "Queues:  default (5), mail (2)" in said.out
    assert project.worker("greet") in said.out
    assert project.url.split("://")[0] in said.out
    assert "postgres:@" not in said.out


@on_sqlite
def test_only_the_queues_asked_for_run(project):
    with_jobs = project.instance()
    here = with_jobs.insert(Job(worker=project.worker("greet"), args={"name": "a"}, queue="mail"))
    there = with_jobs.insert(Job(worker=project.worker("greet"), args={"name": "b"}, queue="default"))

    said = project.run("run", "--queue", "mail:1", "--until-idle")

    assert "Queues:  mail (1)" in said.out
    assert states(with_jobs) == {here.id: State.COMPLETED, there.id: State.AVAILABLE}
    with_jobs.close()


@on_sqlite
def test_a_queue_without_a_limit_takes_the_configured_one(project):
    assert "Queues:  mail (2)\n" in project.run("run", "--queue", "mail", "--until-idle").out


@pytest.mark.parametrize(
    ("queue", "hint"),
    [
        ("mial", "did you mean 'mail'?"),
        ("mail:many", "write name:limit"),
        ("mail:0", "above 0"),
        ("mail,mail", "given twice"),
        (",", "name a queue"),
    ],
)
def test_a_wrong_queue_is_refused_with_a_hint(staffa, sqlite_url, queue, hint):
    said = staffa(
        "run",
        "--database",
        sqlite_url,
        "--queue",
        queue.replace("mail", "default").replace("mial", "defualt"),
    )

    assert said.code == 2
    assert hint.replace("mail", "default") in said.err
    assert said.err.count("\n") == 1


def test_sigterm_lets_running_jobs_finish_and_exits_0(project):
    with_jobs = project.instance()
    running = with_jobs.insert(Job(worker=project.worker("waits_for_go")))
    process = project.start("run")
    project.wait_for("started")
    after = with_jobs.insert(
        Job(worker=project.worker("greet"), args={"name": "x"}, schedule_in=timedelta(hours=1))
    )

    process.send_signal(signal.SIGTERM)
    project.say_go()
    said = project.finish(process)

    assert said.code == 0, said.err
    assert "SIGTERM" in said.err
    assert states(with_jobs) == {running.id: State.COMPLETED, after.id: State.SCHEDULED}
    with_jobs.close()


@pytest.mark.parametrize("worker", ["naps", "digs"])
def test_after_the_grace_period_running_jobs_are_put_back_with_their_attempt(project, worker):
    project.configure(grace="100ms")
    with_jobs = project.instance()
    stored = with_jobs.insert(Job(worker=project.worker(worker)))
    process = project.start("run")
    project.wait_for("napping" if worker == "naps" else "digging")

    process.send_signal(signal.SIGINT)
    said = project.finish(process)

    back = with_jobs.get(stored.id)
    assert said.code == 0, said.err
    assert (back.state, back.attempt, back.errors) == (State.AVAILABLE, 0, [])
    with_jobs.close()


def test_a_second_signal_puts_jobs_back_at_once_and_exits_1(project):
    project.configure(grace="1h")
    with_jobs = project.instance()
    with_jobs.insert_all([Job(worker=project.worker("naps")), Job(worker=project.worker("digs"))])
    process = project.start("run")
    project.wait_for("napping")
    project.wait_for("digging")

    process.send_signal(signal.SIGTERM)
    while "SIGTERM" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    said = project.finish(process)

    assert said.code == 1, said.err
    assert "2 jobs cut off and put back" in said.err
    assert [(job.state, job.attempt) for job in with_jobs.jobs()] == [(State.AVAILABLE, 0)] * 2
    assert all(producer.expired for producer in with_jobs.producers())
    with_jobs.close()


@on_sqlite
def test_two_signals_in_one_breath_are_two_signals(project):
    project.configure(grace="1h")
    with_jobs = project.instance()
    stored = with_jobs.insert(Job(worker=project.worker("naps")))
    process = project.start("run")
    project.wait_for("napping")

    process.send_signal(signal.SIGSTOP)  # so that both are waiting when the process goes on
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)

    assert project.finish(process).code == 1
    assert with_jobs.get(stored.id).state is State.AVAILABLE
    with_jobs.close()


def test_a_signal_and_its_echo_are_one(project):
    """`timeout` signals its child and its whole group, so the child hears it twice."""
    project.configure(grace="1h")
    with_jobs = project.instance()
    stored = with_jobs.insert(Job(worker=project.worker("waits_for_go")))
    process = project.start("run")
    project.wait_for("started")

    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert "no more jobs are taken" in next(line for line in process.stderr if "SIGTERM" in line)
    project.say_go()

    said = project.finish(process)
    assert said.code == 0, said.err
    assert with_jobs.get(stored.id).state is State.COMPLETED
    with_jobs.close()


def test_cancelling_by_hand_stops_a_job_that_runs_in_another_process(project, staffa):
    project.configure(grace="1h")
    with_jobs = project.instance()
    stored = with_jobs.insert(Job(worker=project.worker("naps")))
    process = project.start("run", "--until-idle")
    project.wait_for("napping")

    assert staffa("jobs", "cancel", str(stored.id)).code == 0

    assert project.finish(process).code == 0  # which an hour of grace would not allow if the job went on
    assert with_jobs.get(stored.id).state is State.CANCELLED
    with_jobs.close()


def test_a_job_retried_by_hand_truly_runs(project, staffa):
    with_jobs = project.instance()
    stored = with_jobs.insert(Job(worker=project.worker("imports"), max_attempts=1))
    failed = project.run("run", "--until-idle")
    assert with_jobs.get(stored.id).state is State.DISCARDED
    assert "there is no such branch" in failed.err

    (project.path / "branch").touch()
    assert staffa("jobs", "retry", str(stored.id)).code == 0
    assert project.run("run", "--until-idle").code == 0

    assert with_jobs.get(stored.id).state is State.COMPLETED
    with_jobs.close()


@on_sqlite
def test_it_runs_the_staffa_that_a_program_makes(project):
    project.write(
        "program.py",
        f"from staffa import Staffa\nimport {project.module}\n\n"
        f"staffa = Staffa({project.url!r}, queues={{'mail': 7}})\n",
    )
    project.configure(database=None, modules=None, queues=None, app="program:staffa")
    with_jobs = project.instance()
    with_jobs.insert(Job(worker=project.worker("greet"), args={"name": "Ravi"}, queue="mail"))

    said = project.run("run", "--until-idle")

    assert said.code == 0, said.err
    assert "Queues:  mail (7)" in said.out
    assert (project.path / "greeted-Ravi").exists()
    with_jobs.close()


@on_sqlite
def test_a_database_flag_beside_an_app_is_refused(project, staffa):
    project.write("program_with_url.py", f"from staffa import Staffa\nstaffa = Staffa({project.url!r})\n")

    said = staffa("run", "--app", "program_with_url:staffa", "--database", "sqlite:///other.db")

    assert said.code == 2
    assert "--database: program_with_url:staffa makes its own Staffa" in said.err


@on_sqlite
@pytest.mark.parametrize("option", ["run_queues=False", "testing='manual'"])
def test_an_app_that_runs_no_queues_is_refused(project, staffa, monkeypatch, option):
    project.write("quiet.py", f"from staffa import Staffa\nstaffa = Staffa({project.url!r}, {option})\n")

    monkeypatch.delitem(sys.modules, "quiet", raising=False)

    said = staffa("run", "--app", "quiet:staffa", "--until-idle")

    assert said.code == 2
    assert "runs no queues" in said.err


@on_sqlite
@pytest.mark.parametrize(
    ("app", "hint"),
    [
        ("absent:staffa", "'absent' cannot be imported"),
        ("faulty:staffa", "app: ZeroDivisionError: division by zero ("),
        ("crooked:staffa", "line 1)"),
        ("sound:stafa", "did you mean 'staffa'?"),
        ("sound:other", "is a int, not a Staffa"),
        ("sound", "must name a module and the Staffa in it"),
    ],
)
def test_an_app_that_cannot_be_used_is_told_in_one_line(project, staffa, app, hint):
    project.write("faulty.py", "1 / 0\n")
    project.write("crooked.py", "def (:\n")
    project.write("sound.py", f"from staffa import Staffa\nstaffa = Staffa({project.url!r})\nother = 5\n")

    said = staffa("run", "--app", app, "--until-idle")

    assert said.code == 2
    assert hint in said.err
    assert said.err.count("\n") == 1


@on_sqlite
def test_missing_modules_are_named(project, staffa):
    said = staffa("run", "--module", "nowhere.jobs", "--until-idle")

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "modules: 'nowhere.jobs' cannot be imported" in said.err


@on_sqlite
def test_without_workers_it_warns(project):
    project.configure(modules=None)

    assert "no workers are known" in project.run("run", "--until-idle").err


@pytest.mark.parametrize(("safe", "told"), [((99, 0, 0), True), ((3, 0, 0), False)])
def test_a_sqlite_that_may_harm_files_is_told_of(sqlite_url, monkeypatch, caplog, safe, told):
    monkeypatch.setattr(_sqlite_examination, "SAFE_FOR_MANY", safe)
    caplog.set_level("INFO", "staffa")

    run._tell_what_runs(Staffa(sqlite_url))

    assert ("let one process write the file" in caplog.text) is told


def test_forgotten_tables_are_told_in_one_line(empty_postgres_url, staffa):
    said = staffa("run", "--database", empty_postgres_url, "--until-idle")

    assert said.code == 1
    assert "staffa migrate" in said.err.splitlines()[-1]


def test_a_wrong_log_level_is_refused_with_a_hint(staffa, sqlite_url):
    said = staffa("run", "--database", sqlite_url, "--log-level", "debgu")

    assert said.code == 2
    assert "did you mean 'debug'?" in said.err


def test_every_line_of_a_json_log_is_one_object(project):
    with_jobs = project.instance()
    with_jobs.insert(Job(worker=project.worker("greet"), args={"name": "Asha"}, queue="mail"))
    with_jobs.insert(Job(worker=project.worker("imports"), max_attempts=1))
    with_jobs.close()

    said = project.run("run", "--until-idle", "--log-format", "json")

    lines = [json.loads(line) for line in said.err.splitlines()]
    stops = [line for line in lines if line.get("event") == "JobStopped"]
    assert [(line["job"]["state"], line["level"]) for line in sorted(stops, key=_level)] == [
        ("completed", "info"),
        ("discarded", "warning"),
    ]
    assert [line["event"] for line in lines if line.get("event", "").startswith("Instance")] == [
        "InstanceStarted",
        "InstanceStopped",
    ]
    assert any("there is no such branch" in line.get("message", "") for line in lines)
    assert all({"time", "level"} <= line.keys() for line in lines)


def _level(line):
    return line["level"]


def test_the_format_of_the_log_can_be_configured(project):
    project.configure(log_format="json")

    said = project.run("run", "--until-idle")

    assert all("time" in json.loads(line) for line in said.err.splitlines())


def test_a_wrong_log_format_is_refused(staffa, sqlite_url):
    said = staffa("run", "--database", sqlite_url, "--log-format", "xml")

    assert (said.code, said.err) == (
        2,
        'staffa: the command line: log_format: must be "text" or "json", not \'xml\'\n',
    )
