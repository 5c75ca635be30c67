"""Look at jobs, and act on them by hand."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer

from staffa._job import FINAL, AnyJob, State
from staffa._printable import printable
from staffa.cli.printing import (
    counted,
    distance,
    job_object,
    moment,
    span,
    tell_json,
    tell_table,
)
from staffa.cli.settings import DONE_WRONGLY, Settings, configured
from staffa.config import unknown
from staffa.errors import ConfigError
from staffa.instance import Staffa

commands = typer.Typer(
    help="Look at jobs, and act on them by hand.", no_args_is_help=True, rich_markup_mode=None
)

Ids = Annotated[list[int], typer.Argument(metavar="ID...", help="Jobs, by their ids.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]

LAST_IN_STATE = {
    State.AVAILABLE: "scheduled_at",
    State.SUSPENDED: "inserted_at",
    State.SCHEDULED: "scheduled_at",
    State.EXECUTING: "attempted_at",
    State.RETRYABLE: "scheduled_at",
    State.COMPLETED: "completed_at",
    State.DISCARDED: "discarded_at",
    State.CANCELLED: "cancelled_at",
}
LONGEST_REMARK = 100
MOST_IDS = 2**63 - 1


@commands.command("list")
@configured
def show_list(
    settings: Settings,
    *,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="Only these states; may be repeated.")
    ] = None,
    queue: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these queues.")] = None,
    worker: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these workers.")] = None,
    before: Annotated[int | None, typer.Option(metavar="ID", help="Go on below this id.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """List jobs, newest first. JSON: a list of jobs, each as `jobs show` shows it."""
    states = [_state(each) for each in state] if state else None
    with settings.instance(looks=True) as staffa:
        found = staffa.jobs(
            states=states,
            queues=queue,
            workers=worker,
            before=before,
            limit=limit,
        )

    if json:
        tell_json([job_object(job) for job in found])
        return
    tell_table(
        ("ID", "STATE", "QUEUE", "WORKER", "ATTEMPT", "WHEN", "REMARK"), [_row(each) for each in found]
    )
    if not found:
        typer.echo("No such jobs.", err=True)
    if len(found) == limit:
        typer.echo(f"There may be more: --before {found[-1].id} goes on, --limit shows more.", err=True)


@commands.command("show")
@configured
def show(
    settings: Settings,
    *,
    id: Annotated[int, typer.Argument(metavar="ID", help="The job's id.", max=MOST_IDS)],
    json: AsJson = False,
) -> None:
    """Show everything about a job, and what can be done next.

    JSON: an object with the columns of the job: id, state, queue, worker, args, meta, tags, errors (each with
    at, attempt and error), attempt, max_attempts, priority, attempted_by, and instants named ..._at.
    """
    with settings.instance(looks=True) as staffa:
        job = staffa.get(id)
    if job is None:
        typer.echo(f"staffa: there is no job {id}; finished jobs are deleted when they are old", err=True)
        raise typer.Exit(DONE_WRONGLY)

    if json:
        tell_json(job_object(job))
        return
    typer.echo(f"Job {job.id} is {job.state}.\n")
    for label, text in _facts(job):
        typer.echo(f"  {label:<13} {_indented(text, 16)}")
    for error in job.errors:
        typer.echo(f"\n{_error_heading(error)}")
        typer.echo(f"  {_indented(str(error.get('error', error)), 2)}")
    typer.echo("\nNext")
    for sentence in _next_steps(job):
        typer.echo(f"  {sentence}")


@commands.command("retry")
@configured
def retry(settings: Settings, ids: Ids, json: AsJson = False) -> None:
    """Make jobs available again.

    Each gets one attempt more if it had used all, so that it truly runs.

    JSON: {"retried": [ids], "refused": [{"id", "reason"}]}. Exits 1 if any was refused.
    """
    asked = _once(ids)
    with settings.instance(looks=True) as staffa:
        answers = staffa.retry(*asked)
        retried = {job.id for job in answers if not job.conflict}
        holders = {job.unique_key: job for job in answers if job.conflict}
        _answer(staffa, "retried", asked, retried, partial(_why_not_retried, holders=holders), json=json)


@commands.command("cancel")
@configured
def cancel(settings: Settings, ids: Ids, json: AsJson = False) -> None:
    """Cancel jobs that are not finished.

    Those that run are told to stop.

    JSON: {"cancelled": [ids], "refused": [{"id", "reason"}]}. Exits 1 if any was refused.
    """
    asked = _once(ids)
    with settings.instance(looks=True) as staffa:
        cancelled = {job.id for job in staffa.cancel(*asked)}
        _answer(staffa, "cancelled", asked, cancelled, _why_not_cancelled, json=json)


@commands.command("delete")
@configured
def delete(settings: Settings, ids: Ids, json: AsJson = False) -> None:
    """Delete jobs that are not executing.

    JSON: {"deleted": [ids], "refused": [{"id", "reason"}]}. Exits 1 if any was refused.
    """
    asked = _once(ids)
    with settings.instance(looks=True) as staffa:
        deleted = set(staffa.delete(*asked))
        _answer(staffa, "deleted", asked, deleted, _why_not_deleted, json=json)


# What was done, and why something was not


def _answer(
    staffa: Staffa,
    done: str,
    asked: Sequence[int],
    touched: set[int | None] | set[int],
    why: Callable[[AnyJob], str],
    *,
    json: bool,
) -> None:
    """Tell which jobs were touched; exit 1 where some were not."""
    missed = [each for each in asked if each not in touched]
    known = {job.id: job for job in staffa.jobs(ids=missed, limit=len(missed))} if missed else {}
    refused = [
        {"id": each, "reason": why(known[each]) if each in known else f"there is no job {each}"}
        for each in missed
    ]

    if json:
        tell_json({done: [each for each in asked if each in touched], "refused": refused})
    else:
        for each in asked:
            if each in touched:
                typer.echo(f"Job {each} is {done}.")
        for refusal in refused:
            typer.echo(f"staffa: {refusal['reason']}", err=True)
    if refused:
        raise typer.Exit(DONE_WRONGLY)


def _once(ids: Sequence[int]) -> list[int]:
    for each in ids:
        if not 0 <= each <= MOST_IDS:
            raise ConfigError(f"{each} is no id of a job")
    return list(dict.fromkeys(ids))


def _why_not_retried(job: AnyJob, holders: Mapping[str | None, AnyJob]) -> str:
    if (holder := holders.get(job.unique_key)) is not None:
        return f"job {job.id} is unique, and job {holder.id}, which is the same, is {holder.state}"
    return f"job {job.id} is {job.state} already; there is nothing to retry"


def _why_not_cancelled(job: AnyJob) -> str:
    return f"job {job.id} is {job.state} already; there is nothing to cancel"


def _why_not_deleted(job: AnyJob) -> str:
    return f"job {job.id} is {job.state}; cancel it first: staffa jobs cancel {job.id}"


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise ConfigError(f"--state: {unknown(text, [str(each) for each in State], 'state')}") from None


# How a job is shown


def _row(job: AnyJob) -> tuple[str, ...]:
    at = getattr(job, LAST_IN_STATE[job.state])
    return (
        str(job.id),
        str(job.state),
        job.queue,
        job.worker,
        f"{job.attempt}/{job.max_attempts}",
        "" if at is None else distance(at),
        _remark(job),
    )


def _remark(job: AnyJob) -> str:
    """Say in a few words how far a running job is, or what went wrong last."""
    if job.state is State.EXECUTING:
        return _progress(job)
    if job.errors and job.state is not State.COMPLETED:
        lines = str(job.errors[-1].get("error", "")).strip().splitlines()
        last = lines[-1] if lines else ""
        return last if len(last) <= LONGEST_REMARK else f"{last[:LONGEST_REMARK]}..."
    return ""


def _progress(job: AnyJob) -> str:
    """Write what the job told about itself; other programs may have written other things there."""
    told = job.meta.get("progress")
    if not isinstance(told, dict):
        return ""
    current, total, note = told.get("current"), told.get("total"), told.get("note")
    parts = [f"{current}" if total is None else f"{current} of {total}"]
    if isinstance(current, int) and isinstance(total, int) and total > 0:
        parts.append(f"({100 * current // total} %)")
    return " ".join([*parts, str(note)] if note else parts)


def _facts(job: AnyJob) -> list[tuple[str, str]]:
    node, producer = [*job.attempted_by, "", ""][:2]
    by = f" by {node}" + (f" (producer {producer})" if producer else "") if node else ""
    meta = {key: value for key, value in job.meta.items() if key != "progress"}
    facts = [
        ("worker", job.worker),
        ("queue", f"{job.queue}, priority {job.priority}"),
        ("attempt", f"{job.attempt} of {job.max_attempts}"),
        ("progress", _progress(job)),
        ("inserted", moment(job.inserted_at)),
        ("scheduled", moment(job.scheduled_at)),
        ("attempted", moment(job.attempted_at) + by if job.attempted_at else ""),
        ("completed", moment(job.completed_at)),
        ("discarded", moment(job.discarded_at)),
        ("cancelled", moment(job.cancelled_at)),
        ("tags", ", ".join(job.tags)),
        ("meta", _readable(meta) if meta else ""),
        ("args", _readable(job.args)),
    ]
    return [(label, text) for label, text in facts if text]


def _readable(value: Any) -> str:
    return json_format.dumps(value, indent=2, ensure_ascii=False)


def _indented(text: str, width: int) -> str:
    return f"\n{' ' * width}".join(printable(text).rstrip().splitlines())


def _error_heading(error: dict[str, Any]) -> str:
    at = str(error.get("at", ""))
    try:
        when = datetime.fromisoformat(at)
    except ValueError:
        told = printable(at)
    else:
        told = moment(when if when.tzinfo else when.replace(tzinfo=UTC))
    return f"Error of attempt {error.get('attempt', '?')}, {told}"


def _next_steps(job: AnyJob) -> list[str]:
    """Say what will happen by itself, and what a person may do."""
    cancel = f"staffa jobs cancel {job.id} - so that it does not run"
    retry = f"staffa jobs retry {job.id} - to run it now"
    delete = f"staffa jobs delete {job.id} - to remove it with its history"
    if job.state in FINAL:
        return [_outlook(job), retry.replace("now", "again"), delete]
    if job.state in (State.AVAILABLE, State.EXECUTING):
        return [_outlook(job), cancel]
    return [_outlook(job), retry, cancel]


def _outlook(job: AnyJob) -> str:
    """Say what will happen by itself."""
    outlooks = {
        State.AVAILABLE: f"It runs as soon as queue {job.queue} has a free place; `staffa queues list` shows where.",
        State.SUSPENDED: "It waits until somebody releases it.",
        State.SCHEDULED: f"It becomes available {_due(job)}.",
        State.EXECUTING: f"{_since(job)} If that process died, the job comes back by itself.",
        State.RETRYABLE: f"It is tried again {_due(job)}; {_attempts(job.max_attempts - job.attempt)} left.",
        State.COMPLETED: "It is done; nothing is left to do.",
        State.DISCARDED: f"It failed for good, after {_attempts(job.attempt)}; mend the cause before you retry it.",
        State.CANCELLED: "It was cancelled and does not run again by itself.",
    }
    return outlooks[job.state]


def _attempts(number: int) -> str:
    return counted(max(number, 0), "attempt")


def _due(job: AnyJob) -> str:
    return "soon" if job.scheduled_at is None else distance(job.scheduled_at)


def _since(job: AnyJob) -> str:
    node = job.attempted_by[0] if job.attempted_by else "an unknown node"
    if job.attempted_at is None:
        return f"It runs on {node}."
    return f"It has been running on {node} for {span(datetime.now(UTC) - job.attempted_at)}."
