"""The admins' pages: hand in a CSV file, watch its import, read what came of it."""

import secrets
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Row
from staffa import Job, State
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from education_crm import import_overview
from education_crm.csv_leads import MAX_BYTES
from education_crm.failures import in_one_line, last_error
from education_crm.files import remove_file, whole_file
from education_crm.import_report import report_lines
from education_crm.people import User, active_branches, active_telecallers, names
from education_crm.recording_names import clean_filename
from education_crm.web.desk import admin, crm_of, number_in_path, own_form, staffa_of, too_large
from education_crm.web.problems import Problem, wants_json
from education_crm.web.rendering import render
from education_crm.workers import CsvImportWorker

ROWS_SHOWN: Final = 200
UNFINISHED: Final = (State.EXECUTING, State.AVAILABLE, State.RETRYABLE, State.SCHEDULED)
BLOCK: Final = 256 * 1024


async def list_imports(request: Request) -> Response:
    """Imports under way and imports done."""
    await admin(request)
    under_way = await staffa_of(request).ajobs(workers=[CsvImportWorker.options.name], states=UNFINISHED)

    def look() -> dict[str, Any]:
        with crm_of(request).database.read() as connection:
            return {
                "logs": import_overview.recent_logs(connection),
                "totals": import_overview.totals(connection),
            }

    return render(request, "imports.html", {**await run_in_threadpool(look), "under_way": under_way})


async def new_import(request: Request) -> Response:
    """Choose a branch, its telecallers and a file."""
    await admin(request)
    return await _form(request, printable(request.query_params.get("branch_id")))


async def start_import(request: Request) -> Response:
    """Keep the file, store the job and answer at once; nothing is imported during the request."""
    user = await admin(request)
    form = await own_form(request, largest=MAX_BYTES)

    try:
        return await _start(request, user, form)
    finally:
        await form.close()


async def show_import(request: Request) -> Response:
    """How far an import is, or what came of it."""
    await admin(request)
    job_id = number_in_path(request, "job_id")
    job, log, people = await _import(request, job_id)

    if log is not None:
        return render(request, "import_result.html", {"log": log, "people": people, "rows_shown": ROWS_SHOWN})

    return render(request, "import_progress.html", {"job": job, "status": _status(job)})


async def import_status(request: Request) -> Response:
    """How far an import is, for the page that shows it."""
    await admin(request)
    job_id = number_in_path(request, "job_id")
    job, log, _ = await _import(request, job_id)

    if log is None:
        return JSONResponse(_status(job))

    counts = {"total": log.total_rows, "successful": log.successful_rows, "failed": log.failed_rows}
    return JSONResponse({"job_id": job_id, "state": log.status, "finished": True, **counts})


async def import_report(request: Request) -> Response:
    """The rows that failed, as a CSV file."""
    await admin(request)
    log, _ = await run_in_threadpool(_log_with_names, request, number_in_path(request, "job_id"))

    if log is None:
        raise _not_found()

    lines = report_lines((log.error_details or {"errors": []})["errors"])
    headers = {"content-disposition": f'attachment; filename="import-{log.job_id}-failed-rows.csv"'}
    return StreamingResponse(
        (line.encode() for line in ("\ufeff", *lines)), media_type="text/csv; charset=utf-8", headers=headers
    )


async def _start(request: Request, user: User, form: FormData) -> Response:
    branch_id, file = printable(form.get("branch_id")), form.get("file")
    telecaller_ids = chosen_in_order(form.getlist("telecaller_ids"), str(form.get("order", "")))
    complaint = _complaint(file, telecaller_ids)

    if complaint or not isinstance(file, UploadFile):
        return await _form(request, branch_id, complaint=complaint, chosen=telecaller_ids)

    path = crm_of(request).settings.imports / f"{secrets.token_hex(16)}.csv"
    await run_in_threadpool(_keep, file, path)

    try:
        job = await CsvImportWorker.aenqueue(
            file_path=path,
            telecaller_ids=telecaller_ids,
            branch_id=branch_id,
            admin_id=user.id,
            filename=clean_filename(file.filename or "") or "leads.csv",
        )
    except Exception:
        remove_file(path, below=crm_of(request).settings.workspace)
        raise

    address = f"/imports/{job.id}"

    if wants_json(request):
        accepted = {"job_id": job.id, "state": job.state, "url": address}
        return JSONResponse(accepted, status_code=HTTPStatus.ACCEPTED)

    return RedirectResponse(address, status_code=HTTPStatus.SEE_OTHER)


def chosen_in_order(chosen: Sequence[object], order: str) -> list[str]:
    """The chosen ids in the order in which they were clicked; those whose click is not known come last."""
    ids = [one for one in chosen if isinstance(one, str)]
    clicked = {one: place for place, one in enumerate(order.split(","))}
    return sorted(ids, key=lambda one: clicked.get(one, len(clicked)))


def printable(value: object) -> str:
    """Text as it is when a database can hold it, else nothing."""
    return value if isinstance(value, str) and value.isprintable() else ""


def _complaint(file: object, telecaller_ids: Sequence[str]) -> str:
    if not isinstance(file, UploadFile) or not file.filename:
        return "Choose a CSV file."

    if not file.filename.lower().endswith(".csv"):
        return "The file must be a CSV file; its name ends in .csv."

    if not telecaller_ids or not "".join(telecaller_ids).isprintable():
        return "Choose at least one telecaller."

    if file.size is not None and file.size > MAX_BYTES:
        raise too_large(MAX_BYTES)

    return ""


def _keep(file: UploadFile, path: Path) -> None:
    with whole_file(path) as kept:
        while block := file.file.read(BLOCK):
            kept.write(block)


async def _form(
    request: Request, branch_id: str, *, complaint: str = "", chosen: Sequence[str] = ()
) -> Response:
    def look() -> dict[str, Any]:
        with crm_of(request).database.read() as connection:
            return {
                "branches": active_branches(connection),
                "telecallers": active_telecallers(connection, branch_id),
            }

    values = {"branch_id": branch_id, "complaint": complaint, "chosen": list(chosen), "largest": MAX_BYTES}
    status = HTTPStatus.UNPROCESSABLE_ENTITY if complaint else HTTPStatus.OK
    return render(request, "import_new.html", {**await run_in_threadpool(look), **values}, status_code=status)


def _log_with_names(request: Request, job_id: int) -> tuple[Row[Any] | None, dict[str, str]]:
    with crm_of(request).database.read() as connection:
        log = import_overview.log_of(connection, job_id)
        ids = [share["telecaller_id"] for share in log.distribution] if log else []
        return log, names(connection, ids)


async def _import(request: Request, job_id: int) -> tuple[Job, Row[Any] | None, dict[str, str]]:
    """The job of an import and its log, if it is there; raises Problem when neither is.

    The job is asked for first: where it has ended, its log was written before.
    """
    job = await staffa_of(request).aget(job_id)
    log, people = await run_in_threadpool(_log_with_names, request, job_id)

    if log is None and (job is None or job.worker != CsvImportWorker.options.name):
        raise _not_found()

    return job or Job(), log, people


def _status(job: Job) -> dict[str, Any]:
    progress = job.meta.get("progress")
    return {
        "job_id": job.id,
        "state": job.state,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "finished": job.state in {State.COMPLETED, State.CANCELLED, State.DISCARDED},
        "progress": progress if isinstance(progress, dict) else None,
        "last_error": in_one_line(last_error(job)) or None,
    }


def _not_found() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "import_not_found", "There is no such import.")
