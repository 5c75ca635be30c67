"""The configuration file and the tables: what a project needs before its first job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from staffa.cli.printing import tell_json
from staffa.cli.settings import Settings
from staffa.config import FILE, Config, without_password
from staffa.errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]

TEMPLATE = """\
# Staffa's configuration. Every line that begins with # shows a default; remove the # to change it.
# The environment weighs more than this file (STAFFA_DATABASE, STAFFA_QUEUES=default:10,mailers:20, ...),
# options of the command line weigh most. Durations: "500ms", "30s", "5m", "1h30m", "7d".

# Where jobs are kept. A relative path is relative to the directory in which a program runs.
# PostgreSQL: "postgresql://user:password@host/name"; its tables are made by `staffa migrate`.
database = {database}

# The modules that define your workers.
# modules = ["app.jobs"]

# Or the Staffa that your program makes itself; `staffa run` then runs that one, with its own database.
# app = "app.jobs:staffa"

# The schema of PostgreSQL that holds the tables.
# schema = "public"

# What this system and this machine are called. By default, the machine is called by its host name.
# name = "Staffa"
# node = "worker-1"

# Tests: "manual" stores jobs and runs nothing, "inline" runs them where they are enqueued.
# testing = "inline"

# How long running jobs may go on after SIGTERM before they are put back.
# grace = "15s"

# How often queues look for jobs of which no notification told them.
# poll = "1s"

# How often this process shows that it lives, and when an event loop that does not answer is reported.
# heartbeat = "5s"
# stuck_after = "10m"

# How many jobs of each queue run at once on one machine.
[queues]
default = 10
# mailers = {{limit = 20, purpose = "Mails to customers"}}

# How long finished jobs are kept: an age, or "never" to delete none. `max_age` is one age for all.
[pruner]
# completed = "1d"
# cancelled = "7d"
# discarded = "7d"
# max_age = "7d"
# interval = "30s"
# limit = 10000

# How often due jobs are made available, and how many at once.
[stager]
# interval = "1s"
# limit = 5000

# How soon jobs of a dead process are brought back.
[lifeline]
# interval = "2s"
# silence = "20s"
# limit = 1000
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


def migrate(settings: Settings, *, json: AsJson = False) -> None:
    """Make or update the tables. Safe to run twice, and from several processes at once.

    JSON: {"database": URL, "schema": name, "applied": [versions]}.
    """
    with settings.instance() as staffa:
        applied = staffa.migrate()
        where = without_password(staffa.url)
        schema = staffa.schema

    if json:
        tell_json({"database": where, "schema": schema, "applied": applied})
    elif applied:
        versions = ", ".join(map(str, applied))
        typer.echo(f"{where}: applied version{'' if len(applied) == 1 else 's'} {versions}.")
    else:
        typer.echo(f"{where}: the tables are up to date.")


def _quoted(text: str) -> str:
    """Write a TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
