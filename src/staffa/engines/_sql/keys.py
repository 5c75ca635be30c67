"""Unique keys: locked before jobs and in one order for all, then looked at, then claimed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

import msgspec

from staffa._clock import LONGEST_DELAY
from staffa._filter import JobFilter
from staffa._job import AnyJob, State, Unique, replace
from staffa._unique import FOREVER, is_in_the_way, replaced, states_of
from staffa.engines._sql.rows import EARLIEST, conditions, filtered, moment_of, updated_row, written
from staffa.engines._sql.session import Session
from staffa.notifier import INSERT, naming_queues

WORTH_A_TRY = 100  # unique jobs; for fewer, asking first takes longer than it saves

Rule = tuple[str, float | None, str]  # states, seconds and timestamp, as a key's row has them
Insert = Callable[[Session, Sequence[AnyJob], datetime | None], Awaitable[list[AnyJob]]]


class Claim(NamedTuple):
    """Who holds a key from now on, and the rule by which others are kept out."""

    key: str
    holder: AnyJob
    unique: Unique


@dataclass
class Locked:
    """Keys that nobody else can claim until this transaction ends: who holds them, and by which rule.

    `moment` is when they were looked at, where any had been used before.
    """

    moment: datetime = EARLIEST
    holders: dict[str | None, AnyJob] = field(default_factory=dict)
    rules: dict[str | None, Unique] = field(default_factory=dict)
    given: list[Claim] = field(default_factory=list)

    def in_the_way(self, job: AnyJob, now: datetime) -> AnyJob | None:
        """Return the other job that keeps a stored one from being made available again, marked as such."""
        holder = self.holders.get(job.unique_key)
        if holder is None or holder.id == job.id:
            return None
        return (
            replace(holder, conflict=True) if is_in_the_way(holder, self._rule(job.unique_key), now) else None
        )

    def give(self, job: AnyJob) -> None:
        """Let a stored job hold its key, if it has one."""
        if job.unique_key is not None:
            self.holders[job.unique_key] = job
            self.given.append(Claim(job.unique_key, job, self._rule(job.unique_key)))

    def _rule(self, key: str | None) -> Unique:
        """Find the rule by which a key was taken; one that was not has the rule that the table gives to new ones."""
        return self.rules.get(key, FOREVER)


async def locked(db: Session, keys: Collection[str], now: datetime | None) -> Locked:
    """Lock keys, those too that nobody ever used, and see who holds them, which only a later statement can."""
    found = Locked()
    if not keys:
        return found
    new = {row[0] for row in await db.run("lock_keys", keys=written(sorted(keys)), patience=db.patience)}
    used = sorted({*keys} - new)
    if not used:
        return found
    for moment, key, states, period, timestamp, *holder in await db.run(
        "find_holders", keys=written(used), now=now
    ):
        found.moment = moment_of(moment)
        found.rules[key] = Unique(
            period=None if period is None else timedelta(seconds=period),
            states=msgspec.json.decode(states) if isinstance(states, str) else states,
            timestamp=timestamp,
        )
        if holder[0] is not None:
            found.holders[key] = db.job(tuple(holder))
    return found


async def claim(db: Session, claims: Iterable[Claim]) -> None:
    """Give locked keys to jobs. It is written even where nothing changes, for those who read an older snapshot."""
    for (states, period, timestamp), holders in _by_rule(claims).items():
        await db.run(
            "claim_keys", holders=written(holders), states=states, period=period, timestamp=timestamp
        )


async def claim_new(db: Session, claims: Iterable[Claim]) -> bool:
    """Give keys to jobs that nobody ever used; tell whether they were that, for else not all are given.

    Several rules are refused, as their keys would not be locked in one order for all.
    """
    [((states, period, timestamp), holders), *others] = _by_rule(claims).items()
    if others:
        return False
    [(claimed,)] = await db.run(
        "claim_new_keys",
        holders=written(holders),
        states=states,
        period=period,
        timestamp=timestamp,
        patience=db.patience,
    )
    return bool(claimed == len(holders))


def _by_rule(claims: Iterable[Claim]) -> dict[Rule, dict[str, int | None]]:
    """Gather the ids of holders by key, and these by rule."""
    by_rule: dict[Rule, dict[str, int | None]] = {}
    holders: dict[str, int | None] = {}
    last: Unique | None = None
    for key, holder, unique in claims:
        if unique is not last:
            last, holders = unique, by_rule.setdefault(_rule_of(unique), {})
        holders[key] = holder.id
    return by_rule


def _rule_of(unique: Unique) -> Rule:
    seconds = unique.period and min(unique.period, LONGEST_DELAY).total_seconds()
    return _written_states(states_of(unique)), seconds or None, unique.timestamp


@cache
def _written_states(states: frozenset[str]) -> str:
    return written(sorted(states))


# Inserting


class Answer(msgspec.Struct, gc=False):
    """The row that answers a job: as it was given or found, as it was stored, and as it is in the end."""

    given: AnyJob
    stored: AnyJob
    after: AnyJob


async def insert_once(
    db: Session, jobs: Sequence[AnyJob], now: datetime | None, insert: Insert
) -> list[AnyJob]:
    """Insert what repeats nothing; answer the rest with the job that is in the way, changed where they say so.

    Jobs of one batch that repeat each other are inserted once. `insert` stores those that are left.
    """
    if all_new := await _insert_all_new(db, jobs, now, insert):
        return all_new
    found = await locked(db, {job.unique_key for job in jobs if job.unique_key is not None}, now)
    await _lock_what_may_change(db, jobs, found)
    answers, conflicts = _answers(jobs, found)

    new = [answer for answer, conflict in zip(answers, conflicts, strict=True) if not conflict]
    for answer, stored in zip(new, await insert(db, [answer.given for answer in new], now), strict=True):
        answer.stored = answer.after = stored
    await claim(db, _claims((answer.given, answer.stored) for answer in new))

    moment = (new[0].stored.inserted_at if new else None) or found.moment
    for job, answer, conflict in zip(jobs, answers, conflicts, strict=True):
        if conflict:
            answer.after = replaced(answer.after, job, moment)
    await _store_changes(db, answers)
    return [
        replace(answer.after, conflict=True) if conflict else answer.after
        for answer, conflict in zip(answers, conflicts, strict=True)
    ]


async def _insert_all_new(
    db: Session, jobs: Sequence[AnyJob], now: datetime | None, insert: Insert
) -> list[AnyJob] | None:
    """Insert many jobs whose keys nobody ever used, which are then written once; none where that is not so.

    In a transaction that is not ours, or on SQLite, where keys are always written once, it is not tried.
    """
    keys = [job.unique_key for job in jobs if job.unique_key is not None]
    if db.patience is None or len(keys) < WORTH_A_TRY or len({*keys}) < len(keys):
        return None
    if await db.run("used_keys", keys=written(keys)):
        return None
    try:
        async with db.together():
            return await _insert_and_claim(db, jobs, now, insert)
    except _UsedMeanwhile:
        return None


class _UsedMeanwhile(Exception):
    """Somebody else was quicker; what was inserted is undone."""


async def _insert_and_claim(
    db: Session, jobs: Sequence[AnyJob], now: datetime | None, insert: Insert
) -> list[AnyJob]:
    stored = await insert(db, jobs, now)
    if not await claim_new(db, _claims(zip(jobs, stored, strict=True))):
        raise _UsedMeanwhile
    return stored


def _claims(stored: Iterable[tuple[AnyJob, AnyJob]]) -> Iterator[Claim]:
    """Claim their keys for jobs that were stored, of each of which is given how it was before and after."""
    for given, after in stored:
        if given.unique_key is not None and given.unique is not None:
            yield Claim(given.unique_key, after, given.unique)


def _answers(jobs: Sequence[AnyJob], found: Locked) -> tuple[list[Answer], list[bool]]:
    """Find the row of each job, and whether it is that of another job, which is in the way."""
    taken = {key: Answer(holder, holder, holder) for key, holder in found.holders.items()}
    answers: list[Answer] = []
    conflicts: list[bool] = []
    for job in jobs:
        answer = taken.get(job.unique_key)
        conflict = (
            answer is not None and job.unique is not None and _keeps_out(answer, job.unique, found.moment)
        )
        if answer is None or not conflict:
            answer = Answer(job, job, job)
            if job.unique_key is not None:
                taken[job.unique_key] = answer
        answers.append(answer)
        conflicts.append(conflict)
    return answers, conflicts


def _keeps_out(answer: Answer, unique: Unique, now: datetime) -> bool:
    """Tell whether a holder is in the way; one of the same batch always is."""
    return answer.given.id is None or is_in_the_way(answer.given, unique, now)


async def _lock_what_may_change(db: Session, jobs: Sequence[AnyJob], found: Locked) -> None:
    """Lock the holders that a job wants to change, and see them as they are now."""
    keys = {job.unique_key for job in jobs if job.replace} & found.holders.keys()
    if not keys:
        return
    ids = JobFilter(ids=[found.holders[key].id or 0 for key in keys])
    rows = await db.run(filtered("lock_jobs", ids), **conditions(ids), limit=None)
    now = {job.id: job for job in map(db.job, rows)}
    for key in keys:
        holder = now.get(found.holders.pop(key).id)
        if holder is not None:
            found.holders[key] = holder


async def _store_changes(db: Session, answers: Sequence[Answer]) -> None:
    changed = {answer.after.id or 0: answer for answer in answers if answer.after is not answer.stored}
    if not changed:
        return
    given = [updated_row(answer.stored, answer.after) for answer in changed.values()]
    await db.run("update_jobs", changed=written(given), ids=sorted(changed))
    if queues := [answer.after.queue for answer in changed.values() if answer.after.state is State.AVAILABLE]:
        await db.tell(INSERT, naming_queues(queues))
