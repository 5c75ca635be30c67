"""Recordings at their call logs: finished files in one folder, their names in the call log's row."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select, update

from education_crm.schema import call_logs, leads


class CallLogGone(Exception):
    """The call log that a recording belongs to does not exist."""


def find_call_log(connection: Connection, call_log_id: str, *, lock: bool = False) -> Row[Any] | None:
    """The call log, with the telecaller to whom its lead belongs now; with `lock`, only we may change it."""
    query = (
        select(call_logs, leads.c.telecaller_id.label("lead_telecaller_id"))
        .join(leads, leads.c.id == call_logs.c.lead_id)
        .where(call_logs.c.id == call_log_id)
    )
    return connection.execute(query.with_for_update(of=call_logs) if lock else query).one_or_none()


def attach(connection: Connection, call_log_id: str, name: str) -> str | None:
    """Make a stored file the recording of a call log; return the name of the one it replaces, if another.

    Raises CallLogGone when there is nothing to attach it to.
    """
    call_log = find_call_log(connection, call_log_id, lock=True)

    if call_log is None:
        raise CallLogGone(call_log_id)

    connection.execute(update(call_logs).where(call_logs.c.id == call_log_id).values(recording_path=name))
    replaced: str | None = call_log.recording_path
    return replaced if replaced != name else None


def remove_recording(root: Path, name: str) -> None:
    """Remove a stored recording; absence is fine."""
    (root / Path(name).name).unlink(missing_ok=True)
