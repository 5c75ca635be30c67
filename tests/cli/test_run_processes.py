"""Signals that come while `staffa run` has jobs in processes of their own."""

import os
import re
import signal
import time

import psutil
import pytest

from staffa import Job, State

pytestmark = [pytest.mark.usefixtures("staffa"), pytest.mark.parametrize("url", ["sqlite"], indirect=True)]

WORK = """
import os, re, time
from pathlib import Path
from staffa import job

@job(executor="process")
def compute() -> None:
    note("computing")
    re.match(r"(a+)+$", "a" * 64 + "b")  # for ever, without letting another thread run

@job(executor="process")
def waits_for_go() -> None:
    note("waiting")
    while not Path("go").exists():
        time.sleep(0.01)

def note(file: str) -> None:
    Path("note").write_text(str(os.getpid()))
    Path("note").rename(file)
"""


@pytest.fixture(autouse=True)
def work(project):
    project.write("work.py", WORK)
    project.configure(modules=["work"])


def lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def dies(pid):
    deadline = time.monotonic() + 20
    while lives(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stored(project, name):
    with_jobs = project.instance()
    return with_jobs, with_jobs.insert(Job(worker=f"work.{name}"))


def pid_in(project, file):
    project.wait_for(file)
    return int((project.path / file).read_text())


@pytest.mark.parametrize("worker", ["compute", "waits_for_go"])
def test_processes_die_with_a_parent_that_is_killed(project, worker):
    with_jobs, _ = stored(project, worker)
    process = project.start("run")
    pid = pid_in(project, "computing" if worker == "compute" else "waiting")

    process.kill()

    assert dies(pid)
    with_jobs.close()


def test_ctrl_c_in_a_terminal_leaves_jobs_in_processes_their_grace_period(project):
    with_jobs, job = stored(project, "waits_for_go")
    process = project.start("run", in_group=True)
    pid = pid_in(project, "waiting")

    os.killpg(process.pid, signal.SIGINT)
    while not re.search("SIGINT", process.stderr.readline()):
        pass
    assert lives(pid)
    project.say_go()
    said = project.finish(process)

    assert said.code == 0, said.err
    assert with_jobs.get(job.id).state is State.COMPLETED
    with_jobs.close()


def test_a_second_signal_kills_them_and_puts_their_jobs_back(project):
    with_jobs, job = stored(project, "compute")
    process = project.start("run")
    pid = pid_in(project, "computing")

    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    said = project.finish(process)

    assert said.code == 1, said.err
    assert dies(pid)
    after = with_jobs.get(job.id)
    assert (after.state, after.attempt, after.errors) == (State.AVAILABLE, 0, [])
    with_jobs.close()


def test_a_second_signal_puts_back_what_has_not_even_started(project):
    project.write(
        "slow.py",
        "import sys, time\nfrom pathlib import Path\nfrom staffa import job\n\n"
        "if 'staffa._child' in sys.modules:\n    Path('starting').touch()\n    time.sleep(600)\n\n"
        "@job(executor='process')\ndef anything() -> None: ...\n",
    )
    project.configure(modules=["slow"])
    with_jobs = project.instance()
    job = with_jobs.insert(Job(worker="slow.anything"))
    process = project.start("run")
    project.wait_for("starting")

    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    said = project.finish(process)

    assert said.code == 1, said.err
    after = with_jobs.get(job.id)
    assert (after.state, after.attempt, after.errors) == (State.AVAILABLE, 0, [])
    with_jobs.close()
