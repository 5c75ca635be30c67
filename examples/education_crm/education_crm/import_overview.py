"""Imports as admins see them: what came of each, and how the branches stand."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from education_crm.schema import branches, import_logs, leads, users

RECENT = 50


def recent_logs(connection: Connection) -> Sequence[Any]:
    """The latest imports with the names of their branches, the latest first; without their failed rows."""
    logs = import_logs.c
    shown = (
        logs.job_id,
        logs.filename,
        logs.status,
        logs.successful_rows,
        logs.failed_rows,
        logs.inserted_at,
    )
    query = (
        select(*shown, branches.c.name.label("branch_name"))
        .select_from(import_logs.outerjoin(branches))
        .order_by(import_logs.c.inserted_at.desc(), import_logs.c.id)
        .limit(RECENT)
    )
    return connection.execute(query).all()


def log_of(connection: Connection, job_id: int) -> Any:
    """The log of one import with the names of its branch and admin."""
    query = (
        select(import_logs, branches.c.name.label("branch_name"), users.c.full_name.label("admin_name"))
        .select_from(import_logs.outerjoin(branches).outerjoin(users, users.c.id == import_logs.c.admin_id))
        .where(import_logs.c.job_id == job_id)
    )
    return connection.execute(query).one_or_none()


def totals(connection: Connection) -> dict[str, int]:
    """How many leads, open branches and active telecallers there are."""
    telecallers = select(func.count()).select_from(users).where(users.c.role == "telecaller", users.c.active)
    return {
        "leads": connection.execute(select(func.count()).select_from(leads)).scalar_one(),
        "branches": connection.execute(
            select(func.count()).select_from(branches).where(branches.c.active)
        ).scalar_one(),
        "telecallers": connection.execute(telecallers).scalar_one(),
    }
