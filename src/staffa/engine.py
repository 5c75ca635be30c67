"""What every engine can do, said in the words of jobs, not of tables. All words take and give batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

import msgspec

from staffa._cursor import Position
from staffa._filter import JobFilter
from staffa._finding import Finding
from staffa._job import AnyJob, Progress, State
from staffa._pauses import Pause
from staffa.notifier import Notifier, Payload
from staffa.telemetry import Telemetry

SOON = timedelta(seconds=2)


class Ack(NamedTuple):
    """What a producer hands in: the job as it was taken, and what it became."""

    held: AnyJob
    after: AnyJob


class Exchanged(NamedTuple):
    """What a producer gets: the jobs it may start, the acks to hand in again, those that came too late."""

    taken: list[AnyJob]
    again: list[Ack]
    bounced: list[Ack]


class Staged(NamedTuple):
    """What became available: jobs by queue; and how long until the next job is due, if one is within a day."""

    queues: dict[str, int]
    next_in: timedelta | None


class Reconciled(NamedTuple):
    """What a producer learns: jobs handed back that it did not hold, and held ones that it lost, as they are now."""

    handed_back: list[AnyJob]
    lost: list[AnyJob]


class PrunedKeys(NamedTuple):
    """How many unique keys were deleted, and the last one looked at; None at the end."""

    pruned: int
    last: str | None


class Retried(NamedTuple):
    """A job that was asked for, and what answers it: itself as it is now, or the one that has its unique key."""

    id: int
    job: AnyJob


class Cancelled(NamedTuple):
    """A job that was cancelled, and the state it was in before."""

    job: AnyJob
    was: State


class ProducerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A queue on a node, as the database knows it. `beat` grows while it lives."""

    id: str
    node: str
    queue: str
    limit: int
    paused: bool = False
    beat: int = 0
    expired: bool = False
    started_at: datetime | None = None
    beat_at: datetime | None = None


class Waiting(NamedTuple):
    """Jobs of one queue, worker and state that wait, and when the first of them was or is due."""

    queue: str
    worker: str
    state: State
    jobs: int
    oldest: datetime | None


class Backlog(NamedTuple):
    """What waits, and how many jobs execute under producers that were never registered here."""

    waiting: list[Waiting]
    strays: int


class Reindexed(NamedTuple):
    """Indexes that were rebuilt, leftovers of interrupted rebuilding that were dropped, and what failed why."""

    rebuilt: list[str]
    dropped: list[str]
    failed: dict[str, str]


class QueueCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as it runs in one process of a node: its limit, whether it pauses, and the ids of its running jobs."""

    queue: str
    node: str
    producer: str
    limit: int
    paused: bool
    running: tuple[int, ...]
    started_at: datetime | None
    beat_at: datetime | None


class Beat(NamedTuple):
    """One look at a producer's heart: the same beat seen twice is one that stood still."""

    producer: str
    beat: int


class CronTick(NamedTuple):
    """A tick of a cron entry, and the job to insert for it; none where the entry only becomes known."""

    entry: str
    tick: datetime
    job: AnyJob | None


class CronMark(NamedTuple):
    """What is known of a cron entry: since when, its newest tick, and that one's job."""

    entry: str
    since: datetime
    newest: datetime
    job_id: int | None


Change = Callable[[AnyJob], Mapping[str, Any]]
"""Says what to change of a job that is locked meanwhile, by the names of its fields."""


class Reader(Protocol):
    """What people look at."""

    async def jobs(self, wanted: JobFilter) -> list[AnyJob]:
        """List jobs, newest first: at most 50, or all of the ids, where no limit is given."""

    async def count(self, wanted: JobFilter) -> int:
        """Count jobs, up to the limit if there is one."""

    async def states(self, ids: Sequence[int]) -> dict[int, State]:
        """Tell the states of jobs, of those that are there."""

    async def counts(self) -> dict[str, dict[State, int]]:
        """Count jobs by queue and state."""

    async def ready(self, queues: Sequence[str]) -> list[str]:
        """Name those of the queues in which jobs are available."""

    async def producers(self) -> list[ProducerInfo]:
        """List the producers that live, and the dead ones whose jobs are not back yet."""

    async def executing(self) -> dict[str, list[int]]:
        """Name the jobs that execute, by producer."""

    async def pauses(self) -> list[Pause]:
        """List what was said about which queues pause where."""

    async def leader(self, lease: str) -> str | None:
        """Name the node that holds a lease now."""

    async def backlog(self) -> Backlog:
        """Count what waits, by queue, worker and state. Reads all unfinished jobs: for people, not for loops."""

    async def clock(self) -> datetime:
        """Tell the database's time."""

    async def cron_marks(self, entries: Sequence[str]) -> list[CronMark]:
        """Say what is known of cron entries, in no order; nothing of those that are not known yet."""


class Engine(Reader, Protocol):
    """What the machine needs, and what people do. `now` is None in production, which means the database's clock.

    Words after which a job is due within `SOON` tell so on `due`, since whoever stages may not look before.

    Every word is one transaction. All raise `DatabaseUnavailable` where trying again may help.
    """

    async def insert(self, jobs: Sequence[AnyJob], *, now: datetime | None = None) -> list[AnyJob]:
        """Store admitted jobs, all or none, and wake their queues; give them back as stored, in order.

        A unique job that repeats another one is not stored: it is answered by that one, changed as its
        `replace` says, with `conflict` set.
        """

    async def exchange(
        self,
        producer: ProducerInfo,
        finished: Sequence[Ack],
        demand: int,
        *,
        after: Position | None = None,
        now: datetime | None = None,
    ) -> Exchanged:
        """Record what a queue finished and take what it may start, in one round trip.

        Only attempts that still hold their job are recorded. Jobs come in order of priority, time and id;
        those that come before `after` may be passed over.
        """

    async def reconcile(self, producer: ProducerInfo, held: Sequence[AnyJob]) -> Reconciled:
        """Hand back jobs executing under this producer that it does not hold; find held ones it lost.

        Never call it beside an exchange of the same producer.
        """

    async def progress(self, producer: ProducerInfo, told: Sequence[tuple[AnyJob, Progress]]) -> None:
        """Store how far attempts are, in `meta.progress`, where they still hold their jobs."""

    async def stage(self, limit: int, *, now: datetime | None = None) -> Staged:
        """Make due scheduled and retryable jobs available, at most `limit`, those due longest first."""

    async def register(self, producers: Sequence[ProducerInfo]) -> None:
        """Make producers known, before they take their first job, and what has changed of them since."""

    async def beat(self, producers: Sequence[str]) -> list[str]:
        """Show that producers live; name those that are still taken for living."""

    async def retire(self, producers: Sequence[str]) -> None:
        """Say that producers have stopped; jobs still under them are orphans from now on."""

    async def expire(self, still: Sequence[Beat]) -> list[str]:
        """Take producers for dead whose beat is still the one given; name them."""

    async def rescue(self, limit: int, *, now: datetime | None = None) -> list[AnyJob]:
        """Bring back jobs of dead producers, as `_lifecycle.rescued` decides; forget producers without jobs."""

    async def prune(
        self, ages: Mapping[State, timedelta], limit: int, *, now: datetime | None = None
    ) -> dict[State, int]:
        """Delete finished jobs older than the age of their state, at most `limit` of each; count them."""

    async def record_ticks(self, ticks: Sequence[CronTick], *, now: datetime | None = None) -> list[AnyJob]:
        """Record cron ticks and insert the jobs of those that nobody recorded before; give these jobs back."""

    async def boot(
        self, ticks: Sequence[CronTick], started: datetime, *, now: datetime | None = None
    ) -> list[AnyJob]:
        """Show that these entries have a leader; record ticks, as above, of those that had none since `started`."""

    async def prune_ticks(self, age: timedelta, *, now: datetime | None = None) -> None:
        """Forget cron ticks older than an age, but the newest of each entry, and since when it is known."""

    async def prune_keys(self, after: str, limit: int) -> PrunedKeys:
        """Look at the next `limit` unique keys in their order; delete those whose job has vanished."""

    # These lock and answer in order of id; a filter's limit and `after` make batches of many jobs.

    async def cancel(self, wanted: JobFilter, *, now: datetime | None = None) -> list[Cancelled]:
        """Cancel jobs that are not finished."""

    async def retry(self, wanted: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        """Make jobs available that are neither so nor executing, with an attempt left to truly run.

        A job whose unique key another one holds stays as it is; that one is in the answer, with `conflict` set.
        """

    async def delete(self, wanted: JobFilter) -> list[int]:
        """Delete jobs that are not executing; name them."""

    async def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        """Rebuild indexes of the jobs' table, all if none is named, one after the other, each within a time.

        Writers go on meanwhile on PostgreSQL. Where another process rebuilds them, nothing is done. Raises
        `UnsupportedConnection` in a caller's transaction.
        """

    async def update(self, wanted: JobFilter, change: Change, *, now: datetime | None = None) -> list[AnyJob]:
        """Change jobs as `_lifecycle.updated` decides; give them as they are now."""

    async def pause(self, queue: str, node: str, ident: str, *, paused: bool) -> Pause:
        """Keep that a queue (or `*`) pauses, or not, on a node (or all), and tell whom it concerns by Oban's ident."""

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Tell everyone who listens on a channel, other processes too where the database can."""

    async def lead(self, lease: str, node: str, period: timedelta, *, now: datetime | None = None) -> bool:
        """Take or renew a lease; say whether this node holds it."""

    async def resign(self, lease: str, node: str) -> None:
        """Give a lease up, and tell those who would have it."""


class TablesStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the tables: versions applied and not, and what is wrong with them, in a sentence.

    `made_by` is "staffa" or "oban", None where there are none; `oban_version` is what Oban reads as its own.
    """

    applied: list[int]
    pending: list[int]
    made_by: str | None = None
    oban_version: str | None = None
    trouble: str | None = None


class Tables(Protocol):
    """The tables of one database, and the ways between their versions. All block."""

    def status(self) -> TablesStatus:
        """Look at the tables; changes nothing."""

    def forward(self, to: int | None = None) -> list[int]:
        """Apply the versions that are missing up to one, by default the newest; give them, in order.

        Raises `SchemaUnsupported` for tables that cannot be adopted, `ConfigError` for a version that is not known.
        """

    def back(self, to: int) -> list[int]:
        """Take away the versions above one, 0 for all that is ours; give them, the newest first."""

    def losses(self, to: int) -> dict[str, int]:
        """Count the rows that going back would take away, by table; tables without rows are left out."""

    def index(self, columns: Sequence[str]) -> list[str]:
        """Make indexes for what these columns contain, where there are none, while others write; give them.

        Raises `ConfigError` for other columns than args, meta and tags, and where a database has no such index.
        """

    def script(self, since: int, to: int | None = None) -> list[str]:
        """List the statements of a way, for those who execute them themselves."""


class Database(Protocol):
    """What an engine module offers for one URL. Making one opens nothing."""

    @property
    def dialect(self) -> str:
        """The kind of database, as SQLAlchemy names it; empty where jobs are kept in none."""

    @property
    def schema(self) -> str | None:
        """The schema of the tables, where there are schemas."""

    @property
    def channel(self) -> str | None:
        """The channel that hears of inserts, where there are channels."""

    @property
    def tables(self) -> Tables:
        """The tables, which can be moved between versions."""

    @property
    def telemetry(self) -> Telemetry:
        """Who is told of the words that are called."""

    @property
    def reach(self) -> str | None:
        """The URL by which another process on this machine reaches the same jobs; None where none can."""

    @property
    def engine(self) -> Engine:
        """The words, awaited, on any event loop."""

    @property
    def plain(self) -> Engine:
        """The same words for callers without a loop: their coroutines end at the first step."""

    def alone(self) -> AbstractContextManager[Engine]:
        """Return the plain words on a line that nobody else waits for, for the heartbeat's thread.

        They are told to nobody: a listener that takes its time must not hold up a heartbeat.
        """

    def joined(self, connection: Any) -> Engine:
        """Return the words in the caller's own transaction; plain or awaited as the connection is.

        Raises `UnsupportedConnection`.
        """

    def notifier(self) -> Notifier: ...

    async def open(self) -> None:
        """Prepare to run queues on this loop. Raises `SchemaMissing` or `DatabaseUnavailable`."""

    async def close(self) -> None:
        """Let go of everything that was opened for queues."""

    def dispose(self) -> None:
        """Let go of everything."""

    def examine(self) -> Iterable[Finding]:
        """Look for what may be wrong; nothing is written."""

    def leading(self, *, leads: bool) -> None:
        """Hear whether this node leads."""
