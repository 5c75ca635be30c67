"""Which jobs are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypedDict, TypeVar

import msgspec

from staffa._admission import is_text, tidy_tags
from staffa._arguments import json_object
from staffa._job import State, state_of
from staffa._job_functions import AnyWorker, JobFunction, class_of
from staffa._spelling import hint
from staffa.errors import InvalidFilter, InvalidJob, JobError

T = TypeVar("T")
OneOrMore: TypeAlias = T | Iterable[T]

LARGEST_ID = 2**63 - 1
LISTED = 50
ALTERNATIVES = ("ids", "states", "queues", "workers", "priorities", "nodes")


class JobFields(TypedDict, total=False):
    """What may be asked of jobs; see `JobFilter`."""

    ids: OneOrMore[int] | None
    states: OneOrMore[State | str] | None
    queues: OneOrMore[str] | None
    workers: OneOrMore[AnyWorker | str] | None
    tags: OneOrMore[str] | None
    args: Mapping[str, Any] | None
    meta: Mapping[str, Any] | None
    priorities: OneOrMore[int] | None
    nodes: OneOrMore[str] | None
    inserted_after: datetime | None
    inserted_before: datetime | None
    scheduled_after: datetime | None
    scheduled_before: datetime | None
    finished_after: datetime | None
    finished_before: datetime | None
    after: int | None
    before: int | None
    limit: int | None


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs: all that is given must hold; what is left out, or None, asks for nothing.

    `ids`, `states`, `queues`, `workers`, `priorities` and `nodes` (those that ran a job last) hold
    alternatives, or a single one; an empty list of them matches no job. A job has all of the `tags`, and its
    `args` and `meta` contain the given objects, as PostgreSQL's `@>` tells: keys of objects and elements of
    lists may be more than those asked for. Instants are aware; `..._after` includes its instant,
    `..._before` does not, and only finished jobs have a time at which they finished. `after` and `before`
    are ids, neither included. At most `limit` jobs are meant: the newest where jobs are listed, else the
    oldest. Raises `InvalidFilter` for what no job can be, and for `tags=[]`, `args={}` and `meta={}`, which
    would match every job.
    """

    ids: OneOrMore[int] | None = None
    states: OneOrMore[State | str] | None = None
    queues: OneOrMore[str] | None = None
    workers: OneOrMore[AnyWorker | str] | None = None
    tags: OneOrMore[str] | None = None
    args: Mapping[str, Any] | None = None
    meta: Mapping[str, Any] | None = None
    priorities: OneOrMore[int] | None = None
    nodes: OneOrMore[str] | None = None
    inserted_after: datetime | None = None
    inserted_before: datetime | None = None
    scheduled_after: datetime | None = None
    scheduled_before: datetime | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    after: int | None = None
    before: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, given in self.given().items():
            msgspec.structs.force_setattr(self, name, CHECKS[name](name, given))

    def given(self) -> dict[str, Any]:
        """Return the fields that ask for something."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}

    @property
    def matches_none(self) -> bool:
        """Tell whether some list of alternatives is empty."""
        return any(getattr(self, name) == () for name in ALTERNATIVES) or self.limit == 0

    def only(self, states: Iterable[State]) -> JobFilter:
        """Return the filter for those of its jobs that are in one of these states."""
        asked: Any = State if self.states is None else self.states
        return msgspec.structs.replace(self, states=[state for state in asked if state in frozenset(states)])


def filter_of(given: JobFilter | None, fields: Mapping[str, Any]) -> JobFilter:
    """Read a filter given whole, or field by field. Raises `InvalidFilter`."""
    if given is None:
        if unknown := sorted(fields.keys() - CHECKS.keys()):
            raise InvalidFilter(f"jobs have no {unknown[0]!r} to ask for; {hint(unknown[0], CHECKS)}")
        return JobFilter(**fields)
    if fields:
        raise InvalidFilter(f"give a JobFilter or its fields, not both: it came with {min(fields)}=")
    if not isinstance(given, JobFilter):
        raise InvalidFilter(f"a filter is a JobFilter, not {given!r}")
    return given


# What each field may hold


def _several(name: str, given: object, single: type | tuple[type, ...]) -> list[Any]:
    """Read alternatives, or a single one."""
    if isinstance(given, single):
        return [given]
    if isinstance(given, bytes | Mapping) or not isinstance(given, Iterable):
        raise InvalidFilter(f"{name}: a value or a list of values, not {given!r}")
    return list(given)


def _whole(name: str, given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or abs(given) > LARGEST_ID:
        raise InvalidFilter(f"{name}: a whole number of at most 64 bits, not {given!r}")
    return int(given)


def _limit(name: str, given: object) -> int:
    if (limit := _whole(name, given)) < 0:
        raise InvalidFilter(f"{name}: a number of jobs, not {limit}")
    return limit


def _wholes(name: str, given: object) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_whole(name, each) for each in _several(name, given, int)))


def _text(name: str, given: object) -> str:
    if not isinstance(given, str) or not is_text(given):
        raise InvalidFilter(f"{name}: text without NUL and lone surrogates, not {given!r}")
    return str(given)


def _texts(name: str, given: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_text(name, each) for each in _several(name, given, str)))


def _states(name: str, given: object) -> tuple[State, ...]:
    return tuple(dict.fromkeys(_state(name, each) for each in _several(name, given, str)))


def _state(name: str, given: object) -> State:
    try:
        return state_of(given)
    except ValueError as error:
        raise InvalidFilter(f"{name}: {error}") from None


def _workers(name: str, given: object) -> tuple[str, ...]:
    several = _several(name, given, (str, type, JobFunction))
    return tuple(dict.fromkeys(found for each in several for found in _names(name, each)))


def _names(name: str, given: object) -> tuple[str, ...]:
    """List the names under which jobs of a worker may be stored."""
    if (worker := class_of(given)) is not None:
        return (worker.options.name, *worker.options.aliases)
    return (_text(name, given),)


def _tags(name: str, given: object) -> tuple[str, ...]:
    several = _several(name, given, str)
    try:
        tags = tidy_tags(several)
    except InvalidJob as error:
        raise InvalidFilter(f"{name}: {error}") from error
    if not tags:
        raise InvalidFilter(f"{name}: without a tag every job would match; leave {name} out if all are meant")
    return tuple(tags)


def _contained(name: str, given: object) -> dict[str, Any]:
    try:
        found = json_object(given, name)
    except JobError as error:
        raise InvalidFilter(str(error)) from error
    if not found:
        raise InvalidFilter(f"{name}={{}} would match every job; leave {name} out if all are meant")
    return found


def _instant(name: str, given: object) -> datetime:
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise InvalidFilter(f"{name}: a datetime with a time zone, not {given!r}")
    try:
        return given.astimezone(UTC)
    except OverflowError as error:
        raise InvalidFilter(f"{name}: beyond what a date can hold in UTC: {given!r}") from error


CHECKS: dict[str, Callable[[str, object], object]] = {
    "ids": _wholes,
    "states": _states,
    "queues": _texts,
    "workers": _workers,
    "tags": _tags,
    "args": _contained,
    "meta": _contained,
    "priorities": _wholes,
    "nodes": _texts,
    "inserted_after": _instant,
    "inserted_before": _instant,
    "scheduled_after": _instant,
    "scheduled_before": _instant,
    "finished_after": _instant,
    "finished_before": _instant,
    "after": _whole,
    "before": _whole,
    "limit": _limit,
}
