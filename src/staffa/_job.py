"""What a job is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, Protocol

import msgspec
from typing_extensions import TypeVar

from staffa._spelling import unknown

Args = TypeVar("Args", default=dict[str, Any])


class State(StrEnum):
    """The eight states of Oban, in the order of its database type."""

    AVAILABLE = "available"
    SUSPENDED = "suspended"
    SCHEDULED = "scheduled"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"


def state_of(name: object) -> State:
    """Read a state by its name. Raises `ValueError` naming the nearest."""
    try:
        return State(name)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(unknown(str(name), map(str, State), "state")) from None


WAITING = frozenset({State.AVAILABLE, State.SUSPENDED, State.SCHEDULED, State.RETRYABLE})
FINAL = frozenset({State.COMPLETED, State.DISCARDED, State.CANCELLED})
FAILED = frozenset({State.RETRYABLE, State.DISCARDED, State.CANCELLED})
RESULT = "recorded_result"  # a key of meta that no Oban reads, so that none tries to decode it
LONGEST_NAME = 127  # of a worker or a queue, in Oban's table
PRIORITIES = range(10)
ATTEMPTS = range(1, 2**31)  # at most, by the column's type

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
OBAN_COLUMNS = (
    "id",
    "state",
    "queue",
    "worker",
    "args",
    "meta",
    "tags",
    "errors",
    "attempt",
    "max_attempts",
    "priority",
    "attempted_by",
    "inserted_at",
    "scheduled_at",
    "attempted_at",
    "completed_at",
    "discarded_at",
    "cancelled_at",
)
"""The columns of a job in Oban's table, as people are shown them."""

Replacement = Sequence[str] | Mapping[State, Sequence[str]]


class Attempt(Protocol):
    """A running attempt, as its job sees it."""

    @property
    def cancelled(self) -> bool: ...

    def progress(self, current: int, total: int | None, note: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Unique:
    """When a new job repeats one that is there: the same `fields`, in one of `states`, not older than `period`.

    `fields` are some of worker, queue, args and meta; `keys` narrow args and meta down to these of their keys.
    `period` is a timedelta, None for all time; it is counted back from the insert to the other job's
    `timestamp`, "inserted_at" or "scheduled_at". `states` is a group ("all", "incomplete", "scheduled",
    "successful") or a list of states. What is wrong is told where it is used, by `InvalidWorker` or `InvalidJob`.
    """

    fields: Sequence[str] = ("args", "queue", "worker")
    keys: Sequence[str] = ()
    period: timedelta | None = timedelta(seconds=60)
    states: str | Sequence[str] = "successful"
    timestamp: Literal["inserted_at", "scheduled_at"] = "inserted_at"


# Looking for cycles took a third of the time of who stores or takes many jobs. So nothing that a job holds may lead
# back to it: it would stay in memory for good.
class Job(
    msgspec.Struct, Generic[Args], frozen=True, kw_only=True, eq=False, repr_omit_defaults=True, gc=False
):
    """One piece of work: a worker's name, its arguments, and what became of it. Never changed, only replaced.

    `args` is a JSON object, or the worker's declared type while it runs. Instants are aware and in UTC.
    `errors` are `{"at": ISO 8601 text, "attempt": int, "error": text}`, oldest first. `attempted_by` is
    `[node, producer]`. `schedule_in` counts from the moment of the insert, by the database's clock, and is
    not stored. `take` counts how often the job was taken; it fences late writes. `unique` and `replace` are
    for the insert and not stored. `conflict` says of an answer that this job was there already; it takes no
    part in comparison, as it belongs to the answer and not to the job.
    """

    args: Args = msgspec.field(default_factory=dict)  # type: ignore[assignment]
    worker: str = ""
    id: int | None = None
    state: State = State.AVAILABLE
    queue: str = "default"
    priority: int = 0
    attempt: int = 0
    max_attempts: int = 20
    tags: list[str] = []
    meta: dict[str, Any] = {}
    errors: list[dict[str, Any]] = []
    attempted_by: list[str] = []
    inserted_at: Instant | None = None
    scheduled_at: Instant | None = None
    attempted_at: Instant | None = None
    completed_at: Instant | None = None
    discarded_at: Instant | None = None
    cancelled_at: Instant | None = None
    take: int = 0
    unique_key: str | None = None
    schedule_in: timedelta | None = None
    unique: Unique | None = None
    replace: Replacement | None = None
    conflict: bool = False
    running: Attempt | None = None

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should stop, because its job was cancelled or its worker shuts down."""
        return self.running is not None and self.running.cancelled

    @property
    def result(self) -> Any:
        """What the job recorded when it last completed, as JSON holds it; None if it recorded nothing."""
        return self.meta.get(RESULT)

    def progress(self, current: int, total: int | None = None, note: str | None = None) -> None:
        """Say how far this attempt is; stored in `meta["progress"]` about once a second. Never blocks."""
        if self.running is not None:
            self.running.progress(current, total, note)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and _compared(self) == _compared(other)

    def __hash__(self) -> int:
        return hash((self.id, self.worker, self.take))


def _compared(job: Job[Any]) -> tuple[object, ...]:
    """Return all that makes a job what it is; its running attempt and the answer it came with are not."""
    return tuple(getattr(job, name) for name in job.__struct_fields__ if name not in ("running", "conflict"))


replace = msgspec.structs.replace
AnyJob = Job[Any]


def share_options(job: AnyJob, other: AnyJob) -> bool:
    """Tell at a glance whether two new jobs have the very same options, as those of one worker most often have."""
    return (
        job.worker is other.worker
        and job.queue is other.queue
        and job.state is other.state
        and job.priority is other.priority
        and job.max_attempts is other.max_attempts
        and job.scheduled_at is other.scheduled_at
        and job.schedule_in is other.schedule_in
        and job.unique is other.unique
        and job.replace is other.replace
    )


Progress = Mapping[str, Any]

current: ContextVar[AnyJob | None] = ContextVar("staffa_job", default=None)


def current_job() -> AnyJob | None:
    """Return the job that runs this code; None outside of one. For functions that are not handed theirs."""
    return current.get()
