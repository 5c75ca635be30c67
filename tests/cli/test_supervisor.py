"""`staffa run --processes N`: several processes, kept running and stopped together."""

import os
import signal
import time
from contextlib import suppress

import psutil
import pytest

from staffa import Job, State
from staffa._bridge import at_once

pytestmark = pytest.mark.usefixtures("staffa")
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # where no database matters


@pytest.fixture
def with_jobs(project):
    instance = project.instance()
    yield instance
    instance.close()


def wait_until(check, what):
    deadline = time.monotonic() + 40
    while not (found := check()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def members(process):
    """The processes of a supervisor by their number."""
    found = {}
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # it has ended meanwhile
            if "--member" in (command := child.cmdline()):
                found[int(command[-1])] = child
    return found


def running(with_jobs, process, count=2):
    """Wait until so many processes run queues, and give them."""

    def nodes():
        return {each.node for each in at_once(with_jobs.plain_engine.producers())}

    wait_until(lambda: len(nodes()) == count, f"{count} processes never ran")
    return members(process)


def hear(process, what):
    """Read its log up to a line that says so."""
    while what not in (line := process.stderr.readline()):
        assert line, f"it never said {what!r}"


def ended(child):
    return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def store(project, with_jobs, name):
    return with_jobs.insert(Job(worker=project.worker(name)))


def test_they_share_the_work_and_exit_0_when_all_is_done(project, with_jobs):
    project.configure(processes=2)
    stored = [
        with_jobs.insert(Job(worker=project.worker("greet"), args={"name": str(number)}, queue="mail"))
        for number in range(20)
    ]

    said = project.run("run", "--until-idle")

    assert said.code == 0, said.err
    assert {with_jobs.get(each.id).state for each in stored} == {State.COMPLETED}
    assert said.err.count("the queues are idle") == 2
    assert said.out.count("Queues:") == 1


@on_sqlite
def test_each_is_a_node_of_its_own(project, with_jobs):
    process = project.start("run", "--processes", "2", STAFFA_NODE="web")

    running(with_jobs, process)

    found = at_once(with_jobs.plain_engine.producers())
    assert {each.node for each in found} == {"web.1", "web.2"}
    process.send_signal(signal.SIGTERM)
    assert project.finish(process).code == 0


@pytest.mark.parametrize(
    ("number", "how"),
    [(signal.SIGKILL, "process 2 was killed by SIGKILL"), (signal.SIGTERM, "process 2 exited with code 0")],
)
@on_sqlite
def test_one_that_ends_is_started_again(project, with_jobs, number, how):
    process = project.start("run", "--processes", "2")
    before = running(with_jobs, process)

    before[2].send_signal(number)

    wait_until(
        lambda: (now := members(process)).keys() == {1, 2} and now[2].pid != before[2].pid,
        "it was not started again",
    )
    assert members(process)[1].pid == before[1].pid
    process.send_signal(signal.SIGTERM)
    said = project.finish(process)
    assert said.code == 0, said.err
    assert f"{how}" in said.err
    assert "it is started again in 0.5 s" in said.err


@pytest.mark.parametrize("to", ["the supervisor", "all of them", "the terminal"])
@on_sqlite
def test_the_first_signal_lets_running_jobs_finish(project, with_jobs, to):
    job = store(project, with_jobs, "waits_for_go")
    process = project.start("run", "--processes", "2", in_group=True)
    found = running(with_jobs, process)
    project.wait_for("started")

    if to == "the terminal":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    if to == "all of them":
        for child in found.values():
            with suppress(psutil.NoSuchProcess):  # one with nothing to do may have ended already
                child.send_signal(signal.SIGTERM)
    hear(process, "no more jobs are taken")
    project.say_go()

    said = project.finish(process)
    assert said.code == 0, said.err
    assert with_jobs.get(job.id).state is State.COMPLETED


@on_sqlite
def test_a_second_signal_puts_jobs_back_at_once_and_exits_1(project, with_jobs):
    job = store(project, with_jobs, "naps")
    process = project.start("run", "--processes", "2")
    found = running(with_jobs, process)
    project.wait_for("napping")

    process.send_signal(signal.SIGTERM)
    hear(process, "SIGTERM")
    process.send_signal(signal.SIGINT)

    said = project.finish(process)
    assert said.code == 1, said.err
    assert all(map(ended, found.values()))
    after = with_jobs.get(job.id)
    assert (after.state, after.attempt) == (State.AVAILABLE, 0)


@on_sqlite
def test_a_third_signal_ends_them_on_the_spot(project, with_jobs):
    project.write(
        f"{project.module}.py",
        "import signal, time\nfrom pathlib import Path\nfrom staffa import job\n\n"
        "@job\nasync def hogs() -> None:\n    Path('hogging').touch()\n    time.sleep(600)\n",
    )
    store(project, with_jobs, "hogs")
    process = project.start("run", "--processes", "2")
    found = running(with_jobs, process)
    project.wait_for("hogging")

    for told in ("all processes stop\n", "all processes stop at once\n"):
        process.send_signal(signal.SIGTERM)
        hear(process, told)
    process.send_signal(signal.SIGTERM)

    assert project.finish(process).code == 128 + signal.SIGTERM
    wait_until(lambda: all(map(ended, found.values())), "they live on")


@on_sqlite
def test_when_the_supervisor_is_killed_they_stop_gracefully(project, with_jobs):
    job = store(project, with_jobs, "waits_for_go")
    process = project.start("run", "--processes", "2")
    found = running(with_jobs, process)
    project.wait_for("started")

    process.kill()
    hear(process, "the supervisor is gone")
    project.say_go()

    wait_until(lambda: all(map(ended, found.values())), "they live on")
    assert with_jobs.get(job.id).state is State.COMPLETED


@on_sqlite
def test_what_was_asked_wrongly_is_said_once_and_nothing_is_started_again(project):
    said = project.run("run", "--processes", "3", "--queue", "mial")

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "did you mean 'mail'?" in said.err


def test_forgotten_tables_are_said_once(empty_postgres_url, project):
    project.configure(database=empty_postgres_url)

    said = project.run("run", "--processes", "3")

    assert (said.code, said.err.count("staffa migrate")) == (1, 1)


@pytest.mark.parametrize(
    ("flag", "environment", "hint"),
    [
        (["--processes", "0"], {}, "the command line: processes: must be a whole number above 0, not 0"),
        ([], {"STAFFA_PROCESSES": "many"}, "STAFFA_PROCESSES: must be a whole number above 0, not 'many'"),
    ],
)
@on_sqlite
def test_a_number_that_is_none_is_refused(project, flag, environment, hint):
    said = project.run("run", *flag, **environment)

    assert said.code == 2
    assert hint in said.err
