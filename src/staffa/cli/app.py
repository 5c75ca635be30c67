"""The commands, put together."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from staffa.cli import bench, cron, database, doctor, enqueue, jobs, new, queues
from staffa.cli.printing import our_version
from staffa.cli.run import run
from staffa.cli.settings import configured, remember

app = typer.Typer(
    name="staffa",
    help="Background jobs on SQLite or PostgreSQL.",
    epilog=(
        "Settings come from staffa.toml or [tool.staffa] of pyproject.toml, then from the environment"
        " (STAFFA_DATABASE, STAFFA_QUEUES, ...), then from options. Exit codes: 0 done, 1 not done, 2 asked wrongly."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command()(configured(database.init))
app.command()(configured(database.migrate))
app.command()(configured(run))
app.command()(configured(enqueue.enqueue))
app.add_typer(jobs.commands, name="jobs")
app.add_typer(queues.commands, name="queues")
app.add_typer(cron.commands, name="cron")
app.command()(configured(doctor.doctor))
app.command()(configured(bench.bench))
app.add_typer(new.commands, name="new")


def _tell_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"staffa {our_version()}")
        raise typer.Exit


@app.callback()
@remember
def _before(
    version: Annotated[
        bool, typer.Option("--version", callback=lambda wanted: _tell_version(wanted=wanted), is_eager=True)
    ] = False,
) -> None:
    """Background jobs on SQLite or PostgreSQL."""


def main() -> None:
    """Run `staffa`."""
    # What the pool says of a server that does not answer, our own error says once and better.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    app()
