"""`staffa cron`, and processes that all believe to lead."""

import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest

from staffa import Job
from staffa._bridge import at_once
from staffa.engine import CronTick

pytestmark = pytest.mark.usefixtures("staffa")
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # where no database matters

PATIENCE = 60.0
HOUR = timedelta(hours=1)
WORK = """
from staffa import Cron, Worker, job

@job(queue="reports", cron=Cron("0 0 1 1 *", name="yearly", args={"region": "EU"}, timezone="Asia/Kolkata"))
def report(region: str) -> None: ...

class Warm(Worker, cron="@reboot"):
    def perform(self, job): ...

class Often(Worker, cron=Cron("* * * * *", name="often")):
    def perform(self, job): ...
"""


@pytest.fixture
def crontab(project):
    """A project with a crontab."""
    project.write(f"{project.module}.py", WORK)
    with_tables = project.instance()
    with_tables.migrate()
    with_tables.close()
    return project


# Looking


def test_entries_are_listed_the_next_one_first(crontab, staffa):
    out = staffa("cron", "list").out

    header, often, yearly, warm = out.splitlines()
    assert header.split() == ["NEXT", "EXPRESSION", "ZONE", "WORKER", "ARGS", "LAST", "JOB", "NAME"]
    assert "(in " in often
    assert often.endswith("often")
    assert "0 0 1 1 *" in yearly
    assert "Asia/Kolkata" in yearly
    assert "{'region': 'EU'}" in yearly
    assert "12-31 18:30:00 UTC" in yearly
    assert warm.startswith("when it starts")
    assert "@reboot" in warm


def test_as_many_next_runs_are_shown_as_asked_for(crontab, staffa):
    out = staffa("cron", "list", "--next", "3").out
    often = out.splitlines()[1:4]
    first, second, third = (datetime.fromisoformat(line[:19]) for line in often)
    assert second - first == third - second == timedelta(minutes=1)

    assert staffa("cron", "list", "--next", "0").code == 2


def test_programs_get_everything(crontab, staffa):
    with_jobs = crontab.instance()
    tick = datetime(2026, 1, 1, tzinfo=UTC)
    [job] = at_once(
        with_jobs.plain_engine.record_ticks([CronTick("often", tick, Job(worker=crontab.worker("Often")))])
    )

    often, yearly, warm = staffa("cron", "list", "--json", "--next", "2").json

    assert yearly["next"][0].endswith("12-31T18:30:00.000000Z")
    assert len(yearly["next"]) == 2
    assert {key: value for key, value in yearly.items() if key != "next"} == {
        "name": "yearly",
        "expression": "0 0 1 1 *",
        "timezone": "Asia/Kolkata",
        "worker": crontab.worker("report"),
        "args": {"region": "EU"},
        "queue": "reports",
        "catch_up": "latest",
        "jitter": 0.0,
        "last_tick": None,
        "last_job": None,
    }
    assert (often["last_tick"], often["last_job"]) == ("2026-01-01T00:00:00.000000Z", job.id)
    assert warm["next"] == []
    with_jobs.close()


@on_sqlite
def test_where_there_are_no_entries_it_says_how_to_make_one(project, staffa):
    with_tables = project.instance()
    with_tables.migrate()
    with_tables.close()
    assert "give a worker one with cron=" in staffa("cron", "list").out
    assert staffa("cron", "list", "--json").json == []


@on_sqlite
def test_configured_entries_are_listed_too(crontab, staffa):
    crontab.configure(
        timezone="Europe/Paris",
        cron=[{"worker": crontab.worker("Often"), "expression": "@daily", "args": {"a": 1}, "jitter": "5m"}],
    )
    [daily] = [each for each in staffa("cron", "list", "--json").json if each["expression"] == "@daily"]
    assert daily["timezone"] == "Europe/Paris"
    assert daily["name"] == f'{crontab.worker("Often")} @daily Europe/Paris {{"a":1}}'
    assert daily["jitter"] == 300


@on_sqlite
@pytest.mark.parametrize("command", [["cron", "list"], ["run", "--until-idle"]])
def test_a_wrong_entry_is_refused_with_its_name(crontab, staffa, command):
    worker = crontab.worker("report")
    crontab.configure(
        cron=[
            {
                "worker": worker,
                "expression": "@daily",
                "name": "bad",
                "args": {"region": "EU", "regoin": "EU"},
            }
        ]
    )

    said = crontab.run(*command)

    assert said.code == 2
    assert "the cron entry 'bad'" in said.err
    assert "regoin" in said.err
    assert "Traceback" not in said.err


@on_sqlite
def test_entries_come_from_declared_modules_and_no_other_file_is_looked_at(crontab, staffa):
    crontab.write("stray.py", WORK.replace("yearly", "stray") + "\nopen('imported', 'w').close()\n")
    assert "stray" not in staffa("cron", "list").out
    assert not (crontab.path / "imported").exists()


# Inserting by hand


def test_an_entry_is_run_now_whatever_the_clock_says(crontab, staffa):
    stored = staffa("cron", "run", "yearly", "--json").json
    assert (stored["worker"], stored["queue"], stored["state"]) == (
        crontab.worker("report"),
        "reports",
        "available",
    )
    assert stored["meta"] == {
        "cron": True,
        "cron_expr": "0 0 1 1 *",
        "cron_name": "yearly",
        "cron_tz": "Asia/Kolkata",
    }
    assert "is available in queue reports" in staffa("cron", "run", "yearly").out
    assert staffa("cron", "list", "--json").json[1]["last_job"] is None


@on_sqlite
def test_an_unknown_entry_is_helped_with(crontab, staffa):
    said = staffa("cron", "run", "yearl")
    assert said.code == 2
    assert "unknown cron entry 'yearl'; did you mean 'yearly'?" in said.err


# Processes


SEVERAL = """
import os
from datetime import timedelta
from pathlib import Path
from staffa import Cron, Crontab, Staffa, Worker
from staffa.telemetry import PluginTicked

class Often(Worker, cron=[Cron("* * * * *", catch_up="all", name=f"often {n}") for n in range(5)]):
    def perform(self, job): ...

staffa = Staffa(
    "URL", name=os.environ["NAME"], node=os.environ["NODE"], queues={},
    plugins=[Crontab(interval=timedelta(milliseconds=20))],
)

def told(event):
    if isinstance(event, PluginTicked) and event.plugin == "Crontab":
        with Path("ticked-" + os.environ["NODE"]).open("a") as file:
            file.write(f"{event.report['inserted']}\\n")

staffa.telemetry.attach(told)
Path("imported-" + os.environ["NODE"]).touch()
"""


@pytest.fixture
def several(project):
    """A project whose processes tell each time that they looked at the crontab as a leader."""
    project.write("several.py", SEVERAL.replace("URL", project.url))
    project.configure(app="several:staffa", modules=None, queues=None)
    return project


def inserted(project, node):
    """How many jobs a process inserted at each look."""
    file = project.path / f"ticked-{node}"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def wait_until(check, what):
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def execute(url, statement):
    if url.startswith("postgres"):
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(statement).rowcount
    with closing(
        sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=10)
    ) as connection:
        return connection.execute(statement).rowcount


def known_for_hours(project):
    """Let the crontab look as if it was known for six hours, in which nobody inserted anything.

    A minute may have ended since it became known, for which jobs were inserted: they are inserted anew.
    """
    execute(project.url, "delete from oban_jobs")
    execute(project.url, "delete from staffa_cron_ticks where job_id is not null")
    execute(
        project.url,
        "update staffa_cron_ticks set tick = tick - interval '6 hours' where job_id is null"
        if project.url.startswith("postgres")
        else "update staffa_cron_ticks set tick = strftime('%Y-%m-%dT%H:%M:%f000Z', tick, '-6 hours')"
        " where job_id is null",
    )


def each_tick_is_there_once(project):
    with_jobs = project.instance()
    jobs = with_jobs.jobs(limit=10_000)
    with_jobs.close()
    counted = Counter((job.meta["cron_name"], job.meta["cron_at"]) for job in jobs)
    assert set(counted.values()) == {1}
    for name in {name for name, _ in counted}:
        ticks = sorted(datetime.fromisoformat(at) for entry, at in counted if entry == name)
        assert len(ticks) >= 360
        assert {after - before for before, after in pairwise(ticks)} == {timedelta(minutes=1)}
    return True


def test_two_processes_that_lead_at_the_same_time_insert_each_tick_once(several):
    with_jobs = several.instance()
    now = at_once(with_jobs.plain_engine.clock())
    names = [f"often {n}" for n in range(5)]
    at_once(with_jobs.plain_engine.record_ticks([CronTick(name, now - 6 * HOUR, None) for name in names]))
    with_jobs.close()

    processes = [several.start("run", NAME=name, NODE=name) for name in ("one", "other")]
    for name in ("one", "other"):
        wait_until(lambda name=name: len(inserted(several, name)) > 3, f"{name} never led")
    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert several.finish(process).code == 0

    assert sum(inserted(several, "one") + inserted(several, "other")) >= 5 * 360
    assert each_tick_is_there_once(several)


def test_a_leader_that_slept_and_still_believes_to_lead_inserts_nothing_again(several):
    sleeper = several.start("run", NAME="Same", NODE="sleeper")
    wait_until(lambda: inserted(several, "sleeper"), "the first never led")
    successor = several.start("run", NAME="Same", NODE="successor")
    several.wait_for("imported-successor")
    stop_outside_a_transaction(several.url, sleeper)
    asleep_at = len(inserted(several, "sleeper"))
    assert execute(several.url, "delete from oban_peers") == 1, "its lease ends"

    wait_until(lambda: inserted(several, "successor"), "the second never led")
    known_for_hours(several)
    sleeper.send_signal(signal.SIGCONT)

    with_jobs = several.instance()
    wait_until(
        lambda: len(inserted(several, "sleeper")) > asleep_at, "the first did not believe that it still leads"
    )
    wait_until(lambda: sum(inserted(several, "sleeper") + inserted(several, "successor")) >= 5 * 360, "gaps")
    assert at_once(with_jobs.plain_engine.leader("staffa:Same")).startswith("successor/")
    with_jobs.close()
    for process in (sleeper, successor):
        process.send_signal(signal.SIGTERM)
        assert several.finish(process).code == 0
    assert each_tick_is_there_once(several)


def stop_outside_a_transaction(url, process):
    """Stop a process that holds no write lock of SQLite, which nobody could take from it while it sleeps."""
    if url.startswith("postgres"):
        process.send_signal(signal.SIGSTOP)
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=10)) as guard:
        guard.execute("begin immediate")
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        guard.execute("rollback")
