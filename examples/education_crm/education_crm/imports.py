"""Leads from a parsed file into the database, together with the log that tells of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, Row, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from education_crm.csv_leads import FailedRow, LeadRow, ParsedFile
from education_crm.distribution import deal, shares
from education_crm.schema import branches, import_logs, leads, new_id, users

BATCH: Final = 1_000
MAX_FILENAME: Final = 255
KEYS: Final = ("file_path", "telecaller_ids", "branch_id", "admin_id", "filename")

Item = TypeVar("Item")


class ImportRefused(Exception):
    """An import that no retry can mend; `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ImportRequest:
    """What an import was asked to do. Telecallers keep their order, each named once."""

    file_path: str
    telecaller_ids: tuple[str, ...]
    branch_id: str
    admin_id: str
    filename: str

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """Read a job's arguments, or raise ImportRefused."""
        missing = [key for key in KEYS if key not in args]

        if missing:
            raise ImportRefused("bad_args", f"missing: {', '.join(missing)}")

        telecaller_ids = args["telecaller_ids"]
        texts = [key for key in KEYS if key != "telecaller_ids" and not _is_text(args[key])]

        if texts or not isinstance(telecaller_ids, list) or not all(map(_is_text, telecaller_ids)):
            raise ImportRefused("bad_args", f"not as expected: {', '.join(texts or ['telecaller_ids'])}")

        if not telecaller_ids:
            raise ImportRefused("no_telecallers", "no telecaller was chosen")

        return cls(
            file_path=args["file_path"],
            telecaller_ids=tuple(dict.fromkeys(telecaller_ids)),
            branch_id=args["branch_id"],
            admin_id=args["admin_id"],
            filename=args["filename"],
        )


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    successful: int
    failed: int


def check_people(connection: Connection, request: ImportRequest) -> None:
    """Raise ImportRefused unless branch, admin and every telecaller exist, are active and belong together."""
    branch = connection.execute(select(branches.c.active).where(branches.c.id == request.branch_id)).scalar()

    if not branch:
        raise ImportRefused("branch_not_available", f"branch {request.branch_id} is missing or closed")

    people = select(users.c.id, users.c.role, users.c.branch_id).where(
        users.c.active, users.c.id.in_([request.admin_id, *request.telecaller_ids])
    )
    known = {row.id: row for row in connection.execute(people)}
    admin = known.get(request.admin_id)

    if admin is None or admin.role != "admin":
        raise ImportRefused("admin_not_available", f"user {request.admin_id} is no active admin")

    for telecaller_id in request.telecaller_ids:
        person = known.get(telecaller_id)

        if person is None or person.role != "telecaller" or person.branch_id != request.branch_id:
            raise ImportRefused(
                "telecaller_not_available", f"user {telecaller_id} is no active telecaller of this branch"
            )


def find_log(connection: Connection, job_id: int | None) -> Row[Any] | None:
    """The log that a job has written, if it has."""
    if job_id is None:
        return None

    return connection.execute(select(import_logs).where(import_logs.c.job_id == job_id)).one_or_none()


def save(
    connection: Connection, request: ImportRequest, parsed: ParsedFile, *, job_id: int | None, now: datetime
) -> Imported:
    """Insert the leads of a file, dealt out in turn, and their log; in the caller's one transaction.

    A job whose log says completed has done all this before: nothing is inserted again. A log of failure,
    left when the job was given up and then retried by hand, gives way. Rows whose number the
    branch has already become failed rows, so every row is counted once. Imports into the same branch
    wait for each other here.
    """
    _lock_branch(connection, request.branch_id)
    check_people(connection, request)
    log = find_log(connection, job_id)

    if log is not None and log.status == "completed":
        return Imported(log.successful_rows, log.failed_rows)

    if log is not None:
        connection.execute(delete(import_logs).where(import_logs.c.id == log.id))

    known = _known_phones(connection, request.branch_id, parsed.good)
    fresh = [row for row in parsed.good if row.phone_e164 not in known]
    known_rows = [_lead_exists(row) for row in parsed.good if row.phone_e164 in known]
    failed = sorted([*parsed.failed, *known_rows], key=lambda row: row.row)
    log_id = _insert_log(connection, request, fresh, failed, job_id=job_id, now=now)
    _insert_leads(connection, request, fresh, log_id=log_id, now=now)
    return Imported(len(fresh), len(failed))


def log_failure(
    connection: Connection,
    args: Mapping[str, Any],
    *,
    job_id: int | None,
    status: str,
    code: str,
    message: str,
    now: datetime,
) -> None:
    """Tell the admins of an import that came to nothing; a job that has its log keeps it.

    The arguments may be anything here: what names no known branch or user is left out.
    """
    row: dict[str, Any] = {
        "id": new_id(),
        "job_id": job_id,
        "branch_id": select(branches.c.id)
        .where(branches.c.id == str(args.get("branch_id")))
        .scalar_subquery(),
        "admin_id": select(users.c.id).where(users.c.id == str(args.get("admin_id"))).scalar_subquery(),
        "filename": str(args.get("filename", ""))[:MAX_FILENAME],
        "status": status,
        "error_code": code[:50],
        "error_message": message,
        "total_rows": 0,
        "successful_rows": 0,
        "failed_rows": 0,
        "distribution": [],
        "inserted_at": now,
    }
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(import_logs).values(row).on_conflict_do_nothing(index_elements=["job_id"])
    )


def _lock_branch(connection: Connection, branch_id: str) -> None:
    # On SQLite the transaction holds the write lock already, and this is a plain read.
    connection.execute(
        select(branches.c.id).where(branches.c.id == branch_id).with_for_update(key_share=True)
    )


def _known_phones(connection: Connection, branch_id: str, rows: Sequence[LeadRow]) -> set[str]:
    known: set[str] = set()

    for batch in _batches(rows):
        query = select(leads.c.phone_e164).where(
            leads.c.branch_id == branch_id, leads.c.phone_e164.in_([row.phone_e164 for row in batch])
        )
        known.update(connection.execute(query).scalars())

    return known


def _lead_exists(row: LeadRow) -> FailedRow:
    return FailedRow(row.row, ("lead_exists",), row.name, row.phone)


def _insert_log(
    connection: Connection,
    request: ImportRequest,
    fresh: Sequence[LeadRow],
    failed: Sequence[FailedRow],
    *,
    job_id: int | None,
    now: datetime,
) -> str:
    log_id = new_id()
    row = {
        "id": log_id,
        "job_id": job_id,
        "branch_id": request.branch_id,
        "admin_id": request.admin_id,
        "filename": request.filename[:MAX_FILENAME],
        "status": "completed",
        "total_rows": len(fresh) + len(failed),
        "successful_rows": len(fresh),
        "failed_rows": len(failed),
        "error_details": {"errors": [_plain(one) for one in failed]} if failed else None,
        "distribution": [
            {"telecaller_id": telecaller_id, "leads": share}
            for telecaller_id, share in shares(len(fresh), request.telecaller_ids)
        ],
        "inserted_at": now,
    }
    connection.execute(insert(import_logs).values(row))
    return log_id


def _insert_leads(
    connection: Connection, request: ImportRequest, fresh: Sequence[LeadRow], *, log_id: str, now: datetime
) -> None:
    common = {
        "branch_id": request.branch_id,
        "status": "new",
        "call_count": 0,
        "assigned_at": now,
        "import_log_id": log_id,
        "inserted_at": now,
    }
    telecallers = deal(len(fresh), request.telecaller_ids)
    rows = (
        {
            **common,
            "id": new_id(),
            "telecaller_id": telecaller_id,
            "student_name": row.name,
            "phone_number": row.phone,
            "phone_e164": row.phone_e164,
            "import_row": row.row,
        }
        for row, telecaller_id in zip(fresh, telecallers, strict=True)
    )

    for batch in _batches(rows):
        connection.execute(insert(leads), batch)


def _plain(failed: FailedRow) -> dict[str, Any]:
    return {key: value for key, value in asdict(failed).items() if value is not None}


def _batches(items: Sequence[Item] | Iterator[Item]) -> Iterator[list[Item]]:
    rest = iter(items)

    while batch := list(islice(rest, BATCH)):
        yield batch


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""
