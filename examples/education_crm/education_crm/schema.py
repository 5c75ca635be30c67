"""The tables of the CRM; the jobs' own tables live beside them in the same database.

Ids are UUIDs written as text, so that any id a job carries can be looked up as it is: one that is
malformed is simply not found. Instants are UTC.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    true,
)

metadata: Final = MetaData()


def new_id() -> str:
    """An id nobody has."""
    return str(uuid4())


class Instant(TypeDecorator[datetime]):
    """A moment in UTC; SQLite, which drops time zones, gets them put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC, refuse a moment without a time zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError("an instant needs a time zone")

        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give UTC."""
        if value is None:
            return None

        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


branches: Final = Table(
    "branches",
    metadata,
    Column("id", String(36), primary_key=True, default=new_id),
    Column("name", String(255), nullable=False, unique=True),
    Column("location", String(255), nullable=False),
    Column("active", Boolean, nullable=False, server_default=true()),
)

users: Final = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True, default=new_id),
    Column("username", String(100), nullable=False, unique=True),
    Column("full_name", String(255), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("role", String(20), nullable=False),
    Column("branch_id", ForeignKey("branches.id"), index=True),
    Column("active", Boolean, nullable=False, server_default=true()),
    CheckConstraint("length(username) >= 3", name="username_long_enough"),
    CheckConstraint("role in ('admin', 'telecaller')", name="role_known"),
    CheckConstraint("role = 'admin' or branch_id is not null", name="telecaller_has_a_branch"),
)

import_logs: Final = Table(
    "import_logs",
    metadata,
    Column("id", String(36), primary_key=True, default=new_id),
    Column("job_id", BigInteger, unique=True, comment="one log per job: a job that runs again finds it"),
    Column("branch_id", ForeignKey("branches.id"), comment="null when the job named no known branch"),
    Column("admin_id", ForeignKey("users.id"), comment="null when the job named no known user"),
    Column("filename", String(255), nullable=False),
    Column("status", String(20), nullable=False),
    Column("error_code", String(50)),
    Column("error_message", Text),
    Column("total_rows", Integer, nullable=False),
    Column("successful_rows", Integer, nullable=False),
    Column("failed_rows", Integer, nullable=False),
    Column(
        "error_details", JSON(none_as_null=True), comment='{"errors": [{"row", "codes", "name", "phone"}]}'
    ),
    Column("distribution", JSON, nullable=False, comment='[{"telecaller_id", "leads"}] in the order chosen'),
    Column("inserted_at", Instant, nullable=False),
    CheckConstraint("status in ('completed', 'cancelled', 'failed')", name="status_known"),
    CheckConstraint("total_rows = successful_rows + failed_rows", name="every_row_counted"),
    CheckConstraint("successful_rows >= 0 and failed_rows >= 0", name="counts_not_negative"),
    CheckConstraint("(status = 'completed') = (error_code is null)", name="failure_says_why"),
    Index("import_logs_of_branch", "branch_id", "inserted_at"),
)

leads: Final = Table(
    "leads",
    metadata,
    Column("id", String(36), primary_key=True, default=new_id),
    Column("branch_id", ForeignKey("branches.id"), nullable=False),
    Column("telecaller_id", ForeignKey("users.id")),
    Column("student_name", String(255), nullable=False),
    Column("phone_number", String(20), nullable=False, comment="as it was written"),
    Column("phone_e164", String(16), nullable=False, comment="as it is compared and called"),
    Column("status", String(20), nullable=False, server_default="new"),
    Column("assigned_at", Instant),
    Column("last_contacted_at", Instant),
    Column("call_count", Integer, nullable=False, server_default="0"),
    Column("import_log_id", ForeignKey("import_logs.id"), comment="the import it came with"),
    Column("import_row", Integer, comment="the row of the file it came from"),
    Column("inserted_at", Instant, nullable=False),
    UniqueConstraint("branch_id", "phone_e164", name="one_lead_per_phone_and_branch"),
    CheckConstraint(
        "status in ('new', 'contacted', 'interested', 'not_interested', 'enrolled', 'lost')",
        name="lead_status_known",
    ),
    CheckConstraint("call_count >= 0", name="call_count_not_negative"),
    Index("leads_of_telecaller", "telecaller_id", "status"),
    Index("leads_of_import", "import_log_id", "import_row"),
)

call_logs: Final = Table(
    "call_logs",
    metadata,
    Column("id", String(36), primary_key=True, default=new_id),
    Column("lead_id", ForeignKey("leads.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("telecaller_id", ForeignKey("users.id"), nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("duration_seconds", Integer, nullable=False),
    Column("recording_path", String(500), comment="the file's name below the recordings folder"),
    Column("inserted_at", Instant, nullable=False),
    CheckConstraint("outcome in ('connected', 'no_answer', 'busy', 'invalid_number')", name="outcome_known"),
    CheckConstraint("duration_seconds >= 0", name="duration_not_negative"),
)

upload_sessions: Final = Table(
    "upload_sessions",
    metadata,
    Column("id", String(22), primary_key=True),
    Column(
        "call_log_id",
        String(36),
        nullable=False,
        comment="no foreign key: its job says when the call log is gone",
    ),
    Column("filename", String(255), nullable=False),
    Column("status", String(20), nullable=False, server_default="open"),
    Column("job_id", BigInteger, unique=True),
    Column("inserted_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    CheckConstraint("status in ('open', 'finalizing', 'done', 'cancelled')", name="session_status_known"),
)

upload_chunks: Final = Table(
    "upload_chunks",
    metadata,
    Column("session_id", ForeignKey("upload_sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("chunk_index", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    CheckConstraint("chunk_index >= 0", name="chunk_index_not_negative"),
    CheckConstraint("size >= 0", name="chunk_size_not_negative"),
)
