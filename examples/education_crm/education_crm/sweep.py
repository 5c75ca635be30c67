"""What nobody came back for: uploads left open, temporary files and recordings that nothing names."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, select
from staffa import Cron, Job, Staffa, State, job

from education_crm import crm as process
from education_crm.clock import utc_now
from education_crm.crm import Crm
from education_crm.files import remove_file, remove_folder
from education_crm.queues import look_at_queues
from education_crm.schema import call_logs, upload_sessions
from education_crm.uploads import close_session, folder_of
from education_crm.workers import CsvImportWorker, RecordingProcessorWorker

LIVE: Final = (State.AVAILABLE, State.SCHEDULED, State.EXECUTING, State.RETRYABLE)
WORKERS: Final = [CsvImportWorker.options.name, RecordingProcessorWorker.options.name]
PAGE: Final = 500


@dataclass(frozen=True)
class Swept:
    """How much a sweep took away."""

    sessions: int
    temporary_files: int
    recordings: int


@job(name="education_crm.nightly_sweep", cron=Cron("30 3 * * *", name="nightly_sweep"), max_attempts=3)
def nightly_sweep() -> None:
    """Sweep the CRM of this process."""
    crm = process.current()

    with closing(look_at_queues(crm.settings.database_url)) as staffa:
        sweep(crm, staffa, utc_now())


def sweep(crm: Crm, staffa: Staffa, now: datetime) -> Swept:
    """Take away what is older than an upload may live and what no live job will ask for."""
    args = [job.args for job in _live_jobs(staffa)]
    return Swept(
        sessions=_cancel_sessions(crm, {one["upload_id"] for one in args if "upload_id" in one}, now),
        temporary_files=_remove_temporary(crm, {_path(one) for one in args}, now),
        recordings=_remove_unattached(crm, now),
    )


def _live_jobs(staffa: Staffa) -> Iterator[Job]:
    before = None

    while jobs := staffa.jobs(workers=WORKERS, states=LIVE, before=before, limit=PAGE):
        yield from jobs
        before = jobs[-1].id


def _path(args: dict[str, Any]) -> str:
    return str(args.get("file_path") or args.get("temp_file_path"))


def _cancel_sessions(crm: Crm, asked_for: set[str], now: datetime) -> int:
    cancelled = 0

    with crm.database.read() as connection:
        expired = connection.execute(select(upload_sessions.c.id).where(_expired(now))).scalars().all()

    for upload_id in expired:
        if upload_id not in asked_for and _cancel_session(crm, upload_id, now):
            cancelled += 1

    for folder in _older(crm.settings.chunked_uploads.glob("*"), crm, now):
        if not _has_session(crm, folder.name):
            remove_folder(folder, below=crm.settings.chunked_uploads)

    return cancelled


def _expired(now: datetime) -> ColumnElement[bool]:
    return upload_sessions.c.status.in_(["open", "finalizing"]) & (upload_sessions.c.expires_at <= now)


def _cancel_session(crm: Crm, upload_id: str, now: datetime) -> bool:
    query = (
        select(upload_sessions.c.id).where(upload_sessions.c.id == upload_id, _expired(now)).with_for_update()
    )

    with crm.database.write() as connection:
        if connection.execute(query).one_or_none() is None:
            return False

        close_session(connection, upload_id, "cancelled")

    remove_folder(folder_of(crm.settings, upload_id), below=crm.settings.chunked_uploads)
    return True


def _has_session(crm: Crm, upload_id: str) -> bool:
    query = select(upload_sessions.c.id).where(
        upload_sessions.c.id == upload_id, upload_sessions.c.status.in_(["open", "finalizing"])
    )

    with crm.database.read() as connection:
        return connection.execute(query).one_or_none() is not None


def _remove_temporary(crm: Crm, asked_for: set[str], now: datetime) -> int:
    settings = crm.settings
    waiting = (*_files(settings.imports), *_files(settings.simple_uploads))
    old = [file for file in _older(waiting, crm, now) if str(file) not in asked_for]
    return sum(remove_file(file, below=settings.workspace) for file in old)


def _remove_unattached(crm: Crm, now: datetime) -> int:
    root = crm.settings.recordings_root
    old = list(_older(_files(root), crm, now))

    with crm.database.read() as connection:
        attached = set(connection.execute(select(call_logs.c.recording_path)).scalars())

    return sum(remove_file(file, below=root) for file in old if file.name not in attached)


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.glob("*") if file.is_file())


def _older(files: Iterable[Path], crm: Crm, now: datetime) -> Iterator[Path]:
    last = (now - crm.settings.upload_lifetime).timestamp()
    return (file for file in files if file.stat().st_mtime <= last)
