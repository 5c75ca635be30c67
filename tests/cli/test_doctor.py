"""`staffa doctor`."""

from pathlib import Path

from staffa import Job


def test_it_names_what_is_wrong_with_advice_below_and_exits_1(project, staffa):
    project.instance().insert(Job(worker="app.Gone", queue="old"))

    said = staffa("doctor")

    assert said.code == 1
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    problem = lines.index("PROBLEM workers 1 job names 'app.Gone', which no module known here defines")
    assert lines[problem + 1] == "-> name its module in `modules`, or its former name in `aliases`"
    assert "PROBLEM queues 1 job waits in 'old', which runs nowhere; it is configured nowhere here" in lines
    assert lines[-1].startswith("2 problems, ")


def test_it_exits_0_where_there_are_only_notices(project, staffa):
    project.instance().migrate()

    said = staffa("doctor")

    assert said.code == 0
    assert "nobody leads" in said.out
    assert said.out.splitlines()[-1].startswith("0 problems, ")


def test_it_answers_in_json(project, staffa):
    project.instance().migrate()

    found = staffa("doctor", "--json").json

    assert {each["level"] for each in found} <= {"fine", "notice", "problem"}
    assert all(set(each) == {"check", "level", "said", "advice"} for each in found)
    [workers] = [each for each in found if each["check"] == "workers"]
    assert "none of those that jobs wait for is missing" in workers["said"]


def test_it_tells_a_system_that_runs_from_one_that_does_not(project, staffa):
    process = project.start("run")
    project.instance().insert(Job(worker=project.worker("waits_for_go")))
    project.wait_for("started")

    said = staffa("doctor")
    project.say_go()
    process.terminate()
    project.finish(process)

    assert said.code == 0, said.out
    assert "'default' runs on" in said.out


def test_it_makes_no_file(staffa, tmp_path):
    said = staffa("doctor", "--database", "sqlite:///nothing.db")

    assert said.code == 1
    assert "nothing.db: there is no such file" in said.out
    assert list((tmp_path / "empty").iterdir()) == []


def test_it_tells_of_a_cron_entry_for_which_queues_would_not_start(project, staffa):
    project.instance().migrate()
    with Path("staffa.toml").open("a", encoding="utf-8") as file:
        file.write('\n[[cron]]\nworker = "app.gone"\nexpression = "@daily"\n')

    said = staffa("doctor")

    assert said.code == 1
    assert "the cron entry '@daily': unknown worker 'app.gone'" in said.out
