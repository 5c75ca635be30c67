"""`staffa new app` starts a project in which everything works at once."""

import tomllib
from importlib import metadata

import pytest

from staffa.config import load


def test_tests_and_queues_work_at_once_with_the_staffa_that_made_it(empty, folder_at):
    made = empty.staffa("new", "app", "corner-shop")
    assert made.code == 0, made.all
    app = folder_at(empty.path / "corner_shop")

    tested = app.run("make", "test")
    assert tested.code == 0, tested.all
    assert "passed" in tested.out

    assert app.run("make", "run", "ARGS=--until-idle").code == 0
    signed_up = app.run(".venv/bin/python", "-m", "corner_shop", "Asha")
    assert "Asha is person 1." in signed_up.all, signed_up.all
    ran = app.run("make", "run", "ARGS=--until-idle")
    assert "default (10)" in ran.all
    assert '"completed": 1' in app.run(".venv/bin/staffa", "queues", "list", "--json").out

    wanted = ("send-digest", "--queue", "default", "--purpose", "Send everybody their digest", "--verify")
    more = app.run(".venv/bin/staffa", "new", "worker", *wanted)
    assert more.code == 0, more.all
    assert app.run("make", "test").code == 0

    ours, theirs = metadata.version("staffa"), app.run(".venv/bin/staffa", "--version").out
    assert theirs == f"staffa {ours}\n"


def test_its_configuration_says_everything_that_its_commands_need(empty):
    empty.new("app", "shop")

    config = load(empty.path / "shop" / "staffa.toml")

    assert [*config.queues] == ["default"]
    assert config.queues["default"].purpose
    assert config.modules == ("shop.jobs.welcome",)
    assert config.generator == {"package": "shop.jobs", "tests": "tests/jobs"}
    assert any(line.startswith("# ") for line in empty.read("shop/staffa.toml").splitlines())


def test_its_guide_warns_about_inline_mode(empty):
    empty.new("app", "shop")

    told = " ".join(empty.read("shop/README.md").split())

    assert "manual mode" in told
    assert "Do not use inline mode (`staffa_inline`) where jobs touch what their caller holds" in told


def test_it_requires_the_staffa_that_made_it(empty, folder_at):
    empty.new("app", "shop")

    project = tomllib.loads(empty.read("shop/pyproject.toml"))["project"]

    [required] = project["dependencies"]
    here = metadata.distribution("staffa").read_text("direct_url.json")
    assert required.startswith("staffa @ file:///" if here else "staffa>=")
    assert required.replace("staffa", "staffa[new]", 1) in project["optional-dependencies"]["dev"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "a name is missing"),
        ("3d", "begins with a digit"),
        ("../x", "is no name"),
        ("import", "a word of Python"),
        ("staffa", "choose another one"),
        ("sqlite3", "Python's own library"),
        ("a" * 31, "more than 30 characters"),
    ],
)
def test_impossible_names_are_refused_and_nothing_is_written(empty, name, why):
    said = empty.new("app", name)

    assert (said.code, empty.tree) == (2, {})
    assert why in said.err


def test_a_folder_that_holds_something_stays_as_it_is(empty):
    empty.write("shop/mine.txt", "mine")

    said = empty.new("app", "Shop")

    assert said.code == 2
    assert "shop is there already, and is not empty" in said.err
    assert empty.tree == {"shop/mine.txt": b"mine"}


def test_a_dry_run_shows_every_file_and_writes_none(empty):
    shown = empty.new("app", "shop", "--dry-run").out

    assert empty.tree == {}
    empty.new("app", "shop")
    assert empty.tree
    for path, content in empty.tree.items():
        assert f"# {path}\n\n{content.decode()}" in shown


@pytest.mark.parametrize("name", ["x", "a_name_of_thirty_characters_ok"])
def test_names_of_any_length_pass_its_own_tools(empty, folder_at, name):
    empty.new("app", name)
    app = folder_at(empty.path / name)

    assert app.python("-m", "ruff", "format", "--check", ".").all.endswith("already formatted\n")
    linted = app.python("-m", "ruff", "check", ".")
    assert linted.code == 0, linted.all
