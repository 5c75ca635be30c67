"""The time: asked in one place so that tests may answer, written in one way."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

LONGEST_DELAY = timedelta(days=365_000)  # databases cannot count as far as a timedelta


def utc_now() -> datetime:
    """Return this machine's time, aware, in UTC."""
    return datetime.now(UTC)


def running_from(start: datetime) -> Clock:
    """Make a clock that shows `start` now and runs on steadily from there.

    Started with an instant that the database gave, it tells the database's time without asking again,
    whatever this machine's wall clock says.
    """
    ahead = start.timestamp() - time.monotonic()
    return lambda: datetime.fromtimestamp(ahead + time.monotonic(), UTC)


def instant(moment: datetime) -> str:
    """Write an aware UTC instant as Oban does in errors: six digits and Z."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
