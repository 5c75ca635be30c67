"""A hint that something happened, never a promise: everything works without it, only slower."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

Payload = Mapping[str, Any]
Heard = Callable[[str, Payload], None]

INSERT = "insert"
SIGNAL = "signal"
LEADER = "leader"
DUE = "due"
WATCH = "watch"
ENDED = "ended"

CHANNELS = (INSERT, SIGNAL, LEADER, DUE, WATCH)
IDS_AT_ONCE = 300  # a notification of PostgreSQL holds less than 8,000 bytes


class Notifier(Protocol):
    """Hears what engines tell: `insert` carries `{"queue": …}`, `signal` `{"action": …}`, `leader` `{"down": …}`.

    An insert that names no queue means any of them. What is down is a lease that was given up. `due` says
    that a job will be due soon. `watch` and `ended` carry `{"job_ids": […]}`: the jobs somebody waits for, and
    those of them that have ended.
    """

    async def run(self, heard: Heard, *, channels: Sequence[str] = CHANNELS) -> None:
        """Call `heard(channel, payload)` for all that is told there, until cancelled; survive a lost database.

        When listening begins, also again, channels that say where to look get an empty payload, as `begin` does it.
        """


def read_payload(text: str) -> Payload | None:
    """Read a JSON object; None where it is none."""
    with suppress(ValueError, TypeError, RecursionError):
        payload = json.loads(text)
        if isinstance(payload, dict):
            return payload
    return None


def begin(heard: Heard, channels: Sequence[str]) -> None:
    """Let those look who listen from now on: much may have been told before."""
    for channel in channels:
        if channel in (INSERT, DUE, ENDED):
            heard(channel, {})


def naming(ids: Iterable[int]) -> list[Payload]:
    """Write payloads that name jobs."""
    ordered = sorted(ids)
    return [
        {"job_ids": ordered[start : start + IDS_AT_ONCE]} for start in range(0, len(ordered), IDS_AT_ONCE)
    ]


def naming_queues(queues: Iterable[str]) -> list[Payload]:
    """Write payloads that name queues."""
    return [{"queue": queue} for queue in sorted(set(queues))]
