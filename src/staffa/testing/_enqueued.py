"""See what was enqueued, and say what was not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

import msgspec
from typing_extensions import Unpack

from staffa._bridge import at_once, refuse_inside_loop
from staffa._filter import JobFilter
from staffa._job import WAITING, AnyJob, State
from staffa._job_functions import AnyWorker, class_of
from staffa.engine import Engine
from staffa.instance import Staffa
from staffa.testing._shared import PAGE, check_options, kind_of, listed, runs_inline
from staffa.worker import find

TOLERANCE = timedelta(seconds=1)
POLL_SECONDS = 0.01
SHOWN = 10


class Wanted(TypedDict, total=False):
    """What a job must be like; what is not named may be anything.

    `args` and `meta` match where every key named is there with a value that matches in turn, `tags` where
    all named are there; `unittest.mock.ANY` matches every value. `scheduled_at` and `schedule_in` (from the
    insert on) match within `tolerance`, one second by default. `state` is any that still waits by default.
    """

    worker: AnyWorker | str
    args: object
    queue: str
    priority: int
    tags: Sequence[str]
    meta: Mapping[str, Any]
    state: State
    scheduled_at: datetime
    schedule_in: timedelta
    tolerance: timedelta


def all_enqueued(staffa: Staffa, **wanted: Unpack[Wanted]) -> list[AnyJob]:
    """List the jobs that wait and match, newest first. See `Wanted`."""
    refuse_inside_loop("all_enqueued", "aall_enqueued(...)")
    return at_once(_Search("all_enqueued", staffa, staffa.plain_engine, wanted).found())


async def aall_enqueued(staffa: Staffa, **wanted: Unpack[Wanted]) -> list[AnyJob]:
    """List the jobs that wait and match, newest first; awaited. See `Wanted`."""
    return await _Search("aall_enqueued", staffa, staffa.engine, wanted).found()


def assert_enqueued(staffa: Staffa, *, timeout: timedelta | float = 0, **wanted: Unpack[Wanted]) -> AnyJob:
    """Give the newest waiting job that matches; fail where none has come within `timeout`. See `Wanted`."""
    refuse_inside_loop("assert_enqueued", "aassert_enqueued(...)")
    search = _Search("assert_enqueued", staffa, staffa.plain_engine, wanted)
    for pause in _pauses(timeout):
        time.sleep(pause)
        if found := at_once(search.found()):
            return found[0]
    raise AssertionError(at_once(search.missing()))


async def aassert_enqueued(
    staffa: Staffa,
    *,
    timeout: timedelta | float = 0,  # noqa: ASYNC109 - a time to look for, not one to be cut off at
    **wanted: Unpack[Wanted],
) -> AnyJob:
    """Give the newest waiting job that matches; awaited. See `assert_enqueued`."""
    search = _Search("aassert_enqueued", staffa, staffa.engine, wanted)
    for pause in _pauses(timeout):
        await asyncio.sleep(pause)
        if found := await search.found():
            return found[0]
    raise AssertionError(await search.missing())


def refute_enqueued(staffa: Staffa, *, timeout: timedelta | float = 0, **wanted: Unpack[Wanted]) -> None:
    """Fail where a job waits that matches, or comes within `timeout`. See `Wanted`."""
    refuse_inside_loop("refute_enqueued", "arefute_enqueued(...)")
    search = _Search("refute_enqueued", staffa, staffa.plain_engine, wanted)
    for pause in _pauses(timeout):
        time.sleep(pause)
        if found := at_once(search.found()):
            raise AssertionError(search.unwelcome(found))


async def arefute_enqueued(
    staffa: Staffa,
    *,
    timeout: timedelta | float = 0,  # noqa: ASYNC109 - a time to look for, not one to be cut off at
    **wanted: Unpack[Wanted],
) -> None:
    """Fail where a job waits that matches, or comes within `timeout`; awaited. See `Wanted`."""
    search = _Search("arefute_enqueued", staffa, staffa.engine, wanted)
    for pause in _pauses(timeout):
        await asyncio.sleep(pause)
        if found := await search.found():
            raise AssertionError(search.unwelcome(found))


class _Search:
    """What is looked for, and what is said about it."""

    def __init__(self, called: str, staffa: Staffa, engine: Engine, wanted: Wanted) -> None:
        check_options(called, wanted, Wanted)
        self._staffa, self._engine, self._wanted = staffa, engine, wanted
        self._states = (wanted["state"],) if "state" in wanted else sorted(WAITING)

    async def found(self) -> list[AnyJob]:
        return [job for job in await self._enqueued() if _fits(job, self._wanted)]

    async def missing(self) -> str:
        if runs_inline(self._staffa):
            return (
                "no job is ever enqueued in inline mode: jobs run where they are enqueued and are not stored; "
                "look at what they did, or use manual mode"
            )
        enqueued = await self._enqueued()
        rest = f"enqueued, newest first:\n{_listing(enqueued)}" if enqueued else "nothing is enqueued"
        return f"no enqueued job matches\n{_described(self._wanted)}\n{rest}"

    def unwelcome(self, found: Sequence[AnyJob]) -> str:
        return f"no enqueued job should match\n{_described(self._wanted)}\nyet there is:\n{_listing(found)}"

    async def _enqueued(self) -> list[AnyJob]:
        return await listed(self._engine, JobFilter(states=self._states, limit=PAGE))


def _fits(job: AnyJob, wanted: Wanted) -> bool:
    tolerance = wanted.get("tolerance", TOLERANCE)
    checks: dict[str, Callable[[Any], bool]] = {
        "worker": lambda worker: job.worker in _names(worker),
        "args": lambda args: _matches(_stored(args, wanted), job.args),
        "queue": lambda queue: job.queue == queue,
        "priority": lambda priority: job.priority == priority,
        "tags": lambda tags: {tag.strip().lower() for tag in tags} <= set(job.tags),
        "meta": lambda meta: _matches(meta, job.meta),
        "scheduled_at": lambda at: _near(job.scheduled_at, at, tolerance),
        "schedule_in": lambda delay: _near(job.scheduled_at, _after(job.inserted_at, delay), tolerance),
    }
    return all(check(wanted[key]) for key, check in checks.items() if key in wanted)  # type: ignore[literal-required]


def _names(worker: AnyWorker | str) -> Sequence[str]:
    if isinstance(worker, str):
        return [worker]
    kind = kind_of(worker)
    return [kind.options.name, *kind.options.aliases]


def _stored(args: object, wanted: Wanted) -> object:
    """Write arguments given as an object of the declared type as they are stored."""
    if isinstance(args, Mapping):
        return args
    worker = wanted.get("worker")
    if worker is None:
        raise TypeError(f"args must be a mapping, or name the worker whose type {type(args).__name__} is")
    return (find(worker) if isinstance(worker, str) else kind_of(worker)).shape.store(args)


def _matches(wanted: object, found: object) -> bool:
    """Tell whether a value is there: of objects all keys named, of lists every item, else the same in JSON."""
    match wanted, found:
        case Mapping(), Mapping():
            return all(key in found and _matches(value, found[key]) for key, value in wanted.items())
        case ((list() | tuple()), list()):
            return len(wanted) == len(found) and all(map(_matches, wanted, found))
        case (bool(), int() | float()) | (int() | float(), bool()):
            return wanted is found
    return wanted == found or _in_json(wanted) == found


def _in_json(value: object) -> object:
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return value


def _near(found: datetime | None, wanted: datetime | None, tolerance: timedelta) -> bool:
    return found is not None and wanted is not None and abs(found - wanted) <= tolerance


def _after(start: datetime | None, delay: timedelta) -> datetime | None:
    return None if start is None else start + delay


def _described(wanted: Wanted) -> str:
    if not wanted:
        return "  anything"
    return "\n".join(f"  {key} = {_shown(value)}" for key, value in wanted.items())


def _shown(value: object) -> str:
    if (worker := class_of(value)) is not None:
        return worker.options.name
    return str(value) if isinstance(value, datetime | timedelta | State) else repr(value)


def _listing(jobs: Sequence[AnyJob]) -> str:
    lines = [f"  {_line(job)}" for job in jobs[:SHOWN]]
    if len(jobs) > SHOWN:
        lines.append(f"  … and {len(jobs) - SHOWN} more")
    return "\n".join(lines)


def _line(job: AnyJob) -> str:
    parts = [f"{job.worker} {job.args!r}, {job.state}, queue {job.queue!r}, scheduled at {job.scheduled_at}"]
    parts += [f"priority {job.priority}"] if job.priority else []
    parts += [f"tags {job.tags!r}"] if job.tags else []
    parts += [f"meta {job.meta!r}"] if job.meta else []
    return f"#{job.id} " + ", ".join(parts)


def _pauses(timeout: timedelta | float) -> Iterator[float]:
    """Say how long to pause before each look: not before the first, and never beyond the time given."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    deadline = time.monotonic() + seconds
    yield 0
    while time.monotonic() < deadline:
        yield POLL_SECONDS
