"""`staffa jobs`."""

import subprocess
import sys
from datetime import timedelta

import pytest

from staffa import Job, State
from staffa._bridge import at_once
from staffa._job import replace
from staffa.engine import Ack, ProducerInfo

on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
PRODUCER = ProducerInfo(id="p-1", node="worker-1", queue="default", limit=5)


@pytest.fixture
def jobs(project):
    """Store jobs; take them, and say what became of them."""
    with_jobs = project.instance()
    engine = with_jobs.plain_engine

    class Jobs:
        def store(self, **options):
            return with_jobs.insert(Job(worker=options.pop("worker", "app.Import"), **options))

        def take(self):
            at_once(engine.register([PRODUCER]))
            return at_once(engine.exchange(PRODUCER, [], 10)).taken

        def become(self, held, **changes):
            at_once(engine.exchange(PRODUCER, [Ack(held, replace(held, **changes))], 0))

        def failing(
            self, state, text="Traceback (most recent call last):\n  …\nValueError: no such branch", **options
        ):
            stored = self.store(**options)
            [held] = self.take()
            error = {"at": "2026-01-31T09:00:00.123456Z", "attempt": 1, "error": text}
            self.become(held, state=state, errors=[error], discarded_at=held.attempted_at)
            return stored

        def state(self, id):
            found = with_jobs.get(id)
            return None if found is None else found.state

        def progress(self, held, **told):
            at_once(engine.progress(PRODUCER, [(held, told)]))

    yield Jobs()
    with_jobs.close()


# list


def test_list_shows_newest_first_in_a_tidy_table_that_a_pipe_gets_in_full(jobs, staffa):
    long_name = "application.with.a.very.long.module.path.workers.RecordingProcessorWorker"
    jobs.store(worker=long_name)
    jobs.store(queue="mail", schedule_in=timedelta(minutes=90))

    said = staffa("jobs", "list")

    header, second, first = said.out.splitlines()
    assert header.split() == ["ID", "STATE", "QUEUE", "WORKER", "ATTEMPT", "WHEN", "REMARK"]
    assert second.split()[:5] == ["2", "scheduled", "mail", "app.Import", "0/20"]
    assert "in 1h29m" in second
    assert long_name in first
    assert header.index("QUEUE") == second.index("mail") == first.index("default")
    assert "\x1b" not in said.out


def test_list_shows_what_went_wrong_and_how_far_jobs_are(jobs, staffa):
    jobs.failing(State.RETRYABLE)
    jobs.store()
    [held] = jobs.take()
    jobs.progress(held, current=250, total=1000, note="parsing")

    newer, older = staffa("jobs", "list").out.splitlines()[1:]

    assert "250 of 1000 (25 %) parsing" in newer
    assert older.endswith("ValueError: no such branch")


def test_list_filters_by_state_queue_and_worker(jobs, staffa):
    jobs.store(queue="mail", worker="a")
    jobs.store(queue="mail", worker="b", schedule_in=timedelta(hours=1))
    jobs.store(queue="other", worker="b")

    def ids(*filters):
        return [job["id"] for job in staffa("jobs", "list", "--json", *filters).json]

    assert ids() == [3, 2, 1]
    assert ids("--queue", "mail") == [2, 1]
    assert ids("--worker", "b") == [3, 2]
    assert ids("--state", "available") == [3, 1]
    assert ids("--state", "available", "--state", "scheduled", "--queue", "mail", "--worker", "b") == [2]


def test_list_goes_on_where_it_ended(jobs, staffa):
    for _ in range(5):
        jobs.store()

    first = staffa("jobs", "list", "--limit", "2")
    second = staffa("jobs", "list", "--limit", "2", "--before", "4", "--json")

    assert "--before 4 goes on" in first.err
    assert [job["id"] for job in second.json] == [3, 2]


@on_sqlite
def test_list_says_when_there_are_none(jobs, staffa):
    jobs.store()
    said = staffa("jobs", "list", "--state", "cancelled")

    assert (said.code, said.err) == (0, "No such jobs.\n")
    assert staffa("jobs", "list", "--state", "cancelled", "--json").json == []


@on_sqlite
def test_a_misspelt_state_is_refused_with_a_hint(project, staffa):
    said = staffa("jobs", "list", "--state", "avialable")

    assert said.code == 2
    assert "--state: unknown state 'avialable'; did you mean 'available'?" in said.err


@on_sqlite
def test_control_characters_of_a_job_never_reach_the_terminal(jobs, staffa):
    stored = jobs.failing(State.DISCARDED, text="\x1b]0;owned\x07\x1b[2J [red]boom[/red]", worker="a\x1b[2Jb")

    for said in (staffa("jobs", "list"), staffa("jobs", "show", str(stored.id))):
        assert "\x1b" not in said.out
        assert "\x07" not in said.out
        assert "[red]boom[/red]" in said.out


# show


def test_show_tells_everything_about_a_failed_job_and_what_to_do(jobs, staffa):
    stored = jobs.failing(
        State.DISCARDED, args={"file_path": "leads.csv"}, tags=["csv"], meta={"tenant": "Pune"}, priority=2
    )

    out = staffa("jobs", "show", str(stored.id)).out

    for told in (
        f"Job {stored.id} is discarded.",
        "app.Import",
        "default, priority 2",
        "1 of 20",
        "by worker-1 (producer p-1)",
        '"file_path": "leads.csv"',
        '"tenant": "Pune"',
        "csv",
        "Error of attempt 1, 2026-01-31 09:00:00 UTC",
        "  ValueError: no such branch",
        f"staffa jobs retry {stored.id}",
        f"staffa jobs delete {stored.id}",
    ):
        assert told in out


def test_show_tells_how_far_a_running_job_is(jobs, staffa):
    jobs.store()
    [held] = jobs.take()
    jobs.progress(held, current=5, total=None, note=None)

    out = staffa("jobs", "show", str(held.id)).out

    assert "progress      5\n" in out
    assert "It has been running on worker-1 for" in out
    assert f"staffa jobs cancel {held.id}" in out


def test_show_in_json_has_the_columns_of_the_job(jobs, staffa):
    stored = jobs.failing(State.RETRYABLE, args={"a": [1, None]})

    shown = staffa("jobs", "show", str(stored.id), "--json").json

    assert set(shown) == {
        "id",
        "state",
        "queue",
        "worker",
        "args",
        "meta",
        "tags",
        "errors",
        "attempted_by",
    } | {
        *("attempt", "max_attempts", "priority", "inserted_at", "scheduled_at", "attempted_at"),
        *("completed_at", "discarded_at", "cancelled_at"),
    }
    assert (shown["id"], shown["state"], shown["args"]) == (stored.id, "retryable", {"a": [1, None]})
    assert shown["errors"][0]["at"] == "2026-01-31T09:00:00.123456Z"
    assert shown["inserted_at"] == stored.inserted_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert shown["completed_at"] is None
    assert staffa("jobs", "list", "--json").json == [shown]


@on_sqlite
@pytest.mark.parametrize("state", [*State])
def test_show_knows_what_comes_next_in_every_state(jobs, staffa, state):
    stored = jobs.store()
    [held] = jobs.take()
    if state is not State.EXECUTING:
        jobs.become(held, state=state)

    out = staffa("jobs", "show", str(stored.id)).out

    assert f"is {state}." in out.splitlines()[0]
    assert len(out.partition("\nNext\n")[2].splitlines()) >= 2


def test_an_unknown_job_exits_1(project, staffa):
    project.instance().migrate()
    said = staffa("jobs", "show", "99")

    assert (said.code, said.out) == (1, "")
    assert "there is no job 99" in said.err


# retry, cancel, delete


def test_retry_makes_a_spent_job_available_with_an_attempt_left(jobs, staffa):
    stored = jobs.failing(State.DISCARDED, max_attempts=1)

    said = staffa("jobs", "retry", str(stored.id))

    assert (said.code, said.out) == (0, f"Job {stored.id} is retried.\n")
    shown = staffa("jobs", "show", str(stored.id), "--json").json
    assert (shown["state"], shown["attempt"], shown["max_attempts"]) == ("available", 1, 2)


def test_cancel_and_delete(jobs, staffa):
    first, second = jobs.store(), jobs.store()

    assert staffa("jobs", "cancel", str(first.id), str(second.id)).code == 0
    assert jobs.state(first.id) is State.CANCELLED
    assert staffa("jobs", "delete", str(second.id)).code == 0
    assert jobs.state(second.id) is None


@pytest.mark.parametrize(
    ("command", "done", "reason"),
    [
        ("retry", "retried", "is executing already; there is nothing to retry"),
        ("delete", "deleted", "is executing; cancel it first: staffa jobs cancel"),
    ],
)
def test_what_may_be_touched_is_and_what_may_not_is_named(jobs, staffa, command, done, reason):
    running = jobs.store()
    jobs.take()
    over = jobs.store(schedule_in=timedelta(hours=1))

    said = staffa("jobs", command, str(running.id), str(over.id), str(over.id), "99")

    assert said.code == 1
    assert said.out == f"Job {over.id} is {done}.\n"
    assert reason in said.err
    assert "there is no job 99" in said.err
    assert jobs.state(running.id) is State.EXECUTING


def test_refusals_in_json_have_reasons(jobs, staffa):
    ended = jobs.failing(State.DISCARDED)

    said = staffa("jobs", "cancel", str(ended.id), "99", "--json")

    assert said.code == 1
    assert said.json == {
        "cancelled": [],
        "refused": [
            {"id": ended.id, "reason": f"job {ended.id} is discarded already; there is nothing to cancel"},
            {"id": 99, "reason": "there is no job 99"},
        ],
    }


@on_sqlite
@pytest.mark.parametrize("id", ["x", "-1", "99999999999999999999"])
def test_what_is_no_id_is_refused(jobs, staffa, id):
    jobs.store()

    for command in ("show", "retry", "cancel", "delete"):
        said = staffa("jobs", command, "--", id)
        assert said.code in (1, 2)
        assert "Traceback" not in said.err


def test_looking_never_makes_a_file(staffa, sqlite_url, tmp_path):
    said = staffa("jobs", "list", "--database", sqlite_url)

    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "there is no such file" in said.err
    assert not (tmp_path / "jobs.db").exists()


def test_a_reader_that_has_seen_enough_is_no_error(project):
    with_jobs = project.instance()
    with_jobs.insert_all([Job(worker="w" * 100) for _ in range(2_000)])
    with_jobs.close()

    command = f"{sys.executable} -m staffa jobs list --limit 2000 | head -1"
    said = subprocess.run(command, shell=True, cwd=project.path, capture_output=True, text=True, check=False)

    assert said.stdout.startswith("ID")
    assert "Traceback" not in said.stderr
