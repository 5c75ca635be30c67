"""Options, environment and file, as every command reads them."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from staffa import Job, Staffa

LOOK = ("queues", "list", "--json")


@pytest.fixture
def databases(tmp_path):
    """Databases that can be told apart by their one queue."""

    def made(name):
        url = f"sqlite:///{tmp_path}/{name}.db"
        instance = Staffa(url, run_queues=False)
        instance.insert(Job(worker="w", queue=name))
        instance.close()
        return url

    return made


def seen(said):
    assert said.code == 0, said.err
    return {queue["queue"] for queue in said.json["queues"]} - {"default"}


def test_the_file_then_the_environment_then_options(staffa, databases, monkeypatch):
    Path("staffa.toml").write_text(f'database = "{databases("file")}"')
    assert seen(staffa(*LOOK)) == {"file"}

    monkeypatch.setenv("STAFFA_DATABASE", databases("environment"))
    assert seen(staffa(*LOOK)) == {"environment"}

    assert seen(staffa(*LOOK, "--database", databases("option"))) == {"option"}


def test_shared_options_may_stand_before_the_command_or_after_it(staffa, databases):
    before, after = databases("before"), databases("after")

    assert seen(staffa("--database", before, *LOOK)) == {"before"}
    assert seen(staffa("--database", before, *LOOK, "--database", after)) == {"after"}


def test_another_file_may_be_named(staffa, databases):
    Path("staffa.toml").write_text(f'database = "{databases("usual")}"')
    Path("night.toml").write_text(f'database = "{databases("night")}"')

    assert seen(staffa(*LOOK, "--config", "night.toml")) == {"night"}


def test_an_app_is_looked_at_on_its_own_database_unless_another_is_named(staffa, databases):
    Path("brings_its_own.py").write_text(
        f"from staffa import Staffa\nstaffa = Staffa({databases('own')!r})\n"
    )

    assert seen(staffa(*LOOK, "--app", "brings_its_own:staffa")) == {"own"}
    assert seen(staffa(*LOOK, "--app", "brings_its_own:staffa", "--database", databases("named"))) == {
        "named"
    }
    del sys.modules["brings_its_own"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("databse = 'x'", "staffa.toml: unknown key 'databse'; did you mean 'database'?"),
        ("grace = 15", "staffa.toml: grace: 15 is no duration"),
        ("[queues]\ndefault = 0", "staffa.toml: queues: default: the limit must be a whole number above 0"),
        ("[pruner]\nmaxage = '1d'", "staffa.toml: pruner: unknown key 'maxage'; did you mean 'max_age'?"),
        ("database = ", "staffa.toml: "),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(staffa, text, hint):
    Path("staffa.toml").write_text(text)

    for command in (LOOK, ("run",), ("migrate",), ("enqueue", "x"), ("bench",), ("jobs", "show", "1")):
        said = staffa(*command)

        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert hint in said.err


def test_version(staffa):
    assert staffa("--version").out == f"staffa {version('staffa')}\n"


def test_an_unknown_command_or_option_exits_2(staffa):
    assert staffa("migrat").code == 2
    assert "--queue" in staffa("run", "--quue", "x").err


def test_every_command_explains_itself(staffa):
    for command in (
        "init",
        "migrate",
        "run",
        "enqueue",
        "bench",
        "jobs list",
        "jobs show",
        "jobs retry",
        "queues list",
    ):
        said = staffa(*command.split(), "--help")

        assert said.code == 0
        assert "--database" in said.out
        if command != "run":
            assert "--json" in said.out
