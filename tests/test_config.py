"""What can be configured, from where, and what is said about mistakes."""

from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from staffa import Config, Cron, Staffa, StaffaError
from staffa.config import (
    IN_ENVIRONMENT,
    IN_FILE,
    QueueConfig,
    duration,
    load,
    queue_limits,
    queues_of,
    unknown,
    without_password,
)
from staffa.errors import ConfigError


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for key in IN_ENVIRONMENT:
        monkeypatch.delenv(f"STAFFA_{key.upper()}", raising=False)


def read(text, **options):
    Path("staffa.toml").write_text(text)
    return load(environment={}, **options)


def refusal(text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


# Where values come from


def test_without_a_file_everything_has_a_default():
    found = load(environment={})

    assert found == Config()
    assert (found.database, found.queues) == ("sqlite:///staffa.db", {"default": QueueConfig(10)})
    assert found.source == "the defaults"


def test_every_setting_can_be_read_from_a_file():
    found = read(
        """
        database = "postgresql://ann@host/crm"
        schema = "jobs"
        modules = ["crm.workers", "crm.mails"]
        app = "crm.jobs:staffa"
        name = "Crm"
        node = "worker-1"
        testing = "manual"
        grace = "0s"
        poll = "500ms"
        heartbeat = "3s"
        stuck_after = "1h30m"
        processes = 4
        timezone = "Asia/Kolkata"
        [queues]
        default = 10
        csv_import = {limit = 5, purpose = "Imports of leads"}
        [pruner]
        max_age = "never"
        completed = "1d"
        limit = 500
        [stager]
        interval = "2s"
        [lifeline]
        silence = "1m"
        [reindexer]
        schedule = "@weekly"
        [crontab]
        window = "7d"
        grace = "0s"
        [[cron]]
        worker = "crm.Report"
        expression = "@daily"
        args = {region = "EU"}
        timezone = "Europe/Paris"
        catch_up = "all"
        jitter = "5m"
        name = "reports"
        queue = "reports"
        priority = 3
        max_attempts = 2
        tags = ["a"]
        meta = {team = "x"}
        """
    )

    assert found == Config(
        database="postgresql://ann@host/crm",
        schema="jobs",
        modules=("crm.workers", "crm.mails"),
        app="crm.jobs:staffa",
        name="Crm",
        node="worker-1",
        testing="manual",
        grace=timedelta(0),
        poll=timedelta(milliseconds=500),
        heartbeat=timedelta(seconds=3),
        stuck_after=timedelta(minutes=90),
        processes=4,
        queues={"default": QueueConfig(10), "csv_import": QueueConfig(5, "Imports of leads")},
        pruner={"max_age": None, "completed": timedelta(days=1), "limit": 500},
        stager={"interval": timedelta(seconds=2)},
        reindexer={"schedule": "@weekly"},
        crontab={"window": timedelta(days=7), "grace": timedelta(0)},
        lifeline={"silence": timedelta(minutes=1)},
        timezone="Asia/Kolkata",
        cron=(
            Cron(
                "@daily",
                worker="crm.Report",
                args={"region": "EU"},
                timezone="Europe/Paris",
                catch_up="all",
                jitter=timedelta(minutes=5),
                name="reports",
                queue="reports",
                priority=3,
                max_attempts=2,
                tags=("a",),
                meta={"team": "x"},
            ),
        ),
        source="staffa.toml",
    )


def test_every_setting_can_be_read():
    assert {each.name for each in fields(Config)} - {"source"} == IN_FILE.keys()
    assert IN_FILE.keys() - IN_ENVIRONMENT.keys() == {
        "pruner",
        "stager",
        "lifeline",
        "reindexer",
        "cron",
        "crontab",
        "generator",
    }


def test_pyproject_is_read_where_there_is_no_staffa_toml():
    Path("pyproject.toml").write_text('[tool.staffa]\nname = "From pyproject"\n')
    assert load(environment={}).name == "From pyproject"
    assert load(environment={}).source == "pyproject.toml [tool.staffa]"

    assert read('name = "From staffa.toml"').name == "From staffa.toml"


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "tool = 5\n", "[tool.ruff]\n"])
def test_a_pyproject_of_somebody_else_changes_nothing(text):
    Path("pyproject.toml").write_text(text)

    assert load(environment={}) == Config()


def test_a_pyproject_that_is_named_must_have_our_table():
    Path("pyproject.toml").write_text("[project]\nname = 'x'\n")

    with pytest.raises(ConfigError, match=r"pyproject.toml: there is no table \[tool.staffa\]"):
        load("pyproject.toml", environment={})


def test_our_table_must_be_a_table():
    Path("pyproject.toml").write_text("[tool]\nstaffa = 5\n")

    with pytest.raises(ConfigError, match=r"tool\.staffa must be a table, not 5"):
        load(environment={})


def test_a_file_that_is_named_is_read_and_no_other():
    Path("staffa.toml").write_text("name = 'Here'")
    Path("night.toml").write_text("name = 'Night'")

    assert load("night.toml", environment={}).name == "Night"
    assert load(Path("night.toml"), environment={}).source == "night.toml"


def test_a_file_that_is_not_there_is_named_with_what_writes_one():
    with pytest.raises(ConfigError, match=r"missing\.toml: there is no such file; `staffa init` writes one"):
        load("missing.toml", environment={})


@pytest.mark.parametrize("content", [b"database = ", b"\xff\xfe", b"name = 'a'\nname = 'b'"])
def test_a_file_that_is_no_toml_is_named(content):
    Path("staffa.toml").write_bytes(content)

    with pytest.raises(ConfigError, match=r"^staffa\.toml: "):
        load(environment={})


def test_a_directory_is_no_file():
    Path("folder").mkdir()

    with pytest.raises(ConfigError, match=r"^folder: "):
        load("folder", environment={})


def test_the_environment_weighs_more_than_the_file_and_flags_weigh_most():
    Path("staffa.toml").write_text("name = 'File'\nnode = 'file'\nschema = 'file'\n")
    environment = {"STAFFA_NODE": "environment", "STAFFA_SCHEMA": "environment", "HOME": "/"}

    found = load(environment=environment, flags={"schema": "flag", "node": None})

    assert (found.name, found.node, found.schema) == ("File", "environment", "flag")


def test_the_environment_of_the_process_is_read(monkeypatch):
    monkeypatch.setenv("STAFFA_NAME", "Mine")

    assert load().name == "Mine"


def test_queues_and_lists_in_the_environment_have_commas():
    found = load(
        environment={
            "STAFFA_QUEUES": "default:10, tenant:pune:3,",
            "STAFFA_MODULES": "crm.workers, crm.mails",
            "STAFFA_GRACE": "1m",
            "STAFFA_TESTING": "inline",
        }
    )

    assert found.queues == {"default": QueueConfig(10), "tenant:pune": QueueConfig(3)}
    assert found.modules == ("crm.workers", "crm.mails")
    assert (found.grace, found.testing) == (timedelta(minutes=1), "inline")


def test_an_empty_variable_is_none():
    assert load(environment={"STAFFA_APP": ""}).app is None


@pytest.mark.parametrize(
    "key", ["STAFFA_TEST_POSTGRES_URL", "STAFFA_SERVICE_HOST", "STAFFA_PORT", "STAFFA_PORT_80_TCP_ADDR"]
)
def test_variables_of_tests_and_of_a_kubernetes_service_named_staffa_are_not_ours(key):
    assert load(environment={key: "x"}) == Config()


# Mistakes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("databse = 'x'", "staffa.toml: unknown key 'databse'; did you mean 'database'?"),
        (
            "zzz = 1",
            "staffa.toml: unknown key 'zzz'; known are app, cron, crontab, database, generator, grace",
        ),
        ("Grace = '1s'", "did you mean 'grace'?"),
        ("database = 5", "staffa.toml: database: must be text, not 5"),
        ("database = ''", "staffa.toml: database: must be text, not ''"),
        ("modules = 'crm'", "staffa.toml: modules: must be a list of texts, not 'crm'"),
        ("modules = [1]", "staffa.toml: modules: must be text, not 1"),
        ("app = 'crm.jobs'", "staffa.toml: app: must name a module and the Staffa in it, as in"),
        ("app = 'crm/jobs.py:staffa'", "staffa.toml: app: must name a module"),
        ("testing = 'inlin'", 'staffa.toml: testing: must be "manual" or "inline", not'),
        ("grace = 15", "staffa.toml: grace: 15 is no duration: write it with a unit"),
        ("grace = '15 seconds'", "staffa.toml: grace: '15 seconds' is no duration"),
        ("poll = '0s'", "staffa.toml: poll: must be longer than nothing, not '0s'"),
        ("queues = 5", "staffa.toml: queues: must be a table of queues with their limits"),
        ("[queues]\na = 0", "staffa.toml: queues: a: the limit must be a whole number above 0, not 0"),
        ("[queues]\na = true", "staffa.toml: queues: a: the limit must be a whole number above 0, not True"),
        ("[queues]\na = '5'", "staffa.toml: queues: a: the limit must be a whole number above 0, not '5'"),
        ("[queues]\na = {purpose = 'x'}", "staffa.toml: queues: a has no limit"),
        ("[queues]\na = {limit = 1, purpose = 1}", "staffa.toml: queues: a: the purpose must be text, not 1"),
        ("[queues]\na = {limt = 1}", "staffa.toml: queues: a: unknown key 'limt'; did you mean 'limit'?"),
        ("[queues]\n'' = 1", "staffa.toml: queues: a queue's name has 1 to 127 characters, not ''"),
        ("pruner = 5", "staffa.toml: pruner: must be a table, not 5"),
        ("[pruner]\nmaxage = '1d'", "staffa.toml: pruner: unknown key 'maxage'; did you mean 'max_age'?"),
        ("[pruner]\nmax_age = 5", "staffa.toml: pruner: max_age: 5 is no duration"),
        ("timezone = 'Mars'", "staffa.toml: timezone: timezone must be the name of a time zone"),
        ("timezone = 'Europe/Amsterdm'", "not 'Europe/Amsterdm'; did you mean 'Europe/Amsterdam'?"),
        ("cron = 5", "staffa.toml: cron: must be a list of entries, each written as [[cron]], not 5"),
        ("cron = ['@daily']", "staffa.toml: cron: entry 1: must be a table, not '@daily'"),
        ("[[cron]]\nworker = 'w'", "staffa.toml: cron: entry 1 ('w'): it has no expression"),
        ("[[cron]]\nexpression = '@daily'", "staffa.toml: cron: entry 1: it has no worker"),
        (
            "[[cron]]\nworker='w'\nexpression = '@daily'\n[[cron]]\nworker='w'\nname='n'\nexpresion = '* * * * *'",
            "staffa.toml: cron: entry 2 ('n'): unknown key 'expresion'; did you mean 'expression'?",
        ),
        (
            "[[cron]]\nworker = 'w'\nexpression = '60 * * * *'",
            "staffa.toml: cron: entry 1 ('w'): the expression '60 * * * *' is wrong: bad minute",
        ),
        (
            "[[cron]]\nworker = 'w'\nexpression = '@daily'\njitter = 5",
            "staffa.toml: cron: entry 1 ('w'): jitter: 5 is no duration",
        ),
        ("[stager]\nlimit = 0", "staffa.toml: stager: limit: must be a whole number above 0, not 0"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_key_and_where_it_stands(text, said):
    assert refusal(text).startswith(said) or said in refusal(text)
    assert "\n" not in refusal(text)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"STAFFA_DATABSE": "x"},
            "the environment: unknown key 'STAFFA_DATABSE'; did you mean 'STAFFA_DATABASE'?",
        ),
        (
            {"STAFFA_QUEUES": "default"},
            "the environment: STAFFA_QUEUES: 'default' is no queue with its limit",
        ),
        ({"STAFFA_QUEUES": "a:1,a:2"}, "the environment: STAFFA_QUEUES: queue 'a' is given twice"),
        ({"STAFFA_QUEUES": "a:0"}, "the environment: STAFFA_QUEUES: a: the limit must be a whole number"),
        ({"STAFFA_QUEUES": "a:²"}, "the environment: STAFFA_QUEUES: 'a:²' is no queue with its limit"),
        ({"STAFFA_GRACE": "soon"}, "the environment: STAFFA_GRACE: 'soon' is no duration"),
        ({"STAFFA_PRUNER": "x"}, "the environment: unknown key 'STAFFA_PRUNER'"),
    ],
)
def test_a_mistake_in_the_environment_is_told_with_its_variable(environment, said):
    with pytest.raises(ConfigError) as caught:
        load(environment=environment)

    assert str(caught.value).startswith(said)


def test_a_mistake_in_a_flag_is_told_with_its_key():
    with pytest.raises(ConfigError, match=r"^the command line: app: must name a module"):
        load(environment={}, flags={"app": "x"})


def test_a_mistake_is_an_error_of_ours():
    assert issubclass(ConfigError, StaffaError)


# Values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
    ],
)
def test_durations_have_units(text, seconds):
    assert duration(text) == timedelta(seconds=seconds)
    assert duration(f" {text} ") == timedelta(seconds=seconds)


def test_a_timedelta_is_a_duration():
    assert duration(timedelta(minutes=1)) == timedelta(minutes=1)


@pytest.mark.parametrize("value", ["", "5", "s", "-5s", "5 parsecs", "5s!", "٣s", 5, 5.0, None, True])
def test_what_has_no_unit_is_no_duration(value):
    with pytest.raises(ValueError, match="is no duration: write it with a unit"):
        duration(value)


@pytest.mark.parametrize("value", ["999999999999w", f"{'9' * 400}d"])
def test_a_duration_no_date_can_hold_is_too_long(value):
    with pytest.raises(ValueError, match="is too long"):
        duration(value)


def test_queue_limits_are_read_from_text():
    assert queue_limits("") == {}
    assert queue_limits("a:1,b:20") == {"a": QueueConfig(1), "b": QueueConfig(20)}


def test_queues_are_read_as_code_gives_them():
    given = {"a": 5, "b": {"limit": 2, "purpose": "Mails"}, "c": QueueConfig(3)}

    assert queues_of(given) == {"a": QueueConfig(5), "b": QueueConfig(2, "Mails"), "c": QueueConfig(3)}


def test_queues_in_code_are_refused_with_their_name():
    with pytest.raises(ConfigError, match="queues: mail: the limit must be a whole number above 0, not 0"):
        Staffa("sqlite://", queues={"mail": 0})


def test_the_nearest_key_is_suggested_or_all_are_named():
    assert unknown("qeue", ["queue", "worker"]) == "unknown key 'qeue'; did you mean 'queue'?"
    assert unknown("QUEUE", ["queue", "worker"]) == "unknown key 'QUEUE'; did you mean 'queue'?"
    assert unknown("x", ["queue", "worker"], "option") == "unknown option 'x'; known are queue, worker"
    assert unknown("x", []) == "unknown key 'x'; none is known"
    assert unknown("x", [f"long_name_{each:03}" for each in range(100)]).endswith("long_name_019, ...")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///app.db", "sqlite:///app.db"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
        ("postgresql://host/crm", "postgresql://host/crm"),
        ("postgresql://ann@host:5432/crm", "postgresql://ann@host:5432/crm"),
        ("postgresql://ann:secret@host/crm", "postgresql://ann:***@host/crm"),
        ("postgresql+psycopg://ann:se:c@ret@host/crm?x=1", "postgresql+psycopg://ann:***@host/crm?x=1"),
        (
            "postgresql://host/crm?user=ann&password=secret&x=1",
            "postgresql://host/crm?user=ann&password=***&x=1",
        ),
        ("postgresql://host/crm?sslpassword=secret", "postgresql://host/crm?sslpassword=***"),
    ],
)
def test_urls_are_shown_without_their_password(url, shown):
    assert without_password(url) == shown


def test_an_instance_is_made_from_a_configuration():
    Path("night.toml").write_text("database = 'sqlite:///night.db'\nname = 'Night'\n[queues]\nmail = 3\n")

    staffa = Staffa.from_config("night.toml", node="worker-9")

    assert (staffa.url, staffa.name, staffa.node) == ("sqlite:///night.db", "Night", "worker-9")
    assert staffa.queues == {"mail": QueueConfig(3)}
    assert not Path("night.db").exists()
