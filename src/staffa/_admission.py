"""What may enter the table: every job is checked once, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from staffa._arguments import json_object
from staffa._job import AnyJob, State, replace
from staffa.errors import InvalidJob

LONGEST_NAME = 127
PRIORITIES = range(10)
INSERTABLE = frozenset({State.AVAILABLE, State.SCHEDULED, State.SUSPENDED})


def admitted(job: AnyJob) -> AnyJob:
    """Return the job as it will be stored. Raises `InvalidJob` or `InvalidArguments`, naming what is wrong."""
    if job.id is not None:
        raise InvalidJob(f"job {job.id} is stored already; build a new one with Worker.new(...)")
    _check_name("worker", job.worker)
    _check_name("queue", job.queue)
    _check_whole("priority", job.priority, PRIORITIES)
    _check_whole("max_attempts", job.max_attempts, range(1, 2**31))
    if job.state not in INSERTABLE:
        raise InvalidJob(f"a new job cannot be {job.state}")
    if job.schedule_in is not None and job.scheduled_at is not None:
        raise InvalidJob("give schedule_in or scheduled_at, not both")
    if job.schedule_in is not None and not isinstance(job.schedule_in, timedelta):
        raise InvalidJob(f"schedule_in must be a timedelta, not {job.schedule_in!r}")
    return replace(
        job,
        args=json_object(job.args),
        meta=json_object(job.meta, "meta"),
        tags=_tags(job.tags),
        scheduled_at=_utc(job.scheduled_at),
    )


def _check_name(option: str, name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or "\0" in name:
        raise InvalidJob(f"{option} must be text of 1 to {LONGEST_NAME} characters, not {name!r}")


def _check_whole(option: str, number: object, allowed: range) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number not in allowed:
        raise InvalidJob(
            f"{option} must be a whole number from {allowed[0]} to {allowed[-1]}, not {number!r}"
        )


def _tags(tags: Sequence[str]) -> list[str]:
    """Trim, lower and de-duplicate tags, as Oban does."""
    if isinstance(tags, str) or not all(isinstance(tag, str) and "\0" not in tag for tag in tags):
        raise InvalidJob(f"tags must be a list of texts, not {tags!r}")
    return list(dict.fromkeys(tag.strip().lower() for tag in tags if tag.strip()))


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidJob(f"scheduled_at must be a datetime with a time zone, not {moment!r}")
    return moment.astimezone(UTC)
