"""The tables of the documentation name what there is, no less and no more."""

import re
import tomllib
from dataclasses import fields
from datetime import timedelta

import pytest
from pages import ROOT
from typer.main import get_command

from staffa import Crontab, Lifeline, Pruner, Stager, errors, telemetry
from staffa._job_functions import FunctionOptions
from staffa.cli.app import app as cli
from staffa.config import IN_ENVIRONMENT, IN_FILE, PREFIX, Config, duration, load
from staffa.worker import JobOptions, WorkerOptions

DOCS = ROOT / "docs"
INDENT = "\N{EN DASH}"


def rows(page, heading):
    """The cells of the tables under a heading, without their head."""
    prose = "".join((DOCS / page).read_text("utf-8").split("```")[::2])
    section = re.split(r"^#+ ", prose, flags=re.MULTILINE)
    [text] = [part for part in section if part.partition("\n")[0].strip() == heading]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_every_key_of_the_configuration_is_documented_and_no_other():
    assert [row[0] for row in rows("configuration.md", "Keys")] == [f"`{key}`" for key in IN_FILE]


def test_every_environment_variable_is_documented_and_no_other():
    documented = [name for row in rows("configuration.md", "Keys") for name in quoted(row[1])]

    assert documented == [PREFIX + key.upper() for key in IN_FILE if key in IN_ENVIRONMENT]


def test_the_documented_defaults_are_the_real_ones(tmp_path):
    file = tmp_path / "staffa.toml"
    shown = [(quoted(key)[0], default) for key, _, default, _ in rows("configuration.md", "Keys")]
    file.write_text("\n".join(f"{key} = {quoted(default)[0]}" for key, default in shown if quoted(default)))
    nothing = [key for key, default in shown if default == "none"]

    read, real = load(file, environment={}), Config()

    assert {each.name: getattr(read, each.name) for each in fields(Config) if each.name != "source"} == {
        each.name: getattr(real, each.name) for each in fields(Config) if each.name != "source"
    }
    assert nothing == [key for key in IN_FILE if getattr(real, key) is None]


@pytest.mark.parametrize("plugin", [Pruner, Stager, Lifeline, Crontab])
def test_every_key_of_a_plugin_is_documented_with_its_real_default(plugin):
    name = plugin.__name__.lower()
    real = plugin()

    for key, default, _ in rows("configuration.md", f"`[{name}]`"):
        attribute = getattr(real, quoted(key)[0])
        if default == "none":
            assert attribute == "by state"
        elif isinstance(attribute, timedelta):
            assert duration(quoted(default)[0].strip('"')) == attribute
        else:
            assert int(quoted(default)[0]) == attribute


@pytest.mark.parametrize("name", ["pruner", "stager", "lifeline", "crontab"])
def test_a_plugin_has_no_key_that_is_not_documented(name, tmp_path):
    documented = {quoted(row[0])[0] for row in rows("configuration.md", f"`[{name}]`")}
    file = tmp_path / "staffa.toml"
    file.write_text(f"[{name}]\nnonsense = 1")

    with pytest.raises(errors.ConfigError) as refused:
        load(file, environment={})

    assert set(str(refused.value).rpartition("known are ")[2].split(", ")) == documented


def test_every_exception_is_documented_under_its_parents():
    documented = [
        (row[0].count(INDENT), quoted(row[0])[0], quoted(row[1])) for row in rows("errors.md", "Errors")
    ]
    path = ["StaffaError"]

    for depth, name, also in documented:
        del path[depth + 1 :]
        kind = getattr(errors, name)
        parents = [base.__name__ for base in kind.__bases__]
        assert parents[0] == path[-1]
        assert parents[1:] == also
        path.append(name)

    real = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name for _, name, _ in documented} == real - {"StaffaError"}


def test_every_option_of_a_worker_is_documented():
    documented = {quoted(row[0])[0] for row in rows("workers.md", "Classes")}

    assert documented == set(WorkerOptions.__dataclass_fields__) | set(FunctionOptions.__annotations__)


def test_every_option_of_a_job_is_documented():
    documented = {name for row in rows("enqueueing.md", "Options of one job") for name in quoted(row[0])}

    assert documented == set(JobOptions.__annotations__)


def test_every_event_is_documented_with_what_it_says_and_its_fields():
    kinds = [kind for kind in vars(telemetry).values() if isinstance(kind, type)]
    events = [kind for kind in kinds if issubclass(kind, telemetry.Event) and kind is not telemetry.Event]

    assert rows("telemetry.md", "Events") == [
        [f"`{kind.__name__}`", kind.__doc__, ", ".join(map(shown, fields(kind)))] for kind in events
    ]


def shown(field):
    """A field and its type, as a reader of a table may see them."""
    return f"`{field.name}: {field.type.replace('AnyJob', 'Job').replace(' | ', ' or ')}`"


def test_the_changelog_speaks_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_command_is_documented_and_no_other():
    documented = {
        " ".join(word for word in quoted(row[0])[0].split() if word.islower())
        for row in rows("command-line.md", "Command line")
    }

    assert documented == {f"staffa {name}" for name in commands(get_command(cli))}


def commands(group, before=""):
    """Name all commands that do something."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def test_the_documented_floors_are_those_that_are_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]

    documented = [set(quoted(row[1])) for row in rows("architecture.md", "The floors")]

    assert documented == [
        {name.strip().removeprefix("staffa.") for name in layer.split(":")} for layer in layers
    ]
