"""Plain functions as jobs: each is the worker of its own kind of job, and stays callable as it was."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeAlias, TypedDict, TypeVar, overload

from typing_extensions import Unpack

from staffa._arguments import Parameters
from staffa._cron import Cron
from staffa._job import AnyJob, Replacement, Unique
from staffa.errors import InvalidWorker
from staffa.worker import Executor, JobOptions, Using, Worker, unknown_option

P = ParamSpec("P")
R = TypeVar("R")


class JobFunction(Generic[P, R]):
    """A function that can also be enqueued; called, it is what it was."""

    def __init__(self, function: Callable[P, R], worker: type[Worker], parameters: Parameters) -> None:
        update_wrapper(self, function)
        self.worker = worker
        self._function, self._parameters = function, parameters

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job {self.worker.options.name}>"

    def new(self, *args: P.args, **kwargs: P.kwargs) -> AnyJob:
        """Build a job without storing it."""
        return self.using().new(*args, **kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> AnyJob:
        """Store a job and give it back; blocks."""
        return self.using().enqueue(*args, **kwargs)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> AnyJob:
        """Store a job and give it back; awaited."""
        return await self.using().aenqueue(*args, **kwargs)

    def using(self, **options: Unpack[JobOptions]) -> Using[P]:
        """Set options of the next job: where it goes, when it runs, in whose transaction it is stored."""
        return Using(self.worker, self._parameters.bind, options)


AnyWorker: TypeAlias = type[Worker] | JobFunction[..., Any]


class FunctionOptions(TypedDict, total=False):
    """What `@job(...)` takes: the class keywords of `Worker`, and a backoff."""

    queue: str
    max_attempts: int
    priority: int
    tags: Sequence[str]
    timeout: timedelta
    recorded: bool
    name: str
    aliases: Sequence[str]
    unique: Unique | bool
    replace: Replacement
    cron: str | Cron | Sequence[str | Cron]
    executor: Executor
    max_memory: int
    backoff: Callable[[AnyJob], timedelta | float]


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...


@overload
def job(**options: Unpack[FunctionOptions]) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...


def job(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a plain typed function a job; it stays callable as it was.

    Its annotations are its arguments' types: they are checked when a job is enqueued and when it runs.
    Takes the class keywords of `Worker` except `args`, and `backoff(job)`. Raises `InvalidWorker`.
    """
    if function is None:
        return lambda function: _function_job(function, options)
    return _function_job(function, options)


def _function_job(function: Callable[..., Any], options: dict[str, Any]) -> JobFunction[..., Any]:
    if not inspect.isfunction(function):
        raise InvalidWorker(f"@job is for functions, not {function!r}; subclass Worker instead")
    parameters = Parameters(function)
    backoff = options.pop("backoff", None)
    known = (*FunctionOptions.__annotations__,)
    if unknown := sorted(options.keys() - set(known)):
        raise InvalidWorker(unknown_option(f"@job on {function.__qualname__}", unknown[0], known))

    if inspect.iscoroutinefunction(function):

        async def perform_async(_: Worker, job: AnyJob) -> Any:
            return await function(**job.args)

        perform: Any = perform_async
    else:

        def perform_plain(_: Worker, job: AnyJob) -> Any:
            return function(**job.args)

        perform = perform_plain

    body: dict[str, Any] = {
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__doc__": function.__doc__,
        "perform": perform,
        "shape": parameters,
    }
    if backoff is not None:
        body["backoff"] = lambda _, failed: backoff(failed)
    worker = types.new_class(function.__name__, (Worker,), options, lambda namespace: namespace.update(body))
    return JobFunction(function, worker, parameters)


def class_of(given: object) -> type[Worker] | None:
    """Return the worker that is given by its class or its job function; None where it is neither."""
    kind = given.worker if isinstance(given, JobFunction) else given
    return kind if isinstance(kind, type) and issubclass(kind, Worker) else None
