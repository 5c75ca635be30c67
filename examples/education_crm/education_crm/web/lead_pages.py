"""The telecallers' pages: their leads, the calls they made, the recordings of them."""

import re
from http import HTTPStatus
from typing import Any

from sqlalchemy import Row
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from education_crm import leads
from education_crm.clock import utc_now
from education_crm.people import User
from education_crm.web.desk import crm_of, own_form, telecaller
from education_crm.web.problems import Problem
from education_crm.web.receiving import keep_recording
from education_crm.web.rendering import render
from education_crm.workers import RecordingProcessorWorker

PAGE_NUMBER = re.compile(r"[0-9]{1,6}")


async def list_leads(request: Request) -> Response:
    """One page of the telecaller's leads."""
    user = await telecaller(request)
    asked = request.query_params.get("page", "1")
    page = max(1, int(asked)) if PAGE_NUMBER.fullmatch(asked) else 1

    def look() -> dict[str, Any]:
        with crm_of(request).database.read() as connection:
            rows = leads.page_of_leads(connection, user.id, page)
            return {
                "leads": rows[: leads.PAGE],
                "more": len(rows) > leads.PAGE,
                "count": leads.count_of_leads(connection, user.id),
            }

    return render(request, "leads.html", {**await run_in_threadpool(look), "page": page})


async def show_lead(request: Request) -> Response:
    """One lead with its calls."""
    return await _lead_page(request, await telecaller(request))


async def log_call(request: Request) -> Response:
    """Write down a call."""
    user = await telecaller(request)
    lead_id: str = request.path_params["lead_id"]
    form = await own_form(request)
    minutes, outcome = str(form.get("minutes", "")), str(form.get("outcome", ""))

    def write() -> None:
        own_lead(request, user, lead_id)

        with crm_of(request).database.write() as connection:
            leads.log_call(
                connection,
                lead_id,
                user.id,
                outcome=outcome,
                duration_seconds=_seconds(minutes),
                now=utc_now(),
            )

    try:
        await run_in_threadpool(write)
    except ValueError:
        return await _lead_page(
            request, user, complaint="Give the outcome and how many minutes the call took."
        )

    return RedirectResponse(f"/leads/{lead_id}", status_code=HTTPStatus.SEE_OTHER)


async def send_recording(request: Request) -> Response:
    """Take the recording of a call; a job stores it."""
    user = await telecaller(request)
    lead_id, call_log_id = request.path_params["lead_id"], request.path_params["call_log_id"]
    await run_in_threadpool(own_call, request, user, lead_id, call_log_id)
    form = await own_form(request, largest=crm_of(request).settings.largest_simple_upload)

    try:
        file = form.get("file")

        if not isinstance(file, UploadFile) or not file.filename:
            return await _lead_page(request, user, complaint="Choose a recording to send.")

        path = await keep_recording(crm_of(request).settings, file)
        await RecordingProcessorWorker.aenqueue_simple(
            temp_file_path=path, call_log_id=call_log_id, filename=file.filename
        )
    finally:
        await form.close()

    return RedirectResponse(f"/leads/{lead_id}?sent=1", status_code=HTTPStatus.SEE_OTHER)


def own_lead(request: Request, user: User, lead_id: str) -> Row[Any]:
    """The lead, if it is this person's to see; admins see all. Raises Problem: 404 unknown, 403 another's."""
    with crm_of(request).database.read() as connection:
        lead = leads.find_lead(connection, lead_id)

    if lead is None:
        raise Problem(HTTPStatus.NOT_FOUND, "lead_not_found", "There is no such lead.")

    if not user.is_admin and lead.telecaller_id != user.id:
        raise Problem(HTTPStatus.FORBIDDEN, "not_your_lead", "This lead belongs to another telecaller.")

    return lead


def own_call(request: Request, user: User, lead_id: str, call_log_id: str) -> Row[Any]:
    """The call made to a lead, if the lead is this person's to see. Raises Problem."""
    own_lead(request, user, lead_id)

    with crm_of(request).database.read() as connection:
        calls = [call for call in leads.calls_of(connection, lead_id) if call.id == call_log_id]

    if not calls:
        raise Problem(HTTPStatus.NOT_FOUND, "call_log_not_found", "There is no such call with this lead.")

    return calls[0]


async def _lead_page(request: Request, user: User, *, complaint: str = "") -> Response:
    def look() -> dict[str, Any]:
        lead = own_lead(request, user, request.path_params["lead_id"])

        with crm_of(request).database.read() as connection:
            return {"lead": lead, "calls": leads.calls_of(connection, lead.id)}

    values = {"outcomes": leads.OUTCOMES, "complaint": complaint, "sent": "sent" in request.query_params}
    status = HTTPStatus.UNPROCESSABLE_ENTITY if complaint else HTTPStatus.OK
    return render(request, "lead.html", {**await run_in_threadpool(look), **values}, status_code=status)


def _seconds(minutes: str) -> int:
    return round(float(minutes) * 60)
