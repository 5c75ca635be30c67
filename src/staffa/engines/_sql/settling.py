"""The one way of writing what jobs became, and of telling what came too late."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from staffa._clock import utc_now
from staffa._job import AnyJob, State
from staffa.engine import SOON, Ack, ProducerInfo
from staffa.engines._sql.rows import Row, settled_row, written
from staffa.engines._sql.session import Session
from staffa.errors import UnstorableData
from staffa.notifier import DUE

logger = logging.getLogger("staffa")

UNSTORABLE = (UnstorableData, UnicodeEncodeError)
NOWHERE: Row = (None, None, None)
TO_STAGE = frozenset({State.SCHEDULED, State.RETRYABLE})


def is_plain(ack: Ack) -> bool:
    """Tell whether nothing but the state changed, so that the short way will do."""
    return (
        ack.after.state is State.COMPLETED
        and ack.after.meta is ack.held.meta
        and ack.after.errors is ack.held.errors
    )


async def settle(db: Session, acks: Sequence[Ack], now: datetime | None = None) -> set[int]:
    """Write what jobs became, where they still are as they were; give the fences of those."""
    if not acks:
        return set()
    rows = await db.run(
        "settle_jobs", settled=written([settled_row(ack) for ack in acks]), ids=[a.held.id for a in acks]
    )
    await tell_of_due(db, [ack.after for ack in acks], now)
    return {row[0] for row in rows}


async def tell_of_due(db: Session, jobs: Sequence[AnyJob], now: datetime | None) -> None:
    """Tell whoever stages where a job is due so soon that he may not look before."""
    soon = (now or utc_now()) + SOON
    if any(job.state in TO_STAGE and job.scheduled_at and job.scheduled_at <= soon for job in jobs):
        await db.tell(DUE, [{}])


async def settle_each(db: Session, acks: Sequence[Ack], now: datetime | None) -> set[int]:
    """Settle all in one statement; where the database refuses a value, one by one, so that it blocks nobody."""
    try:
        return await settle(db, acks, now)
    except UNSTORABLE:
        settled: set[int] = set()
        for ack in acks:
            try:
                settled |= await settle(db, [ack], now)
            except UNSTORABLE as error:
                logger.error("the outcome of job %s cannot be stored: %s", ack.held.id, error)  # noqa: TRY400 - the row is to blame, no code
        return settled


async def sorted_out(
    db: Session, producer: ProducerInfo, missed: Sequence[Ack]
) -> tuple[list[Ack], list[Ack]]:
    """Tell acks to hand in again from those that came too late; the others were applied before."""
    found = await whereabouts(db, [ack.held.id for ack in missed])
    again, bounced = [], []
    for ack in missed:
        state, take, by = found.get(ack.held.id, NOWHERE)
        same_take = take == ack.held.take and by == producer.id
        if same_take and state == State.EXECUTING:
            again.append(ack)
        elif not (same_take and state == ack.after.state):
            bounced.append(ack)
    return again, bounced


async def whereabouts(db: Session, ids: Sequence[int | None]) -> dict[int | None, Row]:
    """Look where jobs are now: state, take and producer by id."""
    return {row[0]: row[1:] for row in await db.run("held_jobs", ids=list(ids))}
