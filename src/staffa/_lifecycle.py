"""What a job becomes: functions from a job to the next, without clock and without database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from staffa._backoff import rescue_delay
from staffa._clock import instant
from staffa._job import FINAL, RESULT, AnyJob, State, replace

RESCUES_ALLOWED = 5

CANCELLABLE = frozenset(State) - FINAL
RETRYABLE = frozenset(State) - {State.AVAILABLE, State.EXECUTING}
DELETABLE = frozenset(State) - {State.EXECUTING}


def completed(job: AnyJob, now: datetime) -> AnyJob:
    """Complete without a result; what an earlier run recorded does not count any more."""
    if job.meta.get(RESULT) is not None:
        return recorded(job, now, None)
    return replace(job, state=State.COMPLETED, completed_at=now)


def recorded(job: AnyJob, now: datetime, result: object) -> AnyJob:
    """Complete with what the job returned."""
    return replace(job, state=State.COMPLETED, completed_at=now, meta={**job.meta, RESULT: result})


def cancelled(job: AnyJob, now: datetime, reason: str) -> AnyJob:
    return replace(job, state=State.CANCELLED, cancelled_at=now, errors=with_error(job, now, reason))


def snoozed(job: AnyJob, now: datetime, delay: timedelta) -> AnyJob:
    """Give the attempt back and count the snooze in `meta["snoozed"]`, as Oban does since 2.24."""
    return replace(
        job,
        state=State.SCHEDULED,
        scheduled_at=now + delay,
        attempt=max(job.attempt - 1, 0),
        meta={**job.meta, "snoozed": _count(job, "snoozed") + 1},
    )


def failed(job: AnyJob, now: datetime, error: str, delay: timedelta) -> AnyJob:
    """Become retryable after a delay while attempts remain, else discarded."""
    errors = with_error(job, now, error)

    if job.attempt >= job.max_attempts:
        return replace(job, state=State.DISCARDED, discarded_at=now, errors=errors)

    return replace(job, state=State.RETRYABLE, scheduled_at=now + delay, errors=errors)


def handed_back(job: AnyJob) -> AnyJob:
    """Return a job that was taken but not done; the attempt does not count."""
    return replace(job, state=State.AVAILABLE, attempt=max(job.attempt - 1, 0))


def rescued(job: AnyJob, now: datetime) -> AnyJob:
    """Return a job whose worker died: at once the first time, later with a growing delay, not for ever."""
    rescues = _count(job, "rescued") + 1
    back = replace(job, attempt=max(job.attempt - 1, 0), meta={**job.meta, "rescued": rescues})

    if rescues >= RESCUES_ALLOWED:
        error = f"orphaned {rescues} times: the process that ran this job died each time; it was given up"
        return replace(
            back,
            state=State.DISCARDED,
            attempt=job.attempt,
            discarded_at=now,
            errors=with_error(job, now, error),
        )

    if delay := rescue_delay(rescues):
        return replace(back, state=State.SCHEDULED, scheduled_at=now + delay)

    return replace(back, state=State.AVAILABLE)


def retried(job: AnyJob, now: datetime) -> AnyJob:
    """Become available by hand, with an attempt left to truly run (Oban's `retry_job`)."""
    return replace(
        job,
        state=State.AVAILABLE,
        max_attempts=max(job.max_attempts, job.attempt + 1),
        scheduled_at=now,
        completed_at=None,
        discarded_at=None,
        cancelled_at=None,
    )


def updated(job: AnyJob, changes: Mapping[str, Any], now: datetime) -> AnyJob:
    """Take on new values: a job whose new time has not come waits for it, and no attempt made is undone."""
    after: AnyJob = replace(job, **changes)

    if after.max_attempts < job.attempt:
        after = replace(after, max_attempts=job.attempt)

    if "scheduled_at" in changes and job.state is State.AVAILABLE and (after.scheduled_at or now) > now:
        after = replace(after, state=State.SCHEDULED)

    return after


def with_error(job: AnyJob, now: datetime, error: str) -> list[dict[str, object]]:
    return [*job.errors, {"at": instant(now), "attempt": job.attempt, "error": error}]


def _count(job: AnyJob, key: str) -> int:
    count = job.meta.get(key, 0)
    return count if isinstance(count, int) else 0
