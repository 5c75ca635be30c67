"""`staffa enqueue`."""

from datetime import UTC, datetime, timedelta

import pytest

from staffa import State

on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def stored(project):
    with_jobs = project.instance()
    jobs = with_jobs.jobs()
    with_jobs.close()
    return jobs


def test_it_stores_a_job_as_its_worker_declares_it(project, staffa):
    said = staffa("enqueue", project.worker("greet"), "--args", '{"name": "Asha"}', "--json")

    [job] = stored(project)
    assert said.code == 0
    assert (said.json["id"], said.json["state"]) == (job.id, "available")
    assert (job.queue, job.max_attempts, job.args) == ("mail", 3, {"name": "Asha"})


def test_options_go_before_the_workers_own(project, staffa):
    options = ["--queue", "default", "--priority", "3", "--max-attempts", "7", "--tag", "Trial", "--tag", "b"]
    staffa("enqueue", project.worker("greet"), "--args", '{"name": "x"}', *options)

    [job] = stored(project)
    assert (job.queue, job.priority, job.max_attempts, job.tags) == ("default", 3, 7, ["trial", "b"])


def test_it_may_wait(project, staffa):
    said = staffa("enqueue", project.worker("naps"), "--in", "1h30m")

    [job] = stored(project)
    assert job.state is State.SCHEDULED
    assert job.scheduled_at - job.inserted_at == timedelta(minutes=90)
    assert "is scheduled in queue default, due" in said.out


@on_sqlite
def test_it_may_wait_for_an_instant_in_utc_or_in_a_named_zone(project, staffa):
    staffa("enqueue", project.worker("naps"), "--at", "2040-01-31T09:00")
    staffa("enqueue", project.worker("naps"), "--at", "2040-01-31T09:00+05:30")

    india, plain = [job.scheduled_at for job in stored(project)]
    assert plain == datetime(2040, 1, 31, 9, tzinfo=UTC)
    assert india == datetime(2040, 1, 31, 3, 30, tzinfo=UTC)


@on_sqlite
def test_an_unknown_worker_is_refused_with_the_nearest_name(project, staffa):
    for wrong in (project.worker("gret"), "greet", "Greet"):
        said = staffa("enqueue", wrong)

        assert (said.code, said.err.count("\n")) == (2, 1)
        assert f"unknown worker {wrong!r}; did you mean '{project.worker('greet')}'?" in said.err
    assert stored(project) == []


@on_sqlite
def test_an_unknown_worker_may_be_forced(project, staffa):
    said = staffa("enqueue", "Elixir.Mailer", "--force", "--args", '{"id": 1}')

    [job] = stored(project)
    assert said.code == 0
    assert (job.worker, job.args) == ("Elixir.Mailer", {"id": 1})


@on_sqlite
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--args", '{"name": 5}'], "Expected `str`, got `int` - at `$.name`"),
        (["--args", '{"nam": "x"}'], "missing a required argument: 'name'"),
        (["--args", "{name: 1}"], "write a JSON object"),
        (["--args", "[1]"], "must be a JSON object"),
        (["--args", '{"name": "a", "name": "b"}'], "a key is given twice"),
        (["--args", '{"name": NaN}'], "JSON has no NaN"),
        (["--args", '{"name": "x"}', "--in", "5"], "--in: '5' is no duration"),
        (["--args", '{"name": "x"}', "--in", "999999999999w"], "--in: '999999999999w' is too long"),
        (["--args", '{"name": "x"}', "--at", "soon"], "--at: 'soon' is no instant"),
        (
            ["--args", '{"name": "x"}', "--in", "1s", "--at", "2040-01-01"],
            "give --in or --at, not both",
        ),
        (["--args", '{"name": "x"}', "--priority", "12"], "priority must be a whole number from 0 to 9"),
        (["--args", '{"name": "x"}', "--queue", ""], "queue must be text"),
    ],
)
def test_what_cannot_be_stored_is_refused_in_one_line_and_nothing_is_written(
    project, staffa, arguments, hint
):
    said = staffa("enqueue", project.worker("greet"), *arguments)

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert hint in said.err
    assert stored(project) == []


@on_sqlite
def test_it_enqueues_through_the_app_and_its_modules(project, staffa):
    project.write(
        f"through_{project.module}.py",
        f"from staffa import Staffa\nstaffa = Staffa({project.url!r}, modules=[{project.module!r}])\n",
    )
    project.configure(database="sqlite:///elsewhere.db", modules=None, app=f"through_{project.module}:staffa")

    said = staffa("enqueue", project.worker("greet"), "--args", '{"name": "x"}')

    assert said.code == 0, said.err
    assert len(stored(project)) == 1


def test_forgotten_tables_are_told_in_one_line(empty_postgres_url, staffa):
    said = staffa("enqueue", "x", "--force", "--database", empty_postgres_url)

    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "staffa migrate" in said.err


def test_a_unique_job_that_was_there_already_is_told_as_such(project, staffa):
    asked = ("enqueue", project.worker("asked_once"), "--args", '{"number": 1}')
    first, second = staffa(*asked), staffa(*asked)
    as_json = staffa(*asked, "--json")

    [job] = stored(project)
    assert f"Job {job.id} of {job.worker} is available in queue default." in first.out
    assert f"Job {job.id} of {job.worker} was there already: it is available in queue default." in second.out
    assert (second.code, as_json.json["id"], as_json.json["conflict"]) == (0, job.id, True)
