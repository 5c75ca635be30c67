"""Store one job by hand."""

from __future__ import annotations

import difflib
import json as json_format
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from staffa._job import AnyJob, Job
from staffa._spelling import unknown
from staffa.cli.printing import AsJobJson, job_object, moment, tell_json
from staffa.cli.settings import Settings
from staffa.config import duration
from staffa.errors import InvalidArguments, InvalidJob, UnknownWorker
from staffa.worker import find, registered


def enqueue(
    settings: Settings,
    *,
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="The worker's name, as jobs store it.")],
    args: Annotated[str, typer.Option(metavar="JSON", help="Its arguments, as a JSON object.")] = "{}",
    delay: Annotated[
        str | None, typer.Option("--in", metavar="DURATION", help="Run it later: 30s, 5m, 1h30m, 7d.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="INSTANT", help="Run it then: 2030-01-31T09:00Z (UTC unless it names a zone)."),
    ] = None,
    queue: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another queue than its worker's.")
    ] = None,
    priority: Annotated[int | None, typer.Option(metavar="N", help="0, the first, to 9.")] = None,
    max_attempts: Annotated[
        int | None, typer.Option(metavar="N", help="How often it may be attempted.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Tag it; may be repeated.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Store it even if no module here defines the worker.")
    ] = False,
    json: AsJobJson = False,
) -> None:
    """Store one job by hand.

    Its arguments are checked as its worker declares them. A unique job that repeats another one is not stored;
    the answer names that one.
    """
    if delay is not None and at is not None:
        raise InvalidJob("give --in or --at, not both")
    options = {
        "queue": queue,
        "priority": priority,
        "max_attempts": max_attempts,
        "tags": tag or None,
        "schedule_in": _delay(delay),
        "scheduled_at": instant_of(at, "--at"),
    }
    given = {name: value for name, value in options.items() if value is not None}

    with settings.instance() as staffa:
        settings.know_workers(staffa)
        job = staffa.insert(_built(worker, object_of(args, "--args"), given, force=force))

    if json:
        tell_json(job_object(job) | ({"conflict": True} if job.conflict else {}))
    else:
        when = f", due {moment(job.scheduled_at)}" if job.state != "available" else ""
        there = "was there already: it " if job.conflict else ""
        typer.echo(f"Job {job.id} of {job.worker} {there}is {job.state} in queue {job.queue}{when}.")


def _built(name: str, args: dict[str, Any], options: dict[str, Any], *, force: bool) -> AnyJob:
    """Build the job through its worker; without one, as asked."""
    try:
        worker = find(name)
    except UnknownWorker:
        if force:
            return Job(worker=name, args=args, **options)
        raise UnknownWorker(
            f"{_unknown(name)} (workers are found through `modules` and `app`;"
            " --force stores the job all the same)"
        ) from None
    return worker.using(**options).new(args)


def _unknown(name: str) -> str:
    """Name the nearest worker: people tend to leave its module out."""
    by_last_part = {full.rpartition(".")[2].lower(): full for full in sorted(registered(), reverse=True)}
    near = difflib.get_close_matches(name, [*registered()], 1, 0.8) or [
        by_last_part[part]
        for part in difflib.get_close_matches(name.rpartition(".")[2].lower(), [*by_last_part], 1)
    ]
    return (
        f"unknown worker {name!r}; did you mean {near[0]!r}?"
        if near
        else unknown(name, registered(), "worker")
    )


def object_of(text: str, option: str) -> dict[str, Any]:
    """Read a JSON object; keys given twice are refused rather than dropped."""
    try:
        found = json_format.loads(text, object_pairs_hook=_once, parse_constant=_refused)
    except ValueError as error:
        raise InvalidArguments(
            f"{option}: {error}; write a JSON object, as in {option} '{{\"user_id\": 1}}', not {text!r}"
        ) from error
    if not isinstance(found, dict):
        raise InvalidArguments(f"{option}: must be a JSON object, as in '{{\"user_id\": 1}}', not {text}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refused(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _delay(text: str | None) -> timedelta | None:
    try:
        return None if text is None else duration(text)
    except ValueError as error:
        raise InvalidJob(f"--in: {error}") from error


def instant_of(text: str | None, option: str) -> datetime | None:
    try:
        found = None if text is None else datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidJob(f"{option}: {text!r} is no instant: write it as in 2030-01-31T09:00Z") from error
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
