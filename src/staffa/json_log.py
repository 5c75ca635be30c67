"""Logs that machines read: every line is one JSON object."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from staffa._clock import instant
from staffa._job import FAILED, Job
from staffa.telemetry import EngineCalled, Event, JobBounced, LoopStuck, PluginTicked, Telemetry

JOB_FIELDS = ("id", "worker", "queue", "state", "priority", "attempt", "max_attempts", "tags")
FREQUENT = (EngineCalled, PluginTicked)
LONGEST_TEXT = 8_000
DEEPEST = 20


class Teller(Protocol):
    """What has telemetry: an instance."""

    @property
    def telemetry(self) -> Telemetry: ...


def log_json(
    instance: Teller,
    *,
    level: int = logging.INFO,
    events: Sequence[type[Event]] = (),
    job_fields: Sequence[str] = JOB_FIELDS,
    logger: str = "staffa.events",
) -> Callable[[], None]:
    """Log each event of an instance as one JSON object; the answer ends it.

    `events` are the types to log, by default all but `EngineCalled` and `PluginTicked`, which come many
    times a second. What went wrong is logged at `WARNING` at least. Raises `TypeError` for what is no type
    of events, `ValueError` for what is no field of a job.
    """
    if unknown := sorted(set(job_fields) - set(Job.__struct_fields__)):
        raise ValueError(f"job_fields: a job has no {', '.join(unknown)}")
    told = logging.getLogger(logger)

    def log(event: Event) -> None:
        if not events and isinstance(event, FREQUENT):
            return
        severity = max(level, logging.WARNING) if _is_bad(event) else level
        if told.isEnabledFor(severity):
            told.log(severity, Line(_described(event, instance.telemetry, job_fields, severity)))

    return instance.telemetry.attach(log, *(events or (Event,)))


class Line(dict[str, Any]):
    """A message that is a JSON object, and knows it."""

    def __str__(self) -> str:
        return json.dumps(self)


class JsonFormatter(logging.Formatter):
    """Writes every record as one JSON object: events as they are, others with `logger` and `message`."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, Line):
            return str(record.msg)
        line = Line(time=_moment(record.created), level=record.levelname.lower(), pid=record.process)
        line["logger"] = record.name
        line["message"] = _shortened(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _plain(record.exc_info[1])
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return str(line)


def _described(
    event: Event, telemetry: Telemetry, job_fields: Sequence[str], severity: int
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "time": _moment(time.time()),
        "level": logging.getLevelName(severity).lower(),
        "pid": os.getpid(),
        "event": type(event).__name__,
        "instance": telemetry.instance,
        "node": telemetry.node,
    }
    for each in fields(event):
        value = getattr(event, each.name)
        if isinstance(value, Job):
            value = {name: getattr(value, name) for name in job_fields}
        described[each.name] = _plain(value)
    return described


def _is_bad(event: Event) -> bool:
    job = getattr(event, "job", None)
    failed = job is not None and job.state in FAILED
    return failed or getattr(event, "error", None) is not None or isinstance(event, JobBounced | LoopStuck)


def _plain(value: object, depth: int = 0) -> Any:  # noqa: PLR0911 - one case for each kind of value
    """Write a value so that JSON can hold it, whatever it is."""
    match value:
        case None | bool():
            return value
        case str():
            return _shortened(str(value))
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else repr(value)
        case timedelta():
            return value.total_seconds()
        case datetime():
            return instant(value.astimezone(UTC))
        case BaseException():
            return {"type": type(value).__name__, "message": _shortened(str(value))}
        case Mapping() if depth < DEEPEST:
            return {str(key): _plain(each, depth + 1) for key, each in value.items()}
        case list() | tuple() | set() | frozenset() if depth < DEEPEST:
            return [_plain(each, depth + 1) for each in value]
    return _shortened(repr(value))


def _moment(seconds: float) -> str:
    return instant(datetime.fromtimestamp(seconds, UTC))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
