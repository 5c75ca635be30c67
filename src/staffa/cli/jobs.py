"""Look at jobs, and act on them by hand."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, NamedTuple

import typer

from staffa._filter import LARGEST_ID, JobFilter
from staffa._job import FINAL, WAITING, AnyJob, State
from staffa._lifecycle import CANCELLABLE, DELETABLE, RETRYABLE
from staffa._printable import printable, reason
from staffa._spelling import unknown
from staffa.cli.asking import asking
from staffa.cli.consent import ask
from staffa.cli.enqueue import instant_of, object_of
from staffa.cli.options import taking_options
from staffa.cli.printing import (
    AsJson,
    counted,
    distance,
    job_object,
    moment,
    span,
    tell_json,
    tell_table,
)
from staffa.cli.settings import DONE_WRONGLY, Settings, configured
from staffa.errors import ConfigError
from staffa.instance import Staffa

commands = typer.Typer(
    help="Look at jobs, and act on them by hand.", no_args_is_help=True, rich_markup_mode=None
)

Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID...]", help="Jobs, by their ids.")]
All = Annotated[bool, typer.Option("--all", help="Mean every job there is.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many jobs it would be.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before many jobs are touched.")]

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


class Act(NamedTuple):
    """What a command does to jobs: its participle, the states it takes, why others are refused, and the deed."""

    done: str
    states: frozenset[State]
    why_not: Callable[[AnyJob], str]
    do: Callable[[Staffa, JobFilter], list[int]]


@commands.command("list")
@configured
@asking
def show_list(
    settings: Settings,
    wanted: dict[str, Any],
    *,
    before: Annotated[int | None, typer.Option(metavar="ID", help="Go on below this id.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """List jobs, newest first. JSON: a list of jobs, each as `jobs show` shows it."""
    with settings.instance(looks=True) as staffa:
        found = staffa.jobs(**wanted, before=before, limit=limit)

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


@commands.command("count")
@configured
@asking
def count(settings: Settings, wanted: dict[str, Any], *, json: AsJson = False) -> None:
    """Count jobs. JSON: {"count": number}."""
    with settings.instance(looks=True) as staffa:
        number = staffa.count(**wanted)

    if json:
        tell_json({"count": number})
    else:
        typer.echo(number)


@commands.command("show")
@configured
def show(
    settings: Settings,
    *,
    id: Annotated[int, typer.Argument(metavar="ID", help="The job's id.", max=LARGEST_ID)],
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
    for each in job.errors:
        error = each if isinstance(each, dict) else {"error": each}  # which somebody else wrote
        typer.echo(f"\n{_error_heading(error)}")
        typer.echo(f"  {_indented(str(error.get('error', error)), 2)}")
    typer.echo("\nNext")
    for sentence in _next_steps(job):
        typer.echo(f"  {sentence}")


def acting(command: Callable[..., Act]) -> Callable[..., None]:
    """Make a command that says what to do with jobs do so: it asks which, is sure, and tells what was done."""

    def called(
        settings: Settings,
        wanted: dict[str, Any],
        ids: Ids = None,
        *,
        all_jobs: All = False,
        dry_run: DryRun = False,
        yes: Yes = False,
        json: AsJson = False,
        **own: Any,
    ) -> None:
        act = command(settings, **own)
        _act(settings, act, _meant(wanted, ids, all_jobs=all_jobs), dry_run=dry_run, sure=yes, json=json)

    return taking_options(called, command, supplied=1)


@commands.command("retry")
@configured
@asking
@acting
def retry(_: Settings) -> Act:
    """Make jobs available again.

    Each gets one attempt more if it had used all, so that it truly runs.

    JSON: {"retried": [ids], "refused": [{"id", "reason"}]}, or {"would_be_retried": number}. Exits 1 if any
    was refused.
    """
    holders: dict[str | None, AnyJob] = {}

    def retry_meant(staffa: Staffa, meant: JobFilter) -> list[int]:
        if not _by_id(meant):
            return staffa.retry_all(meant)
        answers = staffa.retry(*meant.given()["ids"])
        holders.update({job.unique_key: job for job in answers if job.conflict})
        return [job.id or 0 for job in answers if not job.conflict]

    return Act("retried", RETRYABLE, partial(_why_not_retried, holders=holders), retry_meant)


@commands.command("cancel")
@configured
@asking
@acting
def cancel(_: Settings) -> Act:
    """Cancel jobs that are not finished.

    Those that run are told to stop.

    JSON: {"cancelled": [ids], "refused": [{"id", "reason"}]}, or {"would_be_cancelled": number}. Exits 1 if
    any was refused.
    """
    return Act("cancelled", CANCELLABLE, _why_not_cancelled, lambda staffa, jobs: staffa.cancel_all(jobs))


@commands.command("delete")
@configured
@asking
@acting
def delete(_: Settings) -> Act:
    """Delete jobs that are not executing.

    JSON: {"deleted": [ids], "refused": [{"id", "reason"}]}, or {"would_be_deleted": number}. Exits 1 if any
    was refused.
    """
    return Act("deleted", DELETABLE, _why_not_deleted, lambda staffa, jobs: staffa.delete_all(jobs))


@commands.command("update")
@configured
@asking
@acting
def update(
    settings: Settings,
    *,
    change: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="What to change: queue, worker, priority, max_attempts, tags (with commas), args and meta (JSON),"
            " scheduled_at. May be repeated.",
        ),
    ],
) -> Act:
    """Change jobs that are stored.

    An attempt that runs ends as it began; scheduled_at changes only while a job waits.

    JSON: {"updated": [ids], "refused": [{"id", "reason"}]}, or {"would_be_updated": number}. Exits 1 if any
    was refused.
    """
    changes = _changes(change)
    states = WAITING if "scheduled_at" in changes else frozenset(State)

    def change_all(staffa: Staffa, jobs: JobFilter) -> list[int]:
        if changes.keys() & {"args", "worker"}:
            settings.know_workers(staffa)
        return staffa.update_all(jobs, **changes)

    return Act("updated", states, _why_not_updated, change_all)


# Which jobs, and who is sure


def _meant(wanted: dict[str, Any], ids: Sequence[int] | None, *, all_jobs: bool) -> JobFilter:
    """Read which jobs are meant; all of them only where somebody says so. Raises `ConfigError`."""
    if all_jobs and (wanted or ids):
        raise ConfigError("--all means every job there is; leave it out, or all other conditions")
    if not all_jobs and not wanted and not ids:
        raise ConfigError(
            "name jobs by their ids, or ask for some, as in --state scheduled; --all means every job there is"
        )
    return JobFilter(**wanted, ids=_once(ids) if ids else None)


def _act(settings: Settings, act: Act, wanted: JobFilter, *, dry_run: bool, sure: bool, json: bool) -> None:
    by_id = _by_id(wanted)
    with settings.instance(looks=True) as staffa:
        if dry_run or not (by_id or sure):
            number = staffa.count(wanted.only(act.states))
            if dry_run:
                _tell_number(act, number, json=json)
                return
            _ask(act, number)
        done = act.do(staffa, wanted)
        if by_id:
            _answer(staffa, act, list(wanted.given()["ids"]), set(done), json=json)
        elif json:
            tell_json({act.done: done, "refused": []})
        else:
            typer.echo(f"{counted(len(done), 'job')} {'is' if len(done) == 1 else 'are'} {act.done}.")


def _by_id(wanted: JobFilter) -> bool:
    return wanted.given().keys() == {"ids"}


def _tell_number(act: Act, number: int, *, json: bool) -> None:
    if json:
        tell_json({f"would_be_{act.done}": number})
    else:
        typer.echo(f"{counted(number, 'job')} would be {act.done}.")


def _ask(act: Act, number: int) -> None:
    """Ask before many jobs are touched. Raises `ConfigError` where nobody can be asked, or nobody agrees."""
    if number:
        would = f"{counted(number, 'job')} would be {act.done}"
        ask(would, "say --yes if that is what you want, or look first with --dry-run")


def _changes(given: Sequence[str]) -> dict[str, Any]:
    """Read `field=value`. Raises `ConfigError`, `InvalidJob` or `InvalidArguments`."""
    changes: dict[str, Any] = {}
    for each in given:
        name, separator, text = each.partition("=")
        if not separator:
            raise ConfigError(f"--set: write FIELD=VALUE, as in --set priority=1, not {each!r}")
        if name not in CHANGES:
            raise ConfigError(f"--set: {unknown(name, CHANGES, 'field')}")
        changes[name] = CHANGES[name](text, f"--set {name}")
    return changes


def _whole(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{option}: a whole number, not {text!r}") from None


CHANGES: dict[str, Callable[[str, str], Any]] = {
    "queue": lambda text, _: text,
    "worker": lambda text, _: text,
    "priority": _whole,
    "max_attempts": _whole,
    "tags": lambda text, _: text.split(","),
    "args": object_of,
    "meta": object_of,
    "scheduled_at": instant_of,
}


# What was done, and why something was not


def _answer(staffa: Staffa, act: Act, asked: Sequence[int], touched: set[int], *, json: bool) -> None:
    """Tell which jobs were touched; exit 1 where some were not."""
    missed = [each for each in asked if each not in touched]
    known = {job.id: job for job in staffa.jobs(ids=missed)}
    refused = [
        {"id": each, "reason": act.why_not(known[each]) if each in known else f"there is no job {each}"}
        for each in missed
    ]

    if json:
        tell_json({act.done: [each for each in asked if each in touched], "refused": refused})
    else:
        for each in asked:
            if each in touched:
                typer.echo(f"Job {each} is {act.done}.")
        for refusal in refused:
            typer.echo(f"staffa: {refusal['reason']}", err=True)
    if refused:
        raise typer.Exit(DONE_WRONGLY)


def _once(ids: Sequence[int]) -> list[int]:
    for each in ids:
        if not 0 <= each <= LARGEST_ID:
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


def _why_not_updated(job: AnyJob) -> str:
    return f"job {job.id} is {job.state}: its scheduled_at can change only while it waits"


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
        why = reason(job.errors)
        return why if len(why) <= LONGEST_REMARK else f"{why[:LONGEST_REMARK]}..."
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
