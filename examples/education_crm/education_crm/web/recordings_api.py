"""The API for the telecallers' phones: calls, and their recordings in chunks or in one piece."""

import json
from http import HTTPStatus
from typing import Any, TypeVar

from staffa import Job
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from education_crm import leads, uploads
from education_crm.clock import utc_now
from education_crm.failures import in_one_line, last_error
from education_crm.people import User
from education_crm.recording_names import CONTENT_TYPES
from education_crm.recordings import find_call_log
from education_crm.uploads import UploadRefused
from education_crm.web.desk import (
    FORM_OVERHEAD,
    anyone_known,
    bearer,
    crm_of,
    new_token,
    number_in_path,
    staffa_of,
    too_large,
)
from education_crm.web.lead_pages import own_call, own_lead
from education_crm.web.login_pages import check_password
from education_crm.web.problems import Problem
from education_crm.web.receiving import keep_recording, read_body
from education_crm.workers import RecordingProcessorWorker

Wanted = TypeVar("Wanted", str, int)

STATUS_OF = {
    "unsupported_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "upload_not_found": HTTPStatus.NOT_FOUND,
    "upload_closed": HTTPStatus.CONFLICT,
    "chunk_conflict": HTTPStatus.CONFLICT,
    "incomplete_upload": HTTPStatus.BAD_REQUEST,
    "chunk_set_mismatch": HTTPStatus.BAD_REQUEST,
    "empty_upload": HTTPStatus.BAD_REQUEST,
}


async def log_in(request: Request) -> Response:
    """Give a token for a name and a password."""
    body = await _json(request)
    username, password = _field(body, "username", str), _field(body, "password", str)
    user = await run_in_threadpool(check_password, request, username, password)

    if user is None:
        raise Problem(
            HTTPStatus.UNAUTHORIZED, "wrong_password", "There is nobody with this name and password."
        )

    return JSONResponse({"token": new_token(request, user), "user_id": user.id})


async def log_call(request: Request) -> Response:
    """Write down a call: 201 and its id."""
    user, lead_id = await _caller(request)
    body = await _json(request)
    outcome, duration = _field(body, "outcome", str), _field(body, "duration_seconds", int)

    def write() -> str:
        with crm_of(request).database.write() as connection:
            return leads.log_call(
                connection, lead_id, user.id, outcome=outcome, duration_seconds=duration, now=utc_now()
            )

    try:
        call_log_id = await run_in_threadpool(write)
    except ValueError as error:
        raise _invalid(str(error)) from error

    return JSONResponse({"call_log_id": call_log_id}, status_code=HTTPStatus.CREATED)


async def begin_upload(request: Request) -> Response:
    """Begin a chunked upload: 201 and its id."""
    user, lead_id = await _caller(request)
    body = await _json(request)
    call_log_id, filename = _field(body, "call_log_id", str), _field(body, "filename", str)
    crm = crm_of(request)

    def write() -> str:
        own_call(request, user, lead_id, call_log_id)

        with crm.database.write() as connection:
            return uploads.open_session(connection, crm.settings, call_log_id, filename, utc_now())

    try:
        upload_id = await run_in_threadpool(write)
    except UploadRefused as refused:
        raise _problem(refused) from refused

    return JSONResponse({"upload_id": upload_id}, status_code=HTTPStatus.CREATED)


async def append_chunk(request: Request) -> Response:
    """Take one chunk: 202 and what has arrived. The same chunk may be sent again; other bytes are refused."""
    user, lead_id = await _caller(request)
    upload_id: str = request.path_params["upload_id"]
    index: int = request.path_params["index"]
    crm = crm_of(request)

    if index >= crm.settings.most_chunks:
        raise _invalid(f"an upload has at most {crm.settings.most_chunks:,} chunks")

    await run_in_threadpool(_own_session, request, user, lead_id, upload_id)
    content = await read_body(request, crm.settings.largest_chunk)

    def write() -> uploads.Received:
        chunk = uploads.store_chunk(crm.settings, upload_id, index, content)

        try:
            with crm.database.write() as connection:
                return uploads.record_chunk(connection, upload_id, chunk)
        except UploadRefused as refused:
            uploads.drop_chunk(crm.settings, upload_id, chunk, because=refused.code)
            raise

    try:
        received = await run_in_threadpool(write)
    except UploadRefused as refused:
        raise _problem(refused) from refused

    answer = {"upload_id": upload_id, "chunks_received": received.chunks, "total_size": received.size}
    return JSONResponse(answer, status_code=HTTPStatus.ACCEPTED)


async def finalize_upload(request: Request) -> Response:
    """Store the job that joins the chunks: 202 and its id. Asked again, it gives the same job.

    While a chunk is missing the answer is 400 and the upload stays open, so that it can still be sent.
    """
    user, lead_id = await _caller(request)
    upload_id: str = request.path_params["upload_id"]
    expected = _field(await _json(request), "expected_chunks", int)
    crm = crm_of(request)

    if not 1 <= expected <= crm.settings.most_chunks:
        raise _invalid(f"expected_chunks must be between 1 and {crm.settings.most_chunks:,}")

    def write() -> int | None:
        _own_session(request, user, lead_id, upload_id)

        with crm.database.write() as connection:
            session = uploads.find_session(connection, upload_id, lock=True)

            if session is None:
                raise UploadRefused("upload_not_found", "there is no such upload")

            if session.status != "open":
                known: int | None = session.job_id
                return known

            uploads.check_complete(uploads.chunks_of(connection, upload_id), expected)
            joining = RecordingProcessorWorker.chunked(upload_id, expected, session.call_log_id)
            job = RecordingProcessorWorker.using(connection=connection, instance=staffa_of(request)).enqueue(
                **joining
            )
            uploads.mark_finalizing(connection, upload_id, job.id)
            return job.id

    try:
        job_id = await run_in_threadpool(write)
    except UploadRefused as refused:
        raise _problem(refused) from refused

    return _accepted(job_id)


async def upload_status(request: Request) -> Response:
    """What has arrived of an upload and, once finalized, how its job stands."""
    user = await bearer(request)
    upload_id: str = request.path_params["upload_id"]

    def look() -> dict[str, Any]:
        session = _own_session(request, user, request.path_params["lead_id"], upload_id)

        with crm_of(request).database.read() as connection:
            received = uploads.received(connection, upload_id)

        answer = {"upload_id": upload_id, "status": session.status, "job_id": session.job_id}
        return {**answer, "chunks_received": received.chunks, "total_size": received.size}

    answer = await run_in_threadpool(look)
    job = await staffa_of(request).aget(answer["job_id"]) if answer["job_id"] else None
    return JSONResponse({**answer, "job": _job_status(job) if job else None})


async def send_recording(request: Request) -> Response:
    """Take a recording in one piece: 202 and the id of the job that stores it."""
    user, lead_id = await _caller(request)
    settings = crm_of(request).settings
    length = request.headers.get("content-length", "")

    if not length.isdecimal():
        raise Problem(HTTPStatus.LENGTH_REQUIRED, "length_required", "The request must say how long it is.")

    if int(length) > settings.largest_simple_upload + FORM_OVERHEAD:
        raise too_large(settings.largest_simple_upload)

    async with request.form() as form:
        call_log_id, file = form.get("call_log_id"), form.get("file")

        if (
            not isinstance(call_log_id, str)
            or not call_log_id.isprintable()
            or not isinstance(file, UploadFile)
            or not file.filename
        ):
            raise _invalid("send a call_log_id and a file")

        await run_in_threadpool(own_call, request, user, lead_id, call_log_id)
        path = await keep_recording(settings, file)
        job = await RecordingProcessorWorker.aenqueue_simple(
            temp_file_path=path, call_log_id=call_log_id, filename=file.filename
        )

    return _accepted(job.id)


async def recording_file(request: Request) -> Response:
    """The recording of a call, whole or the range asked for."""
    user = await anyone_known(request)
    lead_id, call_log_id = request.path_params["lead_id"], request.path_params["call_log_id"]
    call = await run_in_threadpool(own_call, request, user, lead_id, call_log_id)
    path = crm_of(request).settings.recordings_root / str(call.recording_path)

    if call.recording_path is None or not path.is_file():
        raise Problem(HTTPStatus.NOT_FOUND, "no_recording", "This call has no recording.")

    return FileResponse(
        path, media_type=CONTENT_TYPES[path.suffix], headers={"cache-control": "private, no-cache"}
    )


async def job_status(request: Request) -> Response:
    """How a recording's job stands; only for the telecaller whose call it is."""
    user = await bearer(request)
    job = await staffa_of(request).aget(number_in_path(request, "job_id"))

    if job is None or job.worker != RecordingProcessorWorker.options.name:
        raise Problem(HTTPStatus.NOT_FOUND, "job_not_found", "There is no such job.")

    await run_in_threadpool(_check_job_owner, request, user, str(job.args.get("call_log_id")))
    return JSONResponse(_job_status(job))


def _check_job_owner(request: Request, user: User, call_log_id: str) -> None:
    with crm_of(request).database.read() as connection:
        call = find_call_log(connection, call_log_id)

    if not user.is_admin and (call is None or call.lead_telecaller_id != user.id):
        raise Problem(HTTPStatus.FORBIDDEN, "not_your_job", "This job belongs to another telecaller's call.")


async def _caller(request: Request) -> tuple[User, str]:
    """The telecaller who sent a token, and the lead of the address, which must be theirs."""
    user = await bearer(request)
    lead_id: str = request.path_params["lead_id"]
    await run_in_threadpool(own_lead, request, user, lead_id)
    return user, lead_id


def _own_session(request: Request, user: User, lead_id: str, upload_id: str) -> Any:
    with crm_of(request).database.read() as connection:
        session = uploads.find_session(connection, upload_id)

    if session is None:
        raise Problem(HTTPStatus.NOT_FOUND, "upload_not_found", "There is no such upload.")

    own_call(request, user, lead_id, session.call_log_id)
    return session


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await read_body(request, FORM_OVERHEAD))
    except ValueError as error:
        raise _invalid("the body must be JSON") from error

    if not isinstance(body, dict):
        raise _invalid("the body must be a JSON object")

    return body


def _field(body: dict[str, Any], name: str, kind: type[Wanted]) -> Wanted:
    value = body.get(name)

    if not isinstance(value, kind) or isinstance(value, bool) or not str(value).isprintable():
        raise _invalid(f"{name} must be {'text' if kind is str else 'a whole number'}")

    return value


def _accepted(job_id: int | None) -> Response:
    return JSONResponse(
        {"job_id": job_id, "status_url": f"/api/jobs/{job_id}"}, status_code=HTTPStatus.ACCEPTED
    )


def _job_status(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "state": job.state,
        "attempt": job.attempt,
        "progress": job.meta.get("progress"),
        "error": in_one_line(last_error(job)) or None,
    }


def _invalid(message: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "validation_error", message)


def _problem(refused: UploadRefused) -> Problem:
    return Problem(STATUS_OF[refused.code], refused.code, str(refused))
