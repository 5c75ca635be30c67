"""See when jobs are inserted by themselves, or insert one now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from staffa._bridge import at_once
from staffa._clock import instant
from staffa._cron import CronEntry
from staffa._spelling import unknown
from staffa.cli.printing import AsJobJson, AsJson, distance, job_object, moment, tell_json, tell_table
from staffa.cli.settings import Settings, configured
from staffa.engine import CronMark
from staffa.errors import ConfigError
from staffa.instance import Staffa

commands = typer.Typer(
    help="See when jobs are inserted by themselves, or insert one now.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("list")
@configured
def show_list(
    settings: Settings,
    *,
    next: Annotated[int, typer.Option(min=1, metavar="N", help="Show so many of the next runs.")] = 1,
    json: AsJson = False,
) -> None:
    """List cron entries, the next one first.

    Each with its expression and zone, its worker and arguments, its next runs in UTC, and the last tick for which
    a job was inserted.

    JSON: [{"name", "expression", "timezone", "worker", "args", "queue", "catch_up", "jitter", "next": [instant],
    "last_tick", "last_job"}]; jitter is in seconds, the last two are null where nothing was inserted yet.
    """
    with _crontab(settings, looks=True) as (staffa, entries):
        now = at_once(staffa.plain_engine.clock())
        marks = at_once(staffa.plain_engine.cron_marks([entry.name for entry in entries]))
    known = {mark.entry: mark for mark in marks if mark.job_id is not None}
    runs = {entry.name: entry.next_runs(next, now) for entry in entries}
    entries.sort(key=lambda entry: runs[entry.name][:1] or [datetime.max.replace(tzinfo=UTC)])

    if json:
        tell_json([_object(entry, runs[entry.name], known.get(entry.name)) for entry in entries])
    elif entries:
        headers = ["NEXT", "EXPRESSION", "ZONE", "WORKER", "ARGS", "LAST", "JOB", "NAME"]
        tell_table(
            headers, [row for each in entries for row in _rows(each, runs[each.name], known.get(each.name))]
        )
    else:
        typer.echo("There are no cron entries: give a worker one with cron=, or configure [[cron]].")


@commands.command("run")
@configured
def run_now(
    settings: Settings,
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The entry's name, as `staffa cron list` shows it.")
    ],
    json: AsJobJson = False,
) -> None:
    """Insert the job of a cron entry now, whatever the clock says.

    Its ticks come all the same.
    """
    with _crontab(settings) as (staffa, entries):
        found = {entry.name: entry for entry in entries}
        if name not in found:
            raise ConfigError(unknown(name, found, "cron entry"))
        job = staffa.insert(found[name].job_now())

    if json:
        tell_json(job_object(job))
    else:
        typer.echo(f"Job {job.id} of {job.worker} is {job.state} in queue {job.queue}.")


@contextmanager
def _crontab(settings: Settings, *, looks: bool = False) -> Iterator[tuple[Staffa, list[CronEntry]]]:
    """Read the crontab as `staffa run` does."""
    with settings.instance(looks=looks) as staffa:
        settings.know_workers(staffa)
        with staffa.as_default() if settings.config().app is None else nullcontext():
            yield staffa, staffa.crontab


def _rows(entry: CronEntry, runs: Sequence[datetime], mark: CronMark | None) -> list[list[str]]:
    """Show an entry, and one line more for each further run."""
    first, *further = [moment(run) for run in runs] or [
        "when it starts" if entry.schedule is None else "never"
    ]
    args = "" if not entry.job.args else str(entry.job.args)
    last, job = ("", "") if mark is None else (distance(mark.newest), str(mark.job_id))
    whole = [first, entry.cron.expression, entry.timezone, entry.job.worker, args, last, job, entry.name]
    return [whole, *([run] + [""] * (len(whole) - 1) for run in further)]


def _object(entry: CronEntry, runs: Sequence[datetime], mark: CronMark | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "expression": entry.cron.expression,
        "timezone": entry.timezone,
        "worker": entry.job.worker,
        "args": entry.job.args,
        "queue": entry.job.queue,
        "catch_up": entry.cron.catch_up,
        "jitter": entry.cron.jitter.total_seconds(),
        "next": [instant(run) for run in runs],
        "last_tick": None if mark is None else instant(mark.newest),
        "last_job": None if mark is None else mark.job_id,
    }
