"""How long to wait before trying again."""

from __future__ import annotations

import random
from datetime import timedelta

JITTER = 0.1
LONGEST_EXPONENT = 20


def retry_delay(attempt: int, max_attempts: int) -> timedelta:
    """Oban's delay after a failed attempt: 15 + 2^attempt seconds, up to 10 % more by chance.

    Attempts are scaled to 20 where a job has more of them, so the last delay is never above 13.4 days
    (Oban's `Worker.backoff/1`).
    """
    exponent = (
        attempt if max_attempts <= LONGEST_EXPONENT else round(attempt / max_attempts * LONGEST_EXPONENT)
    )
    return lengthened(timedelta(seconds=15 + 2 ** min(exponent, LONGEST_EXPONENT)))


def reconnect_delay(failures: int) -> timedelta:
    """Return the wait before asking a lost database again: 0.1 s doubling to 3 s, halved at most by chance."""
    return timedelta(seconds=min(0.1 * 2 ** min(failures, 10), 3.0) * random.uniform(0.5, 1))  # noqa: S311 - spreads load


def restart_delay(failures: int) -> timedelta:
    """Return the wait before a process that died is started again: 0.5 s doubling to 30 s."""
    return timedelta(seconds=min(0.5 * 2 ** min(failures - 1, 10), 30.0))


def rescue_delay(rescues: int) -> timedelta:
    """Return the wait of a job whose worker died under it, growing so that innocents run apart from the culprit."""
    if rescues <= 1:
        return timedelta(0)
    return lengthened(timedelta(seconds=5 * 2 ** min(rescues - 2, 10)), share=1.0)


def lengthened(delay: timedelta, *, share: float = JITTER) -> timedelta:
    """Add up to `share` of a delay by chance."""
    return delay * (1 + random.uniform(0, share))  # noqa: S311 - spreads load
