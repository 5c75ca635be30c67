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


def test_errors_that_other_programs_wrote_otherwise_are_shown_as_they_are(jobs, staffa):
    jobs.store()
    [held] = jobs.take()
    jobs.become(held, state=State.DISCARDED, errors=["no such branch"], discarded_at=held.attempted_at)

    assert "no such branch" in staffa("jobs", "list").out
    said = staffa("jobs", "show", "1")
    assert said.code == 0
    assert "no such branch" in said.out


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


def test_a_unique_job_is_not_retried_while_another_one_is_the_same(project, staffa):
    args = ("--args", '{"number": 1}', "--json")
    old = staffa("enqueue", project.worker("asked_once"), *args).json["id"]
    staffa("jobs", "cancel", str(old))
    new = staffa("enqueue", project.worker("asked_once"), *args).json["id"]

    said = staffa("jobs", "retry", str(old))

    assert (said.code, said.out) == (1, "")
    assert said.err == f"staffa: job {old} is unique, and job {new}, which is the same, is available\n"
    assert staffa("jobs", "show", str(old), "--json").json["state"] == "cancelled"


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


# Many jobs at once


@pytest.fixture
def crowd(jobs):
    """Jobs of every kind that one would ask for."""
    jobs.store(queue="mail", tags=["big"], args={"user": {"id": 7, "name": "Ann"}})
    jobs.store(queue="mail", tags=["big", "old"], args={"user": {"id": 8}}, schedule_in=timedelta(days=1))
    jobs.store(queue="default", worker="app.Export", meta={"source": "shop"}, state=State.SUSPENDED)
    return jobs


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ([], 3),
        (["--state", "available,scheduled"], 2),
        (["--state", "available", "--state", "suspended"], 2),
        (["--queue", "mail", "--tag", "old"], 1),
        (["--tag", "big", "--tag", "old"], 1),
        (["--args", '{"user": {"id": 7}}'], 1),
        (["--meta", '{"source": "shop"}'], 1),
        (["--worker", "app.Export"], 1),
        (["--node", "nobody"], 0),
        (["--older-than", "1h"], 0),
        (["--newer-than", "1h"], 3),
        (["--finished-within", "1h"], 0),
    ],
)
def test_jobs_are_counted_by_what_is_asked(crowd, staffa, asked, found):
    assert staffa("jobs", "count", *asked).out == f"{found}\n"
    assert staffa("jobs", "count", *asked, "--json").json == {"count": found}
    assert len(staffa("jobs", "list", *asked, "--json").json) == found


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--state", "avalable"], "--state: unknown state 'avalable'; did you mean 'available'?"),
        (["--args", "[1]"], "--args: must be a JSON object"),
        (["--meta", "{"], "--meta: "),
        (["--args", "{}"], "args={} would match every job"),
        (["--older-than", "7"], "--older-than: '7' is no duration"),
        (["--tag", " "], "tags: without a tag every job would match"),
    ],
)
def test_what_cannot_be_asked_is_refused(crowd, staffa, asked, told):
    for command in ("count", "list", "cancel"):
        said = staffa("jobs", command, *asked)
        assert (said.code, said.out) == (2, "")
        assert told in said.err


@pytest.mark.parametrize(
    ("command", "done"), [("cancel", "cancelled"), ("delete", "deleted"), ("retry", "retried")]
)
def test_many_jobs_are_touched_only_by_those_who_are_sure(crowd, staffa, command, done):
    asked = ["jobs", command, "--state", "scheduled,suspended"]
    assert staffa(*asked, "--dry-run").out == f"2 jobs would be {done}.\n"
    assert staffa(*asked, "--dry-run", "--json").json == {f"would_be_{done}": 2}

    refused = staffa(*asked)
    assert refused.code == 2
    assert f"2 jobs would be {done}; say --yes" in refused.err
    assert staffa("jobs", "count", "--state", "scheduled,suspended").out == "2\n"

    assert staffa(*asked, "--yes").out == f"2 jobs are {done}.\n"
    assert staffa("jobs", "count", "--state", "scheduled,suspended").out == "0\n"
    assert staffa(*asked, "--yes", "--json").json == {done: [], "refused": []}


@on_sqlite
def test_a_terminal_is_asked_before_many_jobs_are_touched(crowd, staffa, monkeypatch):
    asked = []
    monkeypatch.setattr("staffa.cli.consent.can_be_asked", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question: asked.append(question) or len(asked) > 1)

    assert staffa("jobs", "delete", "--queue", "mail").code == 2
    assert staffa("jobs", "count").out == "3\n"
    assert staffa("jobs", "delete", "--queue", "mail").out == "2 jobs are deleted.\n"
    assert asked == ["2 jobs would be deleted. Go on?"] * 2
    assert staffa("jobs", "delete", "--queue", "mail").out == "0 jobs are deleted.\n"


@pytest.mark.parametrize("command", ["cancel", "delete", "retry", "update"])
def test_every_job_is_meant_only_where_somebody_says_so(crowd, staffa, command):
    change = ["--set", "priority=1"] if command == "update" else []
    refused = staffa("jobs", command, *change, "--yes")
    assert refused.code == 2
    assert "--all means every job there is" in refused.err

    assert staffa("jobs", command, *change, "--all", "--queue", "mail").code == 2
    assert staffa("jobs", command, *change, "--all", "1").code == 2
    assert staffa("jobs", command, *change, "--all", "--yes").code == 0


def test_ids_and_conditions_must_both_hold(crowd, staffa):
    assert staffa("jobs", "cancel", "1", "3", "--queue", "mail", "--yes", "--json").json["cancelled"] == [1]


# Updating


def test_jobs_are_updated_by_id_and_by_what_is_asked(crowd, staffa):
    assert (
        staffa("jobs", "update", "1", "--set", "priority=4", "--set", "tags=a,b").out == "Job 1 is updated.\n"
    )
    args = ["--set", 'args={"user": {"id": 9}}', "--set", 'meta={"by": "hand"}', "--set", "queue=late"]
    assert staffa("jobs", "update", "--queue", "mail", *args, "--yes", "--json").json["updated"] == [1, 2]

    one = staffa("jobs", "show", "1", "--json").json
    assert (one["priority"], one["tags"], one["args"]) == (4, ["a", "b"], {"user": {"id": 9}})
    assert staffa("jobs", "count", "--queue", "late", "--meta", '{"by": "hand"}').out == "2\n"


def test_only_what_waits_is_put_off(crowd, staffa):
    staffa("jobs", "cancel", "1")
    later = ["--set", "scheduled_at=2099-01-31T09:00Z"]
    said = staffa("jobs", "update", "1", "2", *later)
    assert said.code == 1
    assert said.out == "Job 2 is updated.\n"
    assert "job 1 is cancelled: its scheduled_at can change only while it waits" in said.err
    assert staffa("jobs", "show", "2", "--json").json["scheduled_at"] == "2099-01-31T09:00:00.000000Z"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("priority", "write FIELD=VALUE, as in --set priority=1, not 'priority'\n"),
        ("state=completed", "--set: unknown field 'state'"),
        ("priority=high", "--set priority: a whole number, not 'high'"),
        ("priority=10", "priority must be a whole number from 0 to 9"),
        ("args=[1]", "--set args: must be a JSON object"),
        ("scheduled_at=soon", "--set scheduled_at: 'soon' is no instant"),
        ("queue=", "queue must be text"),
    ],
)
def test_a_change_that_no_job_can_have_is_refused(crowd, staffa, change, told):
    said = staffa("jobs", "update", "1", "--set", change)
    assert said.code == 2
    assert told in said.err


def test_new_arguments_must_fit_their_worker(project, staffa):
    [greeting] = [
        staffa("enqueue", f"{project.module}.greet", "--args", '{"name": "Ann"}', "--json").json["id"]
    ]
    said = staffa("jobs", "update", str(greeting), "--set", 'args={"nam": "Bob"}')
    assert said.code == 2
    assert "takes no argument" in said.err or "nam" in said.err
    assert staffa("jobs", "update", str(greeting), "--set", 'args={"name": "Bob"}').code == 0
