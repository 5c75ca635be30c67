"""Tools for tests of applications: run jobs where the test wants them, and see what was enqueued."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypedDict
from uuid import uuid4

import msgspec
from typing_extensions import Unpack

from staffa._admission import admitted
from staffa._bridge import at_once, refuse_inside_loop
from staffa._enqueuer import withdraw
from staffa._executor import execute, taken_clock
from staffa._filter import JobFilter
from staffa._hands import Hands, InThisThread, InThreads
from staffa._job import WAITING, AnyJob, Job, State, current, replace
from staffa._lifecycle import handed_back
from staffa._running import Running
from staffa._spelling import hint
from staffa._threads import Threads
from staffa.config import Testing
from staffa.engine import Ack, Engine, ProducerInfo
from staffa.engines.inline import InlineEngine
from staffa.errors import DatabaseUnavailable, JobFailed
from staffa.instance import Staffa
from staffa.telemetry import JobStopped
from staffa.worker import AnyWorker, Worker, class_of, find, is_async, performed, registered

PROMOTED = (State.SCHEDULED, State.RETRYABLE)
TOLERANCE = timedelta(seconds=1)
POLL_SECONDS = 0.01
PAGE = 500
SHOWN = 10


# Modes


@contextmanager
def mode(staffa: Staffa, testing: Testing) -> Iterator[Staffa]:
    """Let workers enqueue in another testing mode inside this block, and give the instance that takes the jobs.

    It holds for this context: this thread, tasks started from it, and the jobs it runs inline. Code that
    names its instance with `using(instance=...)` is not diverted.
    """
    if testing == "manual" and not _runs_inline(staffa):
        with staffa.as_default():
            yield staffa
        return

    twin = Staffa(
        staffa.url,
        schema=staffa.schema,
        name=f"{staffa.name} ({testing})",
        node=staffa.node,
        queues=staffa.queues,
        testing=testing,
    )
    withdraw(twin)
    try:
        with twin.as_default():
            yield twin
    finally:
        twin.close()


# Running one job


class PerformOptions(TypedDict, total=False):
    """What `perform_job` takes besides the arguments: fields of the job that the worker may look at."""

    id: int
    queue: str
    priority: int
    attempt: int
    max_attempts: int
    tags: Sequence[str]
    meta: Mapping[str, Any]
    errors: Sequence[Mapping[str, Any]]
    scheduled_at: datetime


def perform_job(worker: AnyWorker, args: object = None, /, **options: Unpack[PerformOptions]) -> Any:
    """Run a worker on arguments, and give its answer or raise what it raises. Nothing is stored.

    The arguments go through JSON and through the worker's declared type, as they would on their way through
    the database. A plain worker runs in this thread, an async one on an event loop of its own.
    """
    kind, job = _prepared(worker, args, options)
    if not is_async(kind):
        with _as_current(job):
            return performed(kind(), job)

    refuse_inside_loop("perform_job", "aperform_job(...)")
    with asyncio.Runner() as loop, _as_current(job):
        return loop.run(kind().perform(job))


async def aperform_job(worker: AnyWorker, args: object = None, /, **options: Unpack[PerformOptions]) -> Any:
    """Run a worker on arguments; awaited. A plain worker runs in a thread. See `perform_job`."""
    kind, job = _prepared(worker, args, options)
    with _as_current(job):
        if is_async(kind):
            return await kind().perform(job)
        with closing(Threads("staffa-perform", 1)) as threads:
            return await InThreads(threads).call(Running(), performed, kind(), job)


def _prepared(worker: AnyWorker, args: object, options: PerformOptions) -> tuple[type[Worker], AnyJob]:
    """Build the job that a worker would see, as if it came from the database."""
    kind = _kind(worker)
    _check_options("perform_job", options, PerformOptions)
    chosen: dict[str, Any] = {
        "queue": kind.options.queue,
        "priority": kind.options.priority,
        "max_attempts": kind.options.max_attempts,
        **{key: value for key, value in options.items() if key not in ("id", "attempt", "errors")},
    }
    chosen["tags"] = [*kind.options.tags, *options.get("tags", ())]
    stored = kind.shape.store({} if args is None else args)
    job = admitted(Job(worker=kind.options.name, args=stored, **chosen))
    now = datetime.now(UTC)
    return kind, replace(
        job,
        args=kind.shape.load(msgspec.json.decode(msgspec.json.encode(job.args))),
        id=options.get("id"),
        state=State.EXECUTING,
        attempt=options.get("attempt", 1),
        errors=[dict(error) for error in options.get("errors", ())],
        inserted_at=now,
        scheduled_at=job.scheduled_at or now,
        attempted_at=now,
    )


@contextmanager
def _as_current(job: AnyJob) -> Iterator[None]:
    token = current.set(job)
    try:
        yield
    finally:
        current.reset(token)


# Running stored jobs


class Drained(NamedTuple):
    """How many jobs ended each way: `failed` will be tried again, `snoozed` run later."""

    completed: int = 0
    failed: int = 0
    discarded: int = 0
    cancelled: int = 0
    snoozed: int = 0


OUTCOMES = {
    State.COMPLETED: "completed",
    State.RETRYABLE: "failed",
    State.DISCARDED: "discarded",
    State.CANCELLED: "cancelled",
    State.SCHEDULED: "snoozed",
}


class DrainOptions(TypedDict, total=False):
    """What `drain` takes: which waiting jobs run early, whether new ones run too, what raises, how many."""

    with_scheduled: bool | datetime
    with_recursion: bool
    with_safety: bool
    limit: int


def drain(staffa: Staffa, queue: str | None = "default", **options: Unpack[DrainOptions]) -> Drained:
    """Run the stored jobs of a queue (None: of all queues) here and now, and count how they ended.

    `with_scheduled=True` runs scheduled and retryable jobs too, a datetime only those due by then; a job that
    snoozes is not run twice. `with_recursion=False` leaves jobs that were enqueued meanwhile, and runs none
    twice. `with_safety=False` raises what a job raises, `JobFailed` where it answered `Error`, once its
    outcome is recorded. `limit` ends it after so many jobs. Plain workers run in this thread, async ones on
    an event loop of their own.
    """
    refuse_inside_loop("drain", "adrain(...)")
    return at_once(_Draining(staffa, staffa.plain_engine, _run_here, options).over(queue))


async def adrain(staffa: Staffa, queue: str | None = "default", **options: Unpack[DrainOptions]) -> Drained:
    """Run the stored jobs of a queue; awaited. Plain workers run in a thread. See `drain`."""
    with closing(Threads("staffa-drain", 1)) as threads:
        hands = InThreads(threads)

        async def run(job: AnyJob, staffa: Staffa) -> AnyJob | None:
            return await _executed(job, staffa, hands)

        return await _Draining(staffa, staffa.engine, run, options).over(queue)


class _Run(Protocol):
    """How a drained job is executed."""

    def __call__(self, job: AnyJob, staffa: Staffa, /) -> Coroutine[Any, Any, AnyJob | None]: ...


async def _run_here(job: AnyJob, staffa: Staffa) -> AnyJob | None:
    """Execute a job for a blocking caller, with an event loop only where its worker needs one."""
    kind = registered().get(job.worker)
    if kind is not None and is_async(kind):
        with asyncio.Runner() as loop:
            return loop.run(_executed(job, staffa, InThisThread()))
    return await _executed(job, staffa, InThisThread())


async def _executed(job: AnyJob, staffa: Staffa, hands: Hands) -> AnyJob | None:
    return await execute(job, Running(), hands=hands, telemetry=staffa.telemetry, clock=taken_clock(job))


class _Draining:
    """One call of `drain`. It takes jobs one by one, so that each sees what those before it did."""

    def __init__(self, staffa: Staffa, engine: Engine, run: _Run, options: DrainOptions) -> None:
        _check_options("drain", options, DrainOptions)
        self._staffa, self._engine, self._run = staffa, engine, run
        self._due_by = _due_by(options.get("with_scheduled", False))
        self._recursive = options.get("with_recursion", True)
        self._safe = options.get("with_safety", True)
        self._left = options.get("limit")
        self._newest: int | None = None
        self._snoozed: set[int | None] = set()
        self._ended: Counter[str] = Counter()

    async def over(self, queue: str | None) -> Drained:
        if not self._recursive:
            self._newest = max(
                [job.id or 0 for job in await self._engine.jobs(JobFilter(limit=1))], default=0
            )
        ran = True
        while ran:
            queues = sorted(await self._engine.counts()) if queue is None else [queue]
            ran = any([await self._empty(each) for each in queues]) and self._recursive
        return Drained(**self._ended)

    async def _empty(self, queue: str) -> bool:
        """Run what a queue has; say whether there was anything."""
        producer = ProducerInfo(id=str(uuid4()), node=self._staffa.node, queue=queue, limit=1)
        aside: list[AnyJob] = []
        ran = False
        await self._engine.register([producer])
        try:
            await self._promote(queue)
            while self._left != 0 and (job := await self._next(producer)):
                if self._is_new(job):
                    aside.append(job)
                else:
                    await self._execute(producer, job)
                    ran = True
        finally:
            await self._engine.exchange(producer, [Ack(job, handed_back(job)) for job in aside], 0)
            await self._engine.retire([producer.id])
        return ran

    async def _promote(self, queue: str) -> None:
        """Make scheduled and retryable jobs available that are due by the given time."""
        if self._due_by is None:
            return
        due = [
            job.id
            for job in await _listed(self._engine, JobFilter(states=PROMOTED, queues=[queue], limit=PAGE))
            if job.id is not None
            and job.id not in self._snoozed
            and not self._is_new(job)
            and (job.scheduled_at is None or job.scheduled_at <= self._due_by)
        ]
        if due:
            await self._engine.retry(JobFilter(ids=due))

    async def _next(self, producer: ProducerInfo) -> AnyJob | None:
        exchanged = await self._engine.exchange(producer, [], 1)
        return exchanged.taken[0] if exchanged.taken else None

    async def _execute(self, producer: ProducerInfo, job: AnyJob) -> None:
        errors: list[BaseException | None] = []
        try:
            with _listening(self._staffa, job, errors):
                after = await self._run(job, self._staffa)
        except BaseException:
            await self._engine.exchange(producer, [Ack(job, handed_back(job))], 0)
            raise
        if self._left is not None:
            self._left -= 1
        if after is not None:
            await self._record(producer, job, after)
        if after is not None and not self._safe:
            _raise_failure(after, errors)

    async def _record(self, producer: ProducerInfo, job: AnyJob, after: AnyJob) -> None:
        """Store what a job became, and count it; where it was cancelled meanwhile, that counts."""
        exchanged = await self._engine.exchange(producer, [Ack(job, after)], 0)
        if exchanged.again:
            raise DatabaseUnavailable(
                f"another transaction holds the row of job {job.id}, so its outcome ({after.state}) is not recorded"
            )
        if exchanged.bounced:
            [after] = await self._engine.jobs(JobFilter(ids=[job.id or 0])) or [after]
        if after.state is State.SCHEDULED:
            self._snoozed.add(job.id)
        if after.state in OUTCOMES:
            self._ended[OUTCOMES[after.state]] += 1

    def _is_new(self, job: AnyJob) -> bool:
        """Tell whether a job was enqueued after this drain began, where that matters."""
        return self._newest is not None and (job.id or 0) > self._newest


def _due_by(with_scheduled: bool | datetime) -> datetime | None:
    match with_scheduled:
        case True:
            return datetime.max.replace(tzinfo=UTC)
        case False:
            return None
        case datetime() if with_scheduled.tzinfo is not None:
            return with_scheduled
    raise TypeError(f"with_scheduled must be a bool or a datetime with a time zone, not {with_scheduled!r}")


@contextmanager
def _listening(staffa: Staffa, job: AnyJob, errors: list[BaseException | None]) -> Iterator[None]:
    """Gather what a job's attempt raised."""

    def heard(event: JobStopped) -> None:
        if event.job.id == job.id:
            errors.append(event.error)

    detach = staffa.telemetry.attach(heard, JobStopped)
    try:
        yield
    finally:
        detach()


def _raise_failure(after: AnyJob, errors: Sequence[BaseException | None]) -> None:
    """Raise what a job raised, or the reason it gave for failing."""
    for error in errors:
        if error is not None:
            raise error
    if after.state in (State.RETRYABLE, State.DISCARDED):
        raise JobFailed(f"{after.worker}: {after.errors[-1]['error']}")


# Seeing what was enqueued


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
        _check_options(called, wanted, Wanted)
        self._staffa, self._engine, self._wanted = staffa, engine, wanted
        self._states = (wanted["state"],) if "state" in wanted else sorted(WAITING)

    async def found(self) -> list[AnyJob]:
        return [job for job in await self._enqueued() if _fits(job, self._wanted)]

    async def missing(self) -> str:
        if _runs_inline(self._staffa):
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
        return await _listed(self._engine, JobFilter(states=self._states, limit=PAGE))


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
    kind = _kind(worker)
    return [kind.options.name, *kind.options.aliases]


def _stored(args: object, wanted: Wanted) -> object:
    """Write arguments given as an object of the declared type as they are stored."""
    if isinstance(args, Mapping):
        return args
    worker = wanted.get("worker")
    if worker is None:
        raise TypeError(f"args must be a mapping, or name the worker whose type {type(args).__name__} is")
    return (find(worker) if isinstance(worker, str) else _kind(worker)).shape.store(args)


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


async def _listed(engine: Engine, wanted: JobFilter) -> list[AnyJob]:
    """List all jobs that pass a filter, page by page."""
    listed: list[AnyJob] = []
    while page := await engine.jobs(wanted):
        listed += page
        if len(page) < PAGE:
            break
        wanted = msgspec.structs.replace(wanted, before=page[-1].id)
    return listed


def _pauses(timeout: timedelta | float) -> Iterator[float]:
    """Say how long to pause before each look: not before the first, and never beyond the time given."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    deadline = time.monotonic() + seconds
    yield 0
    while time.monotonic() < deadline:
        yield POLL_SECONDS


def _kind(worker: AnyWorker) -> type[Worker]:
    if (kind := class_of(worker)) is not None:
        return kind
    raise TypeError(f"give a Worker class or a @job function, not {worker!r}")


def _runs_inline(staffa: Staffa) -> bool:
    return isinstance(staffa.engine, InlineEngine)


def _check_options(called: str, given: Mapping[str, object], known: Any) -> None:
    """Refuse keywords that do not exist, which would otherwise match everything in silence."""
    names = sorted(known.__annotations__)
    for option in given:
        if option not in names:
            raise TypeError(f"{called}() has no option {option!r}; {hint(option, names)}")
