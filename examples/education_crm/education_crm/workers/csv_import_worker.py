"""The job that turns a CSV file into leads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from staffa import Cancel, Job, Worker

from education_crm import crm, imports
from education_crm.clock import utc_now
from education_crm.crm import Crm
from education_crm.csv_leads import MAX_BYTES, CsvRefused, ParsedFile, parse
from education_crm.failures import in_one_line, last_error
from education_crm.files import is_below, remove_file
from education_crm.imports import ImportRefused, ImportRequest
from education_crm.workers.arguments import absolute_path, identifier, text


class CsvImportWorker(Worker, queue="csv_import", max_attempts=3):
    """Import leads from a CSV file: all of them with their log in one transaction, or nothing.

    The file is read and judged, and progress told, before the transaction opens. A job that runs again
    after its transaction was committed finds its log and inserts nothing. What no retry can mend cancels
    the job. The temporary file goes when the job ends, not before a retry.
    """

    @classmethod
    def enqueue(
        cls,
        *,
        file_path: str | Path,
        telecaller_ids: Sequence[str | UUID],
        branch_id: str | UUID,
        admin_id: str | UUID,
        filename: str,
    ) -> Job:
        """Store an import to be done; raises TypeError or ValueError for what cannot be one."""
        return cls.using().enqueue(**cls.checked(file_path, telecaller_ids, branch_id, admin_id, filename))

    @classmethod
    async def aenqueue(
        cls,
        *,
        file_path: str | Path,
        telecaller_ids: Sequence[str | UUID],
        branch_id: str | UUID,
        admin_id: str | UUID,
        filename: str,
    ) -> Job:
        """As `enqueue`, where an event loop runs."""
        return await cls.using().aenqueue(
            **cls.checked(file_path, telecaller_ids, branch_id, admin_id, filename)
        )

    @staticmethod
    def checked(
        file_path: object, telecaller_ids: object, branch_id: object, admin_id: object, filename: object
    ) -> dict[str, Any]:
        """The job's arguments; raises TypeError or ValueError naming the one that is wrong."""
        if not isinstance(telecaller_ids, list | tuple):
            raise TypeError(f"telecaller_ids must be a list of ids, not {type(telecaller_ids).__name__}")

        if not telecaller_ids:
            raise ValueError("telecaller_ids must name at least one telecaller")

        return {
            "file_path": absolute_path("file_path", file_path),
            "telecaller_ids": [identifier("telecaller_ids", one) for one in telecaller_ids],
            "branch_id": identifier("branch_id", branch_id),
            "admin_id": identifier("admin_id", admin_id),
            "filename": text("filename", filename),
        }

    def perform(self, job: Job) -> Cancel | None:
        """Import the file; says how far it is on the way."""
        here = crm.current()

        try:
            request = ImportRequest.from_args(job.args)

            if not _is_done(here, job):
                parsed = _parse_file(here, request, job)
                job.progress(parsed.total, parsed.total, "saving")
                _save(here, request, parsed, job)
        except (ImportRefused, CsvRefused) as refused:
            return Cancel(f"{refused.code}: {refused}")

        remove_file(Path(request.file_path), below=here.settings.temp_root)
        return None

    def on_cancelled(self, job: Job) -> None:
        """Tell the admins why, and let the temporary file go."""
        code, _, message = last_error(job).partition(": ")

        if code.isidentifier():
            _give_up(job, "cancelled", code, message)
        else:
            _give_up(job, "cancelled", "stopped", last_error(job))

    def on_discarded(self, job: Job) -> None:
        """Tell the admins of the last error, and let the temporary file go."""
        _give_up(job, "failed", "attempts_used_up", in_one_line(last_error(job)))


def _is_done(here: Crm, job: Job) -> bool:
    with here.database.read() as connection:
        log = imports.find_log(connection, job.id)

    return log is not None and log.status == "completed"


def _parse_file(here: Crm, request: ImportRequest, job: Job) -> ParsedFile:
    with here.database.read() as connection:
        imports.check_people(connection, request)

    content = _read(Path(request.file_path), below=here.settings.temp_root)
    return parse(
        content,
        fallback_encoding=here.settings.fallback_encoding,
        report=lambda current, total: job.progress(current, total, "reading"),
    )


def _read(path: Path, *, below: Path) -> bytes:
    if not is_below(path, below):
        raise ImportRefused("outside_temp_root", "the file is not where uploads are kept")

    if not path.exists():
        raise ImportRefused("file_not_found", "the uploaded file is gone")

    if not path.is_file():
        raise ImportRefused("not_a_file", "the path names no regular file")

    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _save(here: Crm, request: ImportRequest, parsed: ParsedFile, job: Job) -> None:
    with here.database.write() as connection:
        imports.save(connection, request, parsed, job_id=job.id, now=utc_now())


def _give_up(job: Job, status: str, code: str, message: str) -> None:
    here = crm.current()

    with here.database.write() as connection:
        imports.log_failure(
            connection, job.args, job_id=job.id, status=status, code=code, message=message, now=utc_now()
        )

    path = job.args.get("file_path")

    if isinstance(path, str):
        remove_file(Path(path), below=here.settings.temp_root)
