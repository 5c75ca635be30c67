"""Workers: the code a job names, and what it may answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_changes
from datetime import datetime, timedelta
from functools import lru_cache
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    get_args,
)

from typing_extensions import Unpack

from staffa._arguments import Shape, shape_of
from staffa._backoff import retry_delay
from staffa._cron import Cron, crons
from staffa._enqueuer import Enqueuer, default_instance
from staffa._job import LONGEST_NAME, PRIORITIES, AnyJob, Job, Replacement, Unique, replace
from staffa._spelling import hint
from staffa._texts import texts
from staffa._unique import replacement_of, unique_of
from staffa._worker_names import Registry, home, stored_name
from staffa.errors import InvalidCron, InvalidJob, InvalidWorker

P = ParamSpec("P")
R = TypeVar("R")
Executor = Literal["thread", "process"]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Answer: stop retrying, this job will never succeed. The reason is recorded in its errors."""

    reason: str


@dataclass(frozen=True, slots=True)
class Snooze:
    """Answer: run this job again after a delay (a timedelta, or seconds). The attempt does not count."""

    delay: timedelta | float


@dataclass(frozen=True, slots=True)
class Error:
    """Answer: this attempt failed, for a reason that needs no traceback."""

    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """Answer: the job is completed, and this value is kept; `Staffa.result` gives it."""

    value: Any


class JobOptions(TypedDict, total=False):
    """What `using(...)` takes: options of the job, and where it goes."""

    queue: str
    priority: int
    max_attempts: int
    tags: Sequence[str]
    meta: Mapping[str, Any]
    schedule_in: timedelta
    scheduled_at: datetime
    unique: Unique | bool | None
    replace: Replacement | None
    connection: Any
    instance: Enqueuer


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker says about its jobs."""

    name: str = ""
    queue: str = "default"
    max_attempts: int = 20
    priority: int = 0
    tags: tuple[str, ...] = ()
    timeout: timedelta | None = None
    recorded: bool = False
    aliases: tuple[str, ...] = ()
    args: Any = None
    unique: Unique | None = None
    replace: Replacement | None = None
    cron: tuple[Cron, ...] = ()
    executor: Executor | None = None
    max_memory: int | None = None


class Worker:
    """The code of one kind of job. Subclass it, say where its jobs go, and write `perform`.

    Class keywords: `queue` ("default"), `max_attempts` (20), `priority` (0, the first, to 9), `tags`,
    `timeout` (a timedelta, none by default), `recorded` (whether what `perform` returns is kept), `args` (a
    type for the arguments), `name` (how jobs name this worker; module and class by default), `aliases`
    (names it had before), `unique` (True or a `Unique`: a job that repeats another one is not stored),
    `replace` (which fields of that one it changes instead, for all states or by state), `cron` (when its
    jobs are inserted by themselves: an expression, a `Cron`, or a list of them), `executor` ("process": a
    process of its own for each running job; by default a thread, or the event loop for `async def`),
    `max_memory` (bytes that such a process may take). A subclass inherits all but `name`, `aliases` and
    `cron`. Raises `InvalidWorker` where one of them is wrong.
    """

    options: ClassVar[WorkerOptions] = WorkerOptions()
    shape: ClassVar[Shape] = shape_of(None)

    def __init_subclass__(
        cls,
        *,
        queue: str | None = None,
        max_attempts: int | None = None,
        priority: int | None = None,
        tags: Sequence[str] | None = None,
        timeout: timedelta | None = None,
        recorded: bool | None = None,
        args: Any = None,
        name: str | None = None,
        aliases: Sequence[str] = (),
        unique: Unique | bool | None = None,
        replace: Replacement | None = None,
        cron: str | Cron | Sequence[str | Cron] = (),
        executor: Executor | None = None,
        max_memory: int | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise InvalidWorker(unknown_option(cls.__qualname__, next(iter(unknown))))
        super().__init_subclass__()
        given = {
            "queue": queue,
            "max_attempts": max_attempts,
            "priority": priority,
            "tags": None if tags is None else texts(f"{cls.__qualname__}: tags", tags, InvalidWorker),
            "timeout": timeout,
            "recorded": recorded,
            "args": args,
            "executor": executor,
            "max_memory": max_memory,
        }
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        changes |= {
            "name": name or stored_name(cls),
            "aliases": texts(f"{cls.__qualname__}: aliases", aliases, InvalidWorker),
            "cron": _crons(cls, cron),
        }
        if unique is not None or replace is not None:
            changes |= _uniqueness(cls, unique, replace)
        cls.options = with_changes(cls.options, **changes)
        if args is not None:
            cls.shape = shape_of(args)
        _check(cls)
        _registry.add(cls, (cls.options.name, *cls.options.aliases))

    def perform(self, job: AnyJob) -> Any:
        """Do the work; `def` runs in a thread, `async def` on the event loop, unless `executor` says otherwise.

        Answer `Cancel`, `Snooze`, `Error` or `Record` to say so; anything else completes the job, raising
        fails it.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no perform")

    def backoff(self, job: AnyJob) -> timedelta | float:
        """Return how long to wait after this failed attempt, as a timedelta or in seconds."""
        return retry_delay(job.attempt, job.max_attempts)

    def on_discarded(self, job: AnyJob) -> Any:
        """Run before the job is discarded; `job.errors[-1]` tells why. May run again after a crash."""

    def on_cancelled(self, job: AnyJob) -> Any:
        """Run before the job is cancelled by its worker or while it runs. May run again after a crash."""

    @classmethod
    def new(cls, *args: Any, **kwargs: Any) -> AnyJob:
        """Build a job without storing it. Arguments go by keyword, or as one object of the declared type."""
        return cls.using().new(*args, **kwargs)

    @classmethod
    def enqueue(cls, *args: Any, **kwargs: Any) -> AnyJob:
        """Store a job and give it back; blocks."""
        return cls.using().enqueue(*args, **kwargs)

    @classmethod
    async def aenqueue(cls, *args: Any, **kwargs: Any) -> AnyJob:
        """Store a job and give it back; awaited."""
        return await cls.using().aenqueue(*args, **kwargs)

    @classmethod
    def using(cls, **options: Unpack[JobOptions]) -> Using[...]:
        """Set options of the next job: where it goes, when it runs, in whose transaction it is stored."""
        return Using(cls, _one_object, options)


class Using(Generic[P]):
    """A worker with options set, ready to build or store a job."""

    def __init__(self, worker: type[Worker], bind: Callable[..., object], options: JobOptions) -> None:
        if options and (unknown := sorted(options.keys() - JobOptions.__annotations__.keys())):
            raise TypeError(
                unknown_option(f"{worker.__qualname__}.using()", unknown[0], JobOptions.__annotations__)
            )
        self._worker, self._bind, self._options = worker, bind, options

    def new(self, *args: P.args, **kwargs: P.kwargs) -> AnyJob:
        """Build a job without storing it."""
        defaults = self._worker.options
        job = Job(
            worker=defaults.name,
            args=self._worker.shape.store(self._bind(*args, **kwargs)),
            queue=defaults.queue,
            max_attempts=defaults.max_attempts,
            priority=defaults.priority,
            tags=[*defaults.tags],
            unique=defaults.unique,
            replace=defaults.replace,
        )
        return _put_over(job, self._options) if self._options else job

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> AnyJob:
        """Store a job and give it back; blocks."""
        return self._instance().insert(self.new(*args, **kwargs), connection=self._options.get("connection"))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> AnyJob:
        """Store a job and give it back; awaited."""
        return await self._instance().ainsert(
            self.new(*args, **kwargs), connection=self._options.get("connection")
        )

    def _instance(self) -> Enqueuer:
        return self._options.get("instance") or default_instance()


def _put_over(job: AnyJob, options: JobOptions) -> AnyJob:
    """Put options that are given over those of the worker; tags are added to its own."""
    chosen: dict[str, Any] = {
        key: value for key, value in options.items() if key not in ("connection", "instance")
    }
    if "tags" in chosen:
        chosen["tags"] = [*job.tags, *texts("tags", chosen["tags"], InvalidJob)]
    if not chosen.get("unique", job.unique):
        chosen |= {"unique": None, "replace": options.get("replace")}
    return replace(job, **chosen)


def _one_object(*args: Any, **kwargs: Any) -> object:
    """Take arguments by keyword, or all of them as one object."""
    if args and (kwargs or len(args) > 1):
        raise TypeError("give a job's arguments by keyword, or all of them as one object")
    return args[0] if args else kwargs


_registry: Registry[Worker] = Registry()
find, registered = _registry.find, _registry.registered


def _check(worker: type[Worker]) -> None:
    options, label = worker.options, worker.__qualname__
    aliases = (("aliases", alias) for alias in options.aliases)
    for option, name in (("name", options.name), ("queue", options.queue), *aliases):
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise InvalidWorker(
                f"{label}: {option} must be text of 1 to {LONGEST_NAME} characters, not {name!r}; give {option}="
            )
    if type(options.max_attempts) is not int or options.max_attempts < 1:
        raise InvalidWorker(
            f"{label}: max_attempts must be a whole number above 0, not {options.max_attempts!r}"
        )
    if type(options.priority) is not int or options.priority not in PRIORITIES:
        raise InvalidWorker(f"{label}: priority must be a whole number from 0 to 9, not {options.priority!r}")
    if options.timeout is not None and (
        not isinstance(options.timeout, timedelta) or options.timeout <= timedelta(0)
    ):
        raise InvalidWorker(f"{label}: timeout must be a timedelta above 0, not {options.timeout!r}")
    if not isinstance(options.recorded, bool):
        raise InvalidWorker(f"{label}: recorded must be True or False, not {options.recorded!r}")
    _check_hooks(worker)
    _check_place(worker)


def _check_hooks(worker: type[Worker]) -> None:
    label = worker.__qualname__
    if not is_async(worker):
        for hook in ("backoff", "on_discarded", "on_cancelled"):
            if inspect.iscoroutinefunction(getattr(worker, hook)):
                raise InvalidWorker(f"{label}: {hook} is async but perform is not; make both alike")
    if inspect.iscoroutinefunction(worker.backoff):
        raise InvalidWorker(f"{label}: backoff must be a plain function")


def _check_place(worker: type[Worker]) -> None:
    options, label = worker.options, worker.__qualname__
    if options.executor not in (None, *get_args(Executor)):
        raise InvalidWorker(f'{label}: executor must be "thread" or "process", not {options.executor!r}')
    if options.executor == "thread" and is_async(worker):
        raise InvalidWorker(
            f'{label}: perform is async and runs on the event loop; make it `def`, or use executor="process"'
        )
    if options.executor == "process":
        home(worker)
    if options.max_memory is None:
        return
    if type(options.max_memory) is not int or options.max_memory < 1:
        raise InvalidWorker(
            f"{label}: max_memory must be a whole number of bytes, not {options.max_memory!r}"
        )
    if options.executor != "process":
        raise InvalidWorker(f'{label}: max_memory needs executor="process": threads share their memory')


def _uniqueness(worker: type[Worker], unique: object, replace: object) -> dict[str, Any]:
    """Read what a worker says about uniqueness; what it leaves out is inherited, False ends both."""
    inherited = worker.options
    try:
        chosen = inherited.unique if unique is None else unique_of(unique)
        wanted = inherited.replace if replace is None else replacement_of(replace)
    except ValueError as error:
        raise InvalidWorker(f"{worker.__qualname__}: {error}") from error
    if replace and chosen is None:
        raise InvalidWorker(f"{worker.__qualname__}: replace is for unique workers; give unique= too")
    return {"unique": chosen, "replace": wanted if chosen else None}


def _crons(worker: type[Worker], given: object) -> tuple[Cron, ...]:
    try:
        found = crons(given)
    except InvalidCron as error:
        raise InvalidWorker(f"{worker.__qualname__}: cron: {error}") from error
    if any(each.worker is not None for each in found):
        raise InvalidWorker(f"{worker.__qualname__}: cron: this worker is the entry's worker; name no other")
    return found


def is_async(worker: type[Worker]) -> bool:
    """Tell whether a worker runs on the event loop; decided by its function, once."""
    return _is_coroutine_function(worker.perform)


_is_coroutine_function = lru_cache(inspect.iscoroutinefunction)


def performed(worker: Worker, job: AnyJob) -> Any:
    """Perform a plain worker. Raises `TypeError` where it should have been `async def`."""
    answer = worker.perform(job)
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError(f"perform of {job.worker} returned a coroutine: make it `async def`")
    return answer


def unknown_option(where: str, option: str, known: Iterable[str] = WorkerOptions.__dataclass_fields__) -> str:
    """Say that there is no such option, and which one may be meant."""
    return f"{where} has no option {option!r}; {hint(option, known)}"
