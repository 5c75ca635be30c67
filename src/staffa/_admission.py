"""What may enter the table: every job is checked once, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from staffa._arguments import is_plain_text, json_object
from staffa._clock import LONGEST_DELAY
from staffa._job import ATTEMPTS, LONGEST_NAME, PRIORITIES, AnyJob, Job, State, replace, share_options
from staffa._unique import key_of, replacement_of, unique_of
from staffa.errors import InvalidJob

Checked = dict[str, Any]

INSERTABLE = frozenset({State.AVAILABLE, State.SCHEDULED, State.SUSPENDED})


def admitted(job: AnyJob) -> AnyJob:
    """Return the job as it will be stored. Raises `InvalidJob` or `InvalidArguments`, naming what is wrong."""
    return _admitted(job, _options(job))


def all_admitted(jobs: Iterable[AnyJob]) -> list[AnyJob]:
    """Return jobs as they will be stored; options that one shares with the one before are not checked again."""
    admissible: list[AnyJob] = []
    model: AnyJob | None = None
    options: Checked = {}
    for job in jobs:
        if model is None or not isinstance(job, Job) or job.id is not None or not share_options(job, model):
            model, options = job, _options(job)
        admissible.append(_admitted(job, options))
    return admissible


def _options(job: AnyJob) -> Checked:
    """Check all but what differs from job to job; give those options that are stored in another form."""
    if not isinstance(job, Job):
        raise InvalidJob(f"only jobs can be stored, as Worker.new(...) builds them, not {job!r}")
    if job.id is not None:
        raise InvalidJob(f"job {job.id} is stored already; build a new one with Worker.new(...)")
    check_name("worker", job.worker)
    check_name("queue", job.queue)
    check_whole("priority", job.priority, PRIORITIES)
    check_whole("max_attempts", job.max_attempts, ATTEMPTS)
    if job.state not in INSERTABLE:
        raise InvalidJob(f"a new job cannot be {job.state}")
    if job.schedule_in is not None and job.scheduled_at is not None:
        raise InvalidJob("give schedule_in or scheduled_at, not both")
    if job.schedule_in is not None:
        _check_delay(job.schedule_in)
    return {"scheduled_at": utc(job.scheduled_at), **_rule(job)}


def _rule(job: AnyJob) -> Checked:
    """Check what makes a job repeat another one, and what becomes of that one."""
    if job.unique is None and job.replace is None:
        return {}
    try:
        unique, wanted = unique_of(job.unique), replacement_of(job.replace) if job.replace else {}
    except ValueError as error:
        raise InvalidJob(str(error)) from error
    if wanted and unique is None:
        raise InvalidJob("replace is for unique jobs; give unique= too")
    return {"unique": unique, "replace": wanted}


def _admitted(job: AnyJob, options: Checked) -> AnyJob:
    """Copy a job whose options are checked, with the key that it shares with those it must not repeat."""
    checked = replace(
        job,
        args=json_object(job.args),
        meta=json_object(job.meta, "meta"),
        tags=tidy_tags(job.tags),
        unique_key=None,
        **options,
    )
    if checked.unique is None:
        return checked
    try:
        return replace(checked, unique_key=key_of(checked, checked.unique))
    except ValueError as error:
        raise InvalidJob(str(error)) from error


def check_name(option: str, name: Any) -> None:
    if not isinstance(name, str) or not _is_name(name):
        raise InvalidJob(f"{option} must be text of 1 to {LONGEST_NAME} characters, not {name!r}")


@lru_cache
def _is_name(text: str) -> bool:
    """Tell whether a text may be a name; most jobs share a few."""
    return is_text(text) and 0 < len(text) <= LONGEST_NAME


def check_whole(option: str, number: object, allowed: range) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number not in allowed:
        raise InvalidJob(
            f"{option} must be a whole number from {allowed[0]} to {allowed[-1]}, not {number!r}"
        )


def _check_delay(delay: object) -> None:
    if not isinstance(delay, timedelta):
        raise InvalidJob(f"schedule_in must be a timedelta, not {delay!r}")
    if abs(delay) > LONGEST_DELAY:
        raise InvalidJob(f"schedule_in must be less than a thousand years, not {delay}")


def is_text(value: object) -> bool:
    """Tell whether a value is text that databases can hold: no NUL, no lone surrogates."""
    return isinstance(value, str) and is_plain_text(value)


def tidy_tags(tags: Sequence[str]) -> list[str]:
    """Trim, lower and de-duplicate tags, as Oban does. Raises `InvalidJob`."""
    if type(tags) is list and not tags:
        return []
    if not isinstance(tags, Sequence) or isinstance(tags, str) or not all(map(is_text, tags)):
        raise InvalidJob(f"tags must be a list of texts, not {tags!r}")
    return list(dict.fromkeys(tag.strip().lower() for tag in tags if tag.strip()))


def utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidJob(f"scheduled_at must be a datetime with a time zone, not {moment!r}")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidJob(f"scheduled_at is beyond what a date can hold in UTC: {moment!r}") from error
