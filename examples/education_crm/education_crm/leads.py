"""Leads as telecallers see them: their own, page by page, with the calls made."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from education_crm.schema import call_logs, leads, new_id

PAGE: Final = 50
A_DAY: Final = 24 * 60 * 60
OUTCOMES: Final = ("connected", "no_answer", "busy", "invalid_number")


def page_of_leads(connection: Connection, telecaller_id: str, page: int) -> Sequence[Row[Any]]:
    """One page of a telecaller's leads: those called least come first. Asks for one more than it shows."""
    query = (
        select(leads)
        .where(leads.c.telecaller_id == telecaller_id)
        .order_by(leads.c.call_count, leads.c.import_row, leads.c.id)
        .limit(PAGE + 1)
        .offset((page - 1) * PAGE)
    )
    return connection.execute(query).all()


def count_of_leads(connection: Connection, telecaller_id: str) -> int:
    """How many leads a telecaller has."""
    return connection.execute(
        select(func.count()).select_from(leads).where(leads.c.telecaller_id == telecaller_id)
    ).scalar_one()


def find_lead(connection: Connection, lead_id: str) -> Row[Any] | None:
    """The lead with this id."""
    return connection.execute(select(leads).where(leads.c.id == lead_id)).one_or_none()


def calls_of(connection: Connection, lead_id: str) -> Sequence[Row[Any]]:
    """The calls made to a lead, the latest first."""
    query = select(call_logs).where(call_logs.c.lead_id == lead_id).order_by(call_logs.c.inserted_at.desc())
    return connection.execute(query).all()


def log_call(
    connection: Connection,
    lead_id: str,
    telecaller_id: str,
    *,
    outcome: str,
    duration_seconds: int,
    now: datetime,
) -> str:
    """Write down a call and return its id; the lead counts it. Raises ValueError for what no call can be."""
    if outcome not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}")

    if not 0 <= duration_seconds <= A_DAY:
        raise ValueError("duration_seconds must be between 0 and a day")

    call_log_id = new_id()
    call = {
        "id": call_log_id,
        "lead_id": lead_id,
        "telecaller_id": telecaller_id,
        "outcome": outcome,
        "duration_seconds": duration_seconds,
        "inserted_at": now,
    }
    connection.execute(insert(call_logs).values(call))
    called = {"call_count": leads.c.call_count + 1, "last_contacted_at": now}
    connection.execute(update(leads).where(leads.c.id == lead_id).values(called))
    return call_log_id
