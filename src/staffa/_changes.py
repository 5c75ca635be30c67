"""What may be changed of a job that is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from staffa._admission import check_name, check_whole, tidy_tags, utc
from staffa._arguments import json_object
from staffa._job import ATTEMPTS, PRIORITIES, WAITING, AnyJob
from staffa._job_functions import AnyWorker, class_of
from staffa._spelling import hint
from staffa.errors import InvalidJob
from staffa.worker import registered


class Changes(TypedDict, total=False):
    """New values of a stored job's fields. `args`, `meta` and `tags` are replaced whole."""

    args: Any
    worker: AnyWorker | str
    queue: str
    priority: int
    max_attempts: int
    tags: Sequence[str]
    meta: Mapping[str, Any]
    scheduled_at: datetime


def change_of(
    function: Callable[[AnyJob], Mapping[str, Any]] | None, changes: Changes
) -> Callable[[AnyJob], dict[str, Any]]:
    """Return what says how a job changes, checked. Raises `InvalidJob`; so may what is returned, for a job."""
    if function is not None:
        if changes:
            raise InvalidJob(f"give new values or a function, not both: it came with {min(changes)}=")
        if not callable(function):
            raise InvalidJob(f"give new values by keyword, or a function of the job, not {function!r}")
        return lambda job: _for_job(job, _checked(function(job)))
    if not changes:
        raise InvalidJob(f"there is nothing to change; what can be is {', '.join(CHECKS)}")
    checked = _checked(changes)
    return lambda job: _for_job(job, checked)


def _checked(changes: object) -> dict[str, Any]:
    """Check what can be told without knowing the job."""
    if not isinstance(changes, Mapping):
        raise InvalidJob(f"changes are a dict by the names of fields, not {changes!r}")
    for name in changes:
        if name not in CHECKS:
            raise InvalidJob(f"{name!r} of a stored job cannot be changed; {hint(str(name), CHECKS)}")
    return {name: CHECKS[name](value) for name, value in changes.items()}


def _for_job(job: AnyJob, changes: dict[str, Any]) -> dict[str, Any]:
    """Check what depends on the job: its arguments must fit its worker, and only what waits has a time to come."""
    if "scheduled_at" in changes and job.state not in WAITING:
        raise InvalidJob(f"job {job.id} is {job.state}: its scheduled_at can change only while it waits")
    worker = registered().get(changes.get("worker", job.worker))
    if "args" in changes:
        stored = json_object(changes["args"]) if worker is None else worker.shape.store(changes["args"])
        return {**changes, "args": stored}
    if "worker" in changes and worker is not None:
        worker.shape.load(job.args)
    return changes


def _worker(given: Any) -> str:
    if (worker := class_of(given)) is not None:
        return worker.options.name
    check_name("worker", given)
    return str(given)


def _queue(given: Any) -> str:
    check_name("queue", given)
    return str(given)


def _priority(given: Any) -> int:
    check_whole("priority", given, PRIORITIES)
    return int(given)


def _max_attempts(given: Any) -> int:
    check_whole("max_attempts", given, ATTEMPTS)
    return int(given)


def _scheduled_at(given: Any) -> datetime:
    if (moment := utc(given)) is None:
        raise InvalidJob("scheduled_at must be a datetime with a time zone, not None")
    return moment


CHECKS: dict[str, Callable[[Any], object]] = {
    "args": lambda given: given,
    "worker": _worker,
    "queue": _queue,
    "priority": _priority,
    "max_attempts": _max_attempts,
    "tags": tidy_tags,
    "meta": lambda given: json_object(given, "meta"),
    "scheduled_at": _scheduled_at,
}
