"""Jobs as they travel to statements and back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime
from struct import Struct
from typing import Any

import msgspec
from typing_extensions import Buffer

from staffa._clock import instant
from staffa._filter import JobFilter
from staffa._job import AnyJob, Job, State, replace, share_options
from staffa.engine import Ack
from staffa.engines._sql.statements import Filtered
from staffa.notifier import Payload

Row = tuple[Any, ...]

TAKE_BITS = 20
ID = Struct("!q")  # as PostgreSQL sends one
UPDATED = (
    "state",
    "queue",
    "worker",
    "args",
    "meta",
    "tags",
    "priority",
    "max_attempts",
    "scheduled_at",
)
EARLIEST = datetime.min.replace(tzinfo=UTC)


# To statements


encode = msgspec.json.Encoder().encode


def written(value: object) -> str:
    return encode(value).decode()


def fence(job: AnyJob) -> int:
    """Tell one taking of a job from every other, by one number."""
    assert job.id is not None  # noqa: S101 - a job that was taken is stored
    return fenced(job.id, job.take)


def fenced(job_id: int, take: int) -> int:
    """Put an id and a take into one number, as the statements do."""
    return (job_id << TAKE_BITS) + take


def new_row(job: AnyJob) -> dict[str, Any]:
    """Write a job that is stored alone."""
    return {
        **_options(job),
        "args": written(job.args),
        "meta": written(job.meta),
        "unique_key": job.unique_key,
    }


def new_rows(jobs: Sequence[AnyJob]) -> tuple[dict[str, str], list[int]]:
    """Write jobs with what many have in common apart: of each alone its arguments, its kind and its unique key.

    Gives what the statement takes, and the number of each job's kind.
    """
    kinds: dict[Hashable, int] = {}
    firsts: list[int] = []
    numbers: list[int] = []
    members: list[bytes] = []
    model, number, name = None, 0, b""
    for position, job in enumerate(jobs):
        own = job.meta or job.tags
        if own or model is None or not share_options(job, model):
            number = kinds.setdefault(_kind(job), len(kinds))
            model, name = None if own else job, encode(str(number))
            if number == len(firsts):
                firsts.append(position)
        numbers.append(number)
        members.append(
            b"%b:%b" % (encode(f"{number}:{job.unique_key}") if job.unique_key else name, encode(job.args))
        )
    last = len(jobs) - 1
    rows = [_kind_row(number, jobs[first], last - first) for number, first in enumerate(firsts)]
    return {"jobs": (b"{%b}" % b",".join(members)).decode(), "kinds": written(rows)}, numbers


def _kind(job: AnyJob) -> Hashable:
    return (
        job.state,
        job.queue,
        job.worker,
        encode(job.meta) if job.meta else None,
        tuple(job.tags),
        job.priority,
        job.max_attempts,
        job.scheduled_at,
        job.schedule_in,
    )


def _kind_row(number: int, job: AnyJob, before_last: int) -> dict[str, Any]:
    return {"number": number, "before_last": before_last, "meta": job.meta, **_options(job)}


def _options(job: AnyJob) -> dict[str, Any]:
    return {
        "state": job.state.value,
        "queue": job.queue,
        "worker": job.worker,
        "tags": job.tags,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "scheduled_at": _instant(job.scheduled_at),
        "seconds": job.schedule_in.total_seconds() if job.schedule_in is not None else None,
    }


def filtered(name: str, wanted: JobFilter) -> Filtered:
    """Find the statement that asks for what is wanted, and for nothing else."""
    asked = wanted.given()
    fields = tuple(field for field in asked if field != "limit")
    return Filtered(name, fields, tuple(map(str, asked.get("states", ()))))


def conditions(wanted: JobFilter) -> dict[str, Any]:
    """Write what is wanted as the statements' parameters."""
    asked = {name: each for name, each in wanted.given().items() if name not in ("states", "limit")}
    return {name: _parameter(each) for name, each in asked.items()}


def _parameter(value: Any) -> Any:
    match value:
        case tuple():
            return list(value)
        case dict():
            return written(value)
        case _:
            return value


def updated_row(job: AnyJob, changed: AnyJob) -> dict[str, Any]:
    """Write what changed; the rest of the row stays as it is."""
    row = {
        name: value for name in UPDATED if (value := getattr(changed, name)) is not getattr(job, name)
    }  # equal values may still differ in JSON, as 1 and true do
    if isinstance(row.get("scheduled_at"), datetime):
        row["scheduled_at"] = instant(row["scheduled_at"])
    return {"id": job.id, **row}


def notification(schema: str, channel: str, payloads: Sequence[Payload]) -> dict[str, str]:
    """Write payloads as plain JSON, which every Oban reads, on the channel that Oban would use."""
    return {"channel": f"{schema}.oban_{channel}", "payloads": written(list(map(written, payloads)))}


def settled_row(ack: Ack) -> dict[str, Any]:
    held, after = ack
    meta = {key: value for key, value in after.meta.items() if held.meta.get(key) != value}
    return {
        "id": held.id,
        "take": held.take,
        "was": held.state,
        "producer": held.attempted_by[1] if len(held.attempted_by) > 1 else None,
        "state": after.state,
        "attempt": after.attempt,
        "max_attempts": None if after.max_attempts == held.max_attempts else after.max_attempts,
        "errors": None if after.errors is held.errors else [_clean_error(entry) for entry in after.errors],
        "meta": meta,
        "replaced": dict.fromkeys(meta),
        "scheduled_at": None if after.scheduled_at == held.scheduled_at else _instant(after.scheduled_at),
        "completed_at": _instant(after.completed_at),
        "discarded_at": _instant(after.discarded_at),
        "cancelled_at": _instant(after.cancelled_at),
    }


def _clean_error(entry: Any) -> Any:
    """Make an error storable; entries that somebody else wrote stay as they are."""
    if isinstance(entry, dict) and isinstance(text := entry.get("error"), str):
        return {**entry, "error": clean_text(text)}
    return entry


def clean_text(text: str) -> str:
    """Show NUL characters and lone surrogates, which no database takes, instead of keeping them."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else instant(moment)


# And back


def read_job(row: Row, *, json: Callable[[Any], Any], moment: Callable[[Any], datetime | None]) -> AnyJob:
    """Read a job from the columns that every statement lists in the same order, as a driver gave them."""
    return Job(
        id=row[0],
        state=State(row[1]),
        queue=row[2],
        worker=row[3],
        args=json(row[4]),
        meta=objects(json(row[5])),
        tags=lists(json(row[6])),
        errors=lists(json(row[7])),
        attempt=row[8],
        max_attempts=row[9],
        priority=row[10],
        inserted_at=moment(row[11]),
        scheduled_at=moment(row[12]),
        attempted_at=moment(row[13]),
        completed_at=moment(row[14]),
        discarded_at=moment(row[15]),
        cancelled_at=moment(row[16]),
        attempted_by=lists(json(row[17])),
        take=row[18],
        unique_key=row[19],
    )


def stored_job(job: AnyJob, row: Row) -> AnyJob:
    """Read what became of a job on its way in."""
    return replace(job, id=row[0], **_decided(row))


def stored_jobs(jobs: Sequence[AnyJob], numbers: Sequence[int], rows: Sequence[Row]) -> list[AnyJob]:
    """Read what became of jobs on their way in, and of their kinds; ids rise in the order in which jobs were given."""
    kinds = [_decided(row) for row in rows]
    ids = _ids(rows[0][0], len(jobs))
    return [
        replace(job, id=job_id, **kinds[number])
        for job, number, job_id in zip(jobs, numbers, ids, strict=True)
    ]


def _decided(row: Row) -> dict[str, Any]:
    return {
        "state": State(row[1]),
        "inserted_at": read_moment(row[2]),
        "scheduled_at": read_moment(row[3]),
        "schedule_in": None,
        "unique": None,
        "replace": None,
    }


def _ids(given: int | Buffer, count: int) -> Sequence[int]:
    """Read ids in their order: from the first one where they follow each other, else from eight bytes for each."""
    if isinstance(given, int):
        return range(given, given + count)
    return sorted(each for (each,) in ID.iter_unpack(given))


def read_moment(value: str | datetime | None) -> datetime | None:
    """Read an instant as the database gave it: text, or a datetime whose zone is UTC if it has none."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def moment_of(value: str | datetime) -> datetime:
    """Read an instant that cannot be missing."""
    moment = read_moment(value)
    assert moment is not None  # noqa: S101 - the column is not null
    return moment


def objects(value: Any) -> dict[str, Any]:
    """Read a column that holds an object, or something odd that somebody else wrote."""
    return value if isinstance(value, dict) else {}


def lists(value: Any) -> list[Any]:
    """Read a column that holds a list, or something odd that somebody else wrote."""
    return value if isinstance(value, list) else []
