"""The one SQL engine. Databases differ below it, in their connection and in their statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from staffa import _lifecycle
from staffa._clock import LONGEST_DELAY
from staffa._cursor import START, Position
from staffa._filter import LARGEST_ID, LISTED, JobFilter
from staffa._job import AnyJob, Progress, State, replace
from staffa._pauses import Pause
from staffa._signals import Action
from staffa.engine import (
    Ack,
    Backlog,
    Beat,
    Cancelled,
    Change,
    CronMark,
    CronTick,
    Exchanged,
    ProducerInfo,
    PrunedKeys,
    Reconciled,
    Reindexed,
    Retried,
    Staged,
    Waiting,
)
from staffa.engines._sql import keys
from staffa.engines._sql.connection import Connection
from staffa.engines._sql.rows import (
    Row,
    conditions,
    fence,
    filtered,
    moment_of,
    new_row,
    new_rows,
    read_moment,
    stored_job,
    stored_jobs,
    updated_row,
    written,
)
from staffa.engines._sql.session import Session
from staffa.engines._sql.settling import (
    NOWHERE,
    is_plain,
    settle,
    settle_each,
    sorted_out,
    tell_of_due,
    whereabouts,
)
from staffa.engines._sql.ticks import record
from staffa.notifier import LEADER, SIGNAL, Payload
from staffa.telemetry import Telemetry, told

P = ParamSpec("P")
T = TypeVar("T")


def word(
    body: Callable[Concatenate[SqlEngine, Session, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SqlEngine, P], Coroutine[Any, Any, T]]:
    """Make a method a word of the engine: it gets a session to write with."""

    async def called(self: SqlEngine, /, *args: P.args, **kwargs: P.kwargs) -> T:
        called = self.connection.write(lambda session: body(self, session, *args, **kwargs))
        return await told(self.telemetry, body.__name__, args, called)

    return update_wrapper(called, body)


def look(
    body: Callable[Concatenate[SqlEngine, Session, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SqlEngine, P], Coroutine[Any, Any, T]]:
    """Make a method a word that only reads."""

    async def called(self: SqlEngine, /, *args: P.args, **kwargs: P.kwargs) -> T:
        called = self.connection.read(lambda session: body(self, session, *args, **kwargs))
        return await told(self.telemetry, body.__name__, args, called)

    return update_wrapper(called, body)


class SqlEngine:
    """Implements `staffa.engine.Engine` over a connection. `channel` is told of inserts, where there are channels."""

    def __init__(
        self, connection: Connection, *, channel: str | None = None, telemetry: Telemetry | None = None
    ) -> None:
        self.connection, self._channel = connection, channel
        self.telemetry = telemetry or Telemetry()

    # What enters

    @word
    async def insert(
        self, db: Session, jobs: Sequence[AnyJob], *, now: datetime | None = None
    ) -> list[AnyJob]:
        if all(job.unique is None for job in jobs):
            return await self._insert(db, jobs, now)
        async with db.together():
            return await keys.insert_once(db, jobs, now, self._insert)

    async def _store(self, db: Session, jobs: Sequence[AnyJob], now: datetime | None) -> list[AnyJob]:
        """Insert jobs where a transaction is under way, unique ones once."""
        if all(job.unique is None for job in jobs):
            return await self._insert(db, jobs, now)
        return await keys.insert_once(db, jobs, now, self._insert)

    async def _insert(self, db: Session, jobs: Sequence[AnyJob], now: datetime | None) -> list[AnyJob]:
        if not jobs:
            return []
        stored = await (self._insert_one if len(jobs) == 1 else self._insert_many)(db, jobs, now)
        await tell_of_due(db, stored, stored[0].inserted_at)
        return stored

    async def _insert_one(self, db: Session, jobs: Sequence[AnyJob], now: datetime | None) -> list[AnyJob]:
        [job] = jobs
        [row] = await db.run("insert_job", **new_row(job), now=now, channel=self._channel)
        return [stored_job(job, row)]

    async def _insert_many(self, db: Session, jobs: Sequence[AnyJob], now: datetime | None) -> list[AnyJob]:
        given, kinds = new_rows(jobs)
        rows = await db.run("insert_jobs", **given, now=now, channel=self._channel)
        return stored_jobs(jobs, kinds, rows)

    # What runs

    async def exchange(
        self,
        producer: ProducerInfo,
        finished: Sequence[Ack],
        demand: int,
        *,
        after: Position | None = None,
        now: datetime | None = None,
    ) -> Exchanged:
        called = self.connection.exchange(
            lambda session: self._exchange(session, producer, finished, demand, after=after, now=now),
            len(finished),
        )
        return await told(self.telemetry, "exchange", (producer, finished, demand), called)

    async def _exchange(
        self,
        db: Session,
        producer: ProducerInfo,
        finished: Sequence[Ack],
        demand: int,
        *,
        after: Position | None,
        now: datetime | None,
    ) -> Exchanged:
        plain: list[Ack] = []
        other: list[Ack] = []
        missed: list[Ack] = []
        for ack in finished:
            (plain if is_plain(ack) else other).append(ack)

        if other:
            settled = await settle_each(db, other, now)
            missed += [ack for ack in other if fence(ack.held) not in settled]

        position = after or START
        rows = await db.run(
            "exchange_jobs",
            fences=[fence(ack.held) for ack in plain],
            producer=producer.id,
            node=producer.node,
            queue=producer.queue,
            demand=demand,
            after_priority=position.priority,
            after_time=position.scheduled_at,
            after_id=position.id,
            now=now,
        )
        acked, taken = await db.exchanged(rows)
        if acked < len(plain):
            missed += plain
        again, bounced = await sorted_out(db, producer, missed) if missed else ([], [])
        return Exchanged(taken, again, bounced)

    @word
    async def reconcile(self, db: Session, producer: ProducerInfo, held: Sequence[AnyJob]) -> Reconciled:
        rows = await db.run("hand_back_jobs", producer=producer.id, fences=[fence(job) for job in held])
        handed_back = [db.job(row) for row in rows]
        if not held:
            return Reconciled(handed_back, [])
        found = await whereabouts(db, [job.id for job in held])
        here = (State.EXECUTING, producer.id)
        lost = [
            replace(job, state=State(state) if state and take == job.take else State.AVAILABLE)
            for job in held
            for state, take, by in [found.get(job.id, NOWHERE)]
            if (state, by) != here or take != job.take
        ]
        return Reconciled(handed_back, lost)

    @word
    async def progress(
        self, db: Session, producer: ProducerInfo, told: Sequence[tuple[AnyJob, Progress]]
    ) -> None:
        given = [{"id": job.id, "take": job.take, "progress": progress} for job, progress in told]
        await db.run(
            "progress_jobs", told=written(given), ids=[job.id for job, _ in told], producer=producer.id
        )

    # What moves by itself

    async def stage(self, limit: int, *, now: datetime | None = None) -> Staged:
        return await told(self.telemetry, "stage", (limit,), self._look_and_stage(limit, now))

    async def _look_and_stage(self, limit: int, now: datetime | None) -> Staged:
        """Stage what is due, if anything is."""
        if self.connection.looks_first:
            [(seconds,)] = await self.connection.read(lambda db: db.run("next_due", now=now))
            if seconds is None or seconds > 0:
                return Staged({}, None if seconds is None else timedelta(seconds=seconds))
        return await self.connection.write(lambda db: self._stage(db, limit, now))

    async def _stage(self, db: Session, limit: int, now: datetime | None) -> Staged:
        staged: Counter[str] = Counter()
        next_in: timedelta | None = None
        for queue, jobs, seconds in await db.run("stage_jobs", limit=limit, now=now):
            if queue is not None:
                staged[queue] += jobs
            elif seconds is not None:
                next_in = timedelta(seconds=float(seconds))
        return Staged(dict(sorted(staged.items())), next_in)

    @word
    async def register(self, db: Session, producers: Sequence[ProducerInfo]) -> None:
        given = [
            {
                "id": each.id,
                "node": each.node,
                "queue": each.queue,
                "capacity": each.limit,
                "paused": each.paused,
            }
            for each in producers
        ]
        await db.run("register_producers", producers=written(given))

    @word
    async def beat(self, db: Session, producers: Sequence[str]) -> list[str]:
        return [row[0] for row in await db.run("beat_producers", ids=list(producers))]

    @word
    async def retire(self, db: Session, producers: Sequence[str]) -> None:
        await db.run("retire_producers", ids=list(producers))

    @word
    async def expire(self, db: Session, still: Sequence[Beat]) -> list[str]:
        given = [{"id": each.producer, "beat": each.beat} for each in still]
        return [row[0] for row in await db.run("expire_producers", still=written(given))]

    @word
    async def rescue(self, db: Session, limit: int, *, now: datetime | None = None) -> list[AnyJob]:
        async with db.together():
            [(expired,)] = await db.run("any_expired")
            if not expired:
                return []
            orphans = [db.job(row) for row in await db.run("orphaned_jobs", limit=limit)]
            if not orphans:
                await db.run("forget_producers")
                return []
            now = now or await _clock(db)
            acks = [Ack(job, _lifecycle.rescued(job, now)) for job in orphans]
            await settle(db, acks, now)
            return [ack.after for ack in acks]

    @word
    async def prune(
        self, db: Session, ages: Mapping[State, timedelta], limit: int, *, now: datetime | None = None
    ) -> dict[State, int]:
        seconds = {
            str(state): min(ages[state], LONGEST_DELAY).total_seconds() if state in ages else None
            for state in (State.COMPLETED, State.CANCELLED, State.DISCARDED)
        }
        pruned: dict[State, int] = {}
        for (state,) in await db.run("prune_jobs", limit=limit, now=now, **seconds):
            pruned[State(state)] = pruned.get(State(state), 0) + 1
        return pruned

    @word
    async def prune_keys(self, db: Session, after: str, limit: int) -> PrunedKeys:
        async with db.together():
            [(last, looked_at)] = await db.run("next_keys", after=after, limit=limit)
            vacant = await db.run("lock_vacant_keys", after=after, until=last) if looked_at else []
            names = [row[0] for row in vacant]
            pruned = await db.run("delete_vacant_keys", keys=names) if names else []
            return PrunedKeys(len(pruned), last if looked_at == limit else None)

    async def reindex(self, indexes: Sequence[str], within: timedelta) -> Reindexed:
        return await self.connection.reindex(indexes, within)

    @word
    async def tell(self, db: Session, channel: str, payloads: Sequence[Payload]) -> None:
        await db.tell(channel, payloads)

    @word
    async def lead(
        self, db: Session, lease: str, node: str, period: timedelta, *, now: datetime | None = None
    ) -> bool:
        return bool(await db.run("lead", lease=lease, node=node, seconds=period.total_seconds(), now=now))

    @word
    async def resign(self, db: Session, lease: str, node: str) -> None:
        async with db.together():
            if await db.run("resign", lease=lease, node=node):
                await db.tell(LEADER, [{"down": lease}])

    # What people do

    @word
    async def pause(self, db: Session, queue: str, node: str, ident: str, *, paused: bool) -> Pause:
        async with db.together():
            await db.run("forget_pauses", queue=queue, node=node)
            [(number,)] = await db.run("write_pause", queue=queue, node=node, paused=paused)
            action = Action.PAUSE if paused else Action.RESUME
            signal = {"action": action, "ident": ident, "queue": queue, "number": number}
            await db.tell(SIGNAL, [signal])
            return Pause(number, queue, node, paused)

    @word
    async def cancel(self, db: Session, wanted: JobFilter, *, now: datetime | None = None) -> list[Cancelled]:
        async with db.together():
            moment = now or await _clock(db)
            acks = [
                Ack(job, replace(job, state=State.CANCELLED, cancelled_at=moment))
                for job in await self._locked(db, wanted.only(_lifecycle.CANCELLABLE))
            ]
            await settle(db, acks)
            return [Cancelled(ack.after, ack.held.state) for ack in acks]

    @word
    async def retry(self, db: Session, wanted: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        wanted = wanted.only(_lifecycle.RETRYABLE)
        async with db.together():
            asked = await self._asked(db, "keys_of_jobs", wanted, limit=wanted.limit)
            held = await keys.locked(db, {key for _, key in asked if key is not None}, now)
            moment = now or await _clock(db)
            acks: list[Ack] = []
            retried: list[Retried] = []
            for job in await self._locked(db, msgspec.structs.replace(wanted, ids=[row[0] for row in asked])):
                holder = held.in_the_way(job, moment)
                if holder is None:
                    acks.append(Ack(job, _lifecycle.retried(job, moment)))
                    held.give(acks[-1].after)
                retried.append(Retried(job.id or 0, holder or acks[-1].after))
            await settle(db, acks)
            await keys.claim(db, held.given)
            return retried

    @word
    async def delete(self, db: Session, wanted: JobFilter) -> list[int]:
        wanted = wanted.only(_lifecycle.DELETABLE)
        return sorted(row[0] for row in await self._asked(db, "delete_jobs", wanted, limit=wanted.limit))

    @word
    async def update(
        self, db: Session, wanted: JobFilter, change: Change, *, now: datetime | None = None
    ) -> list[AnyJob]:
        async with db.together():
            moment = now or await _clock(db)
            jobs = await self._locked(db, wanted)
            changed = [_lifecycle.updated(job, change(job), moment) for job in jobs]
            rows = [updated_row(*each) for each in zip(jobs, changed, strict=True)]
            if rows:
                await db.run("update_jobs", changed=written(rows), ids=[job.id for job in jobs])
                await tell_of_due(db, changed, moment)
            return changed

    # What people see

    @look
    async def jobs(self, db: Session, wanted: JobFilter) -> list[AnyJob]:
        most = LISTED if wanted.ids is None else LARGEST_ID
        limit = most if wanted.limit is None else wanted.limit
        return [db.job(row) for row in await self._asked(db, "list_jobs", wanted, limit=limit)]

    @look
    async def count(self, db: Session, wanted: JobFilter) -> int:
        rows = await self._asked(db, "tally_jobs", wanted)
        counted: int = rows[0][0] if rows else 0
        return counted if wanted.limit is None else min(counted, wanted.limit)

    @look
    async def states(self, db: Session, ids: Sequence[int]) -> dict[int, State]:
        found = await whereabouts(db, ids)
        return {job_id: State(row[0]) for job_id, row in found.items() if job_id is not None}

    @look
    async def counts(self, db: Session) -> dict[str, dict[State, int]]:
        counted: dict[str, dict[State, int]] = {}
        for queue, state, jobs in await db.run("count_jobs"):
            counted.setdefault(queue, {})[State(state)] = jobs
        return counted

    @look
    async def ready(self, db: Session, queues: Sequence[str]) -> list[str]:
        return [queue for (queue,) in await db.run("ready_queues", queues=list(queues))]

    @look
    async def producers(self, db: Session) -> list[ProducerInfo]:
        return [
            ProducerInfo(
                id=producer_id,
                node=node,
                queue=queue,
                limit=capacity,
                paused=bool(paused),
                beat=beat,
                expired=bool(expired),
                started_at=read_moment(started_at),
                beat_at=read_moment(beat_at),
            )
            for producer_id, node, queue, capacity, beat, started_at, beat_at, expired, paused in await db.run(
                "list_producers"
            )
        ]

    @look
    async def executing(self, db: Session) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for producer, job_id in await db.run("executing_jobs"):
            found.setdefault(producer, []).append(job_id)
        return found

    @look
    async def pauses(self, db: Session) -> list[Pause]:
        return [
            Pause(number, queue, node, bool(paused))
            for number, queue, node, paused in await db.run("list_pauses")
        ]

    @look
    async def leader(self, db: Session, lease: str) -> str | None:
        rows = await db.run("leader", lease=lease)
        return rows[0][0] if rows else None

    @look
    async def backlog(self, db: Session) -> Backlog:
        waiting = [
            Waiting(queue, worker, State(state), jobs, read_moment(oldest))
            for queue, worker, state, jobs, oldest in await db.run("count_waiting")
        ]
        [(strays,)] = await db.run("count_strays")
        return Backlog(waiting, strays)

    @look
    async def clock(self, db: Session) -> datetime:
        return await _clock(db)

    # What ticks

    @word
    async def record_ticks(
        self, db: Session, ticks: Sequence[CronTick], *, now: datetime | None = None
    ) -> list[AnyJob]:
        async with db.together():
            return await record(db, ticks, now, self._store)

    @word
    async def boot(
        self, db: Session, ticks: Sequence[CronTick], started: datetime, *, now: datetime | None = None
    ) -> list[AnyJob]:
        entries = [tick.entry for tick in ticks]
        async with db.together():
            booting = {row[0] for row in await db.run("mark_boot", entries=entries, started=started, now=now)}
            await db.run("touch_boot", entries=entries, now=now)
            return await record(db, [tick for tick in ticks if tick.entry in booting], now, self._store)

    @word
    async def prune_ticks(self, db: Session, age: timedelta, *, now: datetime | None = None) -> None:
        await db.run("prune_ticks", seconds=age.total_seconds(), now=now)

    @look
    async def cron_marks(self, db: Session, entries: Sequence[str]) -> list[CronMark]:
        return [
            CronMark(entry, moment_of(since), moment_of(newest), job_id)
            for entry, since, newest, job_id in await db.run("list_ticks", entries=list(entries))
        ]

    # Which jobs are meant

    async def _locked(self, db: Session, wanted: JobFilter) -> list[AnyJob]:
        """Lock jobs in order of id, so that two who do so never wait for each other; give them as they are now."""
        return [db.job(row) for row in await self._asked(db, "lock_jobs", wanted, limit=wanted.limit)]

    async def _asked(self, db: Session, name: str, wanted: JobFilter, **params: Any) -> list[Row]:
        """Run a statement about wanted jobs; where none can be meant, there is nothing to ask."""
        if wanted.matches_none:
            return []
        return await db.run(filtered(name, wanted), **conditions(wanted), **params)


async def _clock(db: Session) -> datetime:
    [(now,)] = await db.run("clock")
    return moment_of(now)
