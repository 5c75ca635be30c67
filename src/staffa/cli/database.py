"""The configuration file and the tables: what a project needs before its first job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from staffa.cli.consent import ask
from staffa.cli.printing import AsJson, tell_json
from staffa.cli.settings import Settings
from staffa.config import FILE, Config, without_password
from staffa.engines._sql.migrations import indexes_jobs
from staffa.errors import ConfigError
from staffa.instance import Staffa

TEMPLATE = """\
# Staffa's configuration. Settings behind a # are the defaults, or examples where that is said; remove the # to
# change them.
# The environment weighs more than this file (STAFFA_DATABASE, STAFFA_QUEUES=default:10,mailers:20, ...),
# options of the command line weigh most. Durations: "500ms", "30s", "5m", "1h30m", "7d".

# Where jobs are kept. A relative path is relative to the directory in which a program runs.
# PostgreSQL: "postgresql://user:password@host/name"; its tables are made by `staffa migrate`.
database = {database}

# The modules that define your workers; none by default. An example:
# modules = ["app.jobs"]

# Or the Staffa that your program makes itself; `staffa run` then runs that one, with its own database.
# None by default. An example:
# app = "app.jobs:staffa"

# The schema of PostgreSQL that holds the tables.
# schema = "public"

# What this system is called.
# name = "Staffa"

# What this machine is called; its host name by default. An example:
# node = "worker-1"

# Tests: "manual" stores jobs and runs nothing, "inline" runs them where they are enqueued. Neither by default.
# An example:
# testing = "inline"

# How long running jobs may go on after SIGTERM before they are put back.
# grace = "15s"

# How often queues look for jobs of which no notification told them.
# poll = "1s"

# How often this process shows that it lives, and when an event loop that does not answer is reported.
# heartbeat = "5s"
# stuck_after = "10m"

# How many processes `staffa run` keeps running.
# processes = 1

# How `staffa run` logs: "text" for people, "json" for programs.
# log_format = "text"

# Where cron expressions are read.
# timezone = "Etc/UTC"

# How many jobs of each queue run at once on one machine.
[queues]
default = 10
# An example with a purpose, which `staffa queues list` shows:
# mailers = {{limit = 20, purpose = "Mails to customers"}}

# How long finished jobs are kept: an age, or "never" to delete none.
[pruner]
# completed = "1d"
# cancelled = "7d"
# discarded = "7d"
# interval = "30s"
# limit = 10000
# One age for all three instead; none by default. An example:
# max_age = "7d"

# How often due jobs are made available, and how many at once.
[stager]
# interval = "1s"
# limit = 5000

# How soon jobs of a dead process are brought back.
[lifeline]
# interval = "2s"
# silence = "20s"
# limit = 1000

# Indexes swell as rows come and go; this rebuilds them at night. Remove the # before [reindexer] to turn it on.
# [reindexer]
# schedule = "@midnight"
# within = "5m"
# timezone = "Etc/UTC"
# indexes = []

# Jobs that are inserted by themselves, beside those whose workers say so. Each entry is a table of its own;
# none by default. It also takes args, timezone, catch_up, jitter, name, queue, priority, max_attempts, tags and meta.
# An example:
# [[cron]]
# worker = "app.jobs.report"
# expression = "0 6 * * *"

# Where `staffa new worker` puts workers and their tests. Remove the # before [generator] to use it. An example:
# [generator]
# package = "app.workers"
# tests = "tests/workers"
# templates = "templates"

# How late a tick is still in time, and how far back missed ones are caught up.
[crontab]
# interval = "1s"
# grace = "2m"
# window = "1d"
"""


def init(
    settings: Settings,
    *,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: AsJson = False,
) -> None:
    """Write a commented staffa.toml into this directory.

    With --config it is written to that path, with --database for that database. JSON: {"written": path}.
    """
    path = settings.path or Path(FILE)
    if path.name == "pyproject.toml":
        raise ConfigError(f"{path}: only a file of its own can be written; add [tool.staffa] there by hand")
    database = settings.given.get("database") or Config().database
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(database=_quoted(database)))
    except FileExistsError:
        raise ConfigError(f"{path}: the file is there already; --force writes over it") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error

    if json:
        tell_json({"written": str(path)})
        return
    typer.echo(f"Wrote {path}. Next: name your modules in it, then `staffa migrate` and `staffa run`.")


def migrate(
    settings: Settings,
    *,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="VERSION", help="Go to this version, there or back; 0 takes away all ours."
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only say what is applied, and what is not.")
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Only print the statements, for another tool to execute.")
    ] = False,
    since: Annotated[
        int, typer.Option("--from", metavar="VERSION", help="With --sql: the version that is there already.")
    ] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before jobs are lost.")] = False,
    index: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Also index what args, meta or tags contain; may be repeated."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Make or update the tables, or go back. Safe to run twice, and from several processes at once.

    Going back asks first where jobs or other rows would be lost; without a terminal it needs --yes.
    JSON: {"database": URL, "schema": name, "applied": [versions], "taken_back": [versions],
    "indexed": [columns]}; with --status {"database", "schema", "applied", "pending", "made_by",
    "oban_version", "trouble"}; with --sql a list.
    """
    with settings.instance(looks=status) as staffa:
        if sql:
            _tell_sql(staffa.migration_sql(since, to), json=json)
        elif status:
            _tell_status(staffa, json=json)
        else:
            _migrate(staffa, to, sure=yes, indexes=index or (), json=json)


def _migrate(staffa: Staffa, to: int | None, *, sure: bool, indexes: Sequence[str], json: bool) -> None:
    going_back = to is not None and any(version > to for version in staffa.tables.status().applied)
    if going_back:
        assert to is not None  # noqa: S101 - as was asked a line before
        if not sure:
            _ask_about(staffa.tables.losses(to), to)
        applied, taken_back = [], staffa.migrate_back(to)
    else:
        applied, taken_back = staffa.migrate(to), []
    indexed = staffa.tables.index(indexes)

    where = without_password(staffa.url)
    if json:
        told = {"database": where, "schema": staffa.schema, "applied": applied, "taken_back": taken_back}
        tell_json({**told, "indexed": indexed})
    elif applied or taken_back:
        typer.echo(f"{where}: {'applied' if applied else 'took back'} {_versions(applied or taken_back)}.")
    elif not indexed:
        typer.echo(f"{where}: the tables are up to date.")
    if indexed and not json:
        typer.echo(f"{where}: made an index for {', '.join(indexed)}.")


def _ask_about(losses: Mapping[str, int], to: int) -> None:
    """Ask before rows are lost. Raises `ConfigError` where nobody can be asked, or nobody agrees."""
    if not losses:
        return
    lost = ", ".join(f"{rows:,} in {table}" for table, rows in losses.items())
    question = f"Going back to version {to} deletes rows: {lost}"
    if "staffa_producers" in losses:
        question += "; queues may still be running: stop them first"
    ask(question, "say --yes if that is what you want")


def _tell_sql(statements: Sequence[str], *, json: bool) -> None:
    if json:
        tell_json(statements)
        return
    for statement in statements:
        if indexes_jobs(statement):
            typer.echo(
                "-- Where there are many jobs: outside of a transaction, and as `create index concurrently`."
            )
        typer.echo(f"{statement};")


def _tell_status(staffa: Staffa, *, json: bool) -> None:
    where, status = without_password(staffa.url), staffa.tables.status()
    if json:
        tell_json({"database": where, "schema": staffa.schema, **msgspec.to_builtins(status)})
        return
    makers = {"staffa": "made by Staffa", "oban": "made by Oban", None: "not there yet"}
    typer.echo(f"{where}: oban_jobs is {makers[status.made_by]}.")
    typer.echo(f"applied: {_versions(status.applied)}")
    typer.echo(f"pending: {_versions(status.pending)}")
    if status.oban_version is not None:
        typer.echo(f"Oban reads its own version as {status.oban_version}.")
    if status.trouble is not None:
        typer.echo(f"trouble: {status.trouble}")


def _versions(versions: Sequence[int]) -> str:
    if not versions:
        return "nothing"
    return f"version{'' if len(versions) == 1 else 's'} {', '.join(map(str, versions))}"


def _quoted(text: str) -> str:
    """Write a TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
