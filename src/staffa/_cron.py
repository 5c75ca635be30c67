"""When an entry of the crontab is due: expressions, zones, and what becomes of ticks that were missed."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from itertools import islice, takewhile
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from staffa._clock import instant
from staffa._job import AnyJob, replace
from staffa._spelling import hint
from staffa.errors import InvalidCron

CatchUp = Literal["none", "latest", "all"]

REBOOT = "@reboot"
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = 5
LONGEST_ENTRY = 255
LONGEST_JITTER = timedelta(days=1)
DEFAULT_ZONE = "Etc/UTC"
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """When a worker's jobs are inserted by themselves.

    `expression` has five fields (minute, hour, day, month, weekday) or is a nickname: @hourly, @daily,
    @midnight, @weekly, @monthly, @yearly, @annually, or @reboot. It is read in `timezone` (a name as
    "Europe/Amsterdam"; the instance's by default). `catch_up` says what happens to ticks that nobody
    inserted in time: "none", "latest" or "all". `jitter` delays each job by up to so much. `name` is the
    entry's identity in the database. `worker` is needed where no worker declares it: a name, a class or a job
    function. The rest are options of its jobs. Raises `InvalidCron`.
    """

    expression: str
    _: KW_ONLY
    worker: Any = None
    args: Mapping[str, Any] = field(default_factory=dict)
    timezone: str | None = None
    catch_up: CatchUp = "latest"
    jitter: timedelta = timedelta(0)
    name: str | None = None
    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    tags: Sequence[str] | None = None
    meta: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise InvalidCron(f"an expression is text, as in '0 6 * * *', not {self.expression!r}")
        if self.catch_up not in get_args(CatchUp):
            raise InvalidCron(f'catch_up must be "none", "latest" or "all", not {self.catch_up!r}')
        if not isinstance(self.jitter, timedelta) or not timedelta(0) <= self.jitter <= LONGEST_JITTER:
            raise InvalidCron(f"jitter must be a timedelta from 0 to one day, not {self.jitter!r}")
        if not isinstance(self.args, Mapping):
            raise InvalidCron(f"args must be an object with string keys, not {self.args!r}")
        if self.name is not None:
            _check_name(self.name)
        if self.timezone is not None:
            zone(self.timezone)
        schedule(self.expression, self.timezone or DEFAULT_ZONE)

    @property
    def options(self) -> dict[str, Any]:
        """The options of its jobs that are given."""
        names = ("queue", "priority", "max_attempts", "tags", "meta")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Schedule:
    """An expression in a zone. Its ticks are instants in UTC.

    Where the minute and the hour are given (neither begins with `*`), each time on the wall clock counts once: in
    an hour that is skipped it comes when that hour would have begun, in one that is doubled it comes the
    first time. Other expressions tick whenever the wall clock shows a time that fits.
    """

    def __init__(self, expression: str, timezone: str) -> None:
        self._zone = zone(timezone)
        self._expression = " ".join(_fields(expression))
        minute, hour = self._expression.split()[:2]
        self._at_given_times = not minute.startswith("*") and not hour.startswith("*")
        try:
            if next(CronSim(self._expression, datetime(2000, 1, 1)), None) is None:  # noqa: DTZ001 - a wall clock
                raise InvalidCron(f"the expression {expression!r} never comes to pass")
        except CronSimError as error:
            raise InvalidCron(
                f"the expression {expression!r} is wrong: {str(error).lower()}; its fields are minute, hour, day,"
                " month and weekday"
            ) from error

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """Give the ticks after an instant, in order.

        They are found on a wall clock without a zone, and put into the zone an hour at a time, since clocks that
        are put back show times in another order than that in which they come to pass.
        """
        after = after.astimezone(UTC)
        while (wall := next(self._walls(self._earliest_wall(after)), None)) is not None:
            after = max(after, self._earliest(wall) - SECOND)
            until = after + HOUR
            yield from self._ticks_of_an_hour(after, until)
            after = until

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """List the ticks after an instant, up to another."""
        return list(takewhile(lambda tick: tick <= until, self.ticks(after)))

    def _ticks_of_an_hour(self, after: datetime, until: datetime) -> Iterable[datetime]:
        offsets = set(self._offsets(after, until))
        latest = until.replace(tzinfo=None) + max(offsets)
        walls = takewhile(lambda wall: wall <= latest, self._walls(self._earliest_wall(after)))
        found = (instant for wall in walls for instant in self._instants(wall) if after < instant <= until)
        return found if len(offsets) == 1 else sorted(set(found))

    def _walls(self, start: datetime) -> CronSim:
        """Give the times that fit, from one on, as a wall clock shows them that is never put forward or back."""
        return CronSim(self._expression, start - SECOND)

    def _instants(self, wall: datetime) -> set[datetime]:
        """Find out when a time on the wall comes to pass: never, once or twice."""
        shown = [instant for fold in (0, 1) if self._wall(instant := self._instant(wall, fold)) == wall]
        if not self._at_given_times:
            return set(shown)
        return {shown[0] if shown else self._end_of_gap(wall)}

    def _end_of_gap(self, wall: datetime) -> datetime:
        """Find the first time on the wall that comes to pass after one that does not."""
        while self._wall(instant := self._instant(wall)) != wall:
            wall += MINUTE
        return instant

    def _instant(self, wall: datetime, fold: int = 0) -> datetime:
        return wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)

    def _wall(self, instant: datetime) -> datetime:
        return instant.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _earliest_wall(self, instant: datetime) -> datetime:
        """Return what the wall clock shows at least from an instant on, even if it is put back soon."""
        return instant.replace(tzinfo=None) + min(self._offsets(instant, instant + DAY))

    def _earliest(self, wall: datetime) -> datetime:
        """Return an instant before which the wall clock does not show this time or a later one."""
        near = wall.replace(tzinfo=UTC)
        return near - max(self._offsets(near - DAY, near + DAY))

    def _offsets(self, *instants: datetime) -> list[timedelta]:
        return [self._wall(instant) - instant.replace(tzinfo=None) for instant in instants]


@dataclass(frozen=True, slots=True)
class CronEntry:
    """An entry of an instance's crontab: a name, when it is due, and the job to insert.

    `schedule` is None for @reboot. Entries are listed by `Staffa.crontab`.
    """

    name: str
    cron: Cron
    timezone: str
    job: AnyJob
    schedule: Schedule | None = field(repr=False)

    def next_runs(self, count: int, after: datetime) -> list[datetime]:
        """Name the next ticks after an instant, in UTC, before any jitter; none for @reboot."""
        return [] if self.schedule is None else list(islice(self.schedule.ticks(after), count))

    def job_at(self, tick: datetime) -> AnyJob:
        """Build the job of a tick."""
        scheduled_at = tick + self._delay(tick) if self.cron.jitter else None
        job = self.job_now()
        at = instant(tick.astimezone(UTC))
        return replace(job, meta={**job.meta, "cron_at": at}, scheduled_at=scheduled_at)

    def job_now(self) -> AnyJob:
        """Build a job that says which entry it is of, and that belongs to no tick."""
        told = {
            "cron": True,
            "cron_expr": self.cron.expression,
            "cron_name": self.name,
            "cron_tz": self.timezone,
        }
        return replace(self.job, meta={**self.job.meta, **told})

    def _delay(self, tick: datetime) -> timedelta:
        """Choose a delay by a hash, so that every node chooses the same."""
        digest = hashlib.blake2b(f"{self.name} {tick.isoformat()}".encode(), digest_size=4).digest()
        return self.cron.jitter * (int.from_bytes(digest) / 2**32)


class Known(NamedTuple):
    """What the database knows of an entry: the instant since which it is known, and its newest tick."""

    since: datetime
    newest: datetime


def due(
    entry: CronEntry, known: Known, now: datetime, *, grace: timedelta, window: timedelta
) -> list[datetime]:
    """Say which ticks of an entry to insert; those that were inserted already may be among them.

    Ticks within `grace` always count, unless the entry is younger. Older ones were missed: of those since the
    newest known tick, and within `window`, the entry's policy takes none, the latest or all.
    """
    if entry.schedule is None:
        return []
    recent = now - grace
    since = known.since if known.since <= now else recent  # the clock was put back
    in_time = entry.schedule.between(max(recent, since), now)
    if entry.cron.catch_up == "none" or (entry.cron.catch_up == "latest" and in_time):
        return in_time
    missed = entry.schedule.between(max(known.newest, now - window), min(recent, now))
    return [*(missed[-1:] if entry.cron.catch_up == "latest" else missed), *in_time]


def entry_name(cron: Cron, job: AnyJob, timezone: str) -> str:
    """Compose the name of an entry that has none: what tells it from others. Raises `InvalidCron`."""
    if cron.name is not None:
        return cron.name
    parts = [job.worker, cron.expression]
    if timezone != DEFAULT_ZONE:
        parts.append(timezone)
    if job.args:
        parts.append(msgspec.json.encode(job.args, order="deterministic").decode())
    name = " ".join(parts)
    if len(name) > LONGEST_ENTRY:
        raise InvalidCron(
            f"the cron entry {cron.expression!r} of {job.worker} has arguments too long to be part of its name:"
            " give it one, name="
        )
    return name


def crons(given: Any) -> tuple[Cron, ...]:
    """Read a worker's entries: an expression, a `Cron`, or a list of them. Raises `InvalidCron`."""
    several = given if isinstance(given, list | tuple) else [given]
    return tuple(each if isinstance(each, Cron) else Cron(each) for each in several)


@cache
def schedule(expression: str, timezone: str) -> Schedule | None:
    """Read an expression; None for @reboot. Raises `InvalidCron`."""
    return None if expression == REBOOT else Schedule(expression, timezone)


def zone(name: object) -> tzinfo:
    """Find a time zone by its name. Raises `InvalidCron`."""
    try:
        return ZoneInfo(name)  # type: ignore[arg-type]
    except (LookupError, ValueError, TypeError, OSError) as error:
        near = difflib.get_close_matches(str(name), available_timezones(), 1)
        raise InvalidCron(
            f'timezone must be the name of a time zone, as in "Europe/Amsterdam", not {name!r}'
            + (f"; did you mean {near[0]!r}?" if near else "")
        ) from error


def _fields(expression: str) -> list[str]:
    if expression.startswith("@"):
        if expression not in NICKNAMES:
            raise InvalidCron(
                f"there is no nickname {expression!r}; {hint(expression, [*NICKNAMES, REBOOT])}"
            )
        return NICKNAMES[expression].split()
    parts = expression.split()
    if len(parts) != FIELDS:
        raise InvalidCron(
            f"the expression {expression!r} has {len(parts)} fields, not five: minute, hour, day, month, weekday"
        )
    return parts


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ENTRY or not name.isprintable():
        raise InvalidCron(
            f"an entry's name must be printable text of 1 to {LONGEST_ENTRY} characters, not {name!r}"
        )
