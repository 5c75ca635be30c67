"""The application: its addresses, and its life together with the queues."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from staffa import Staffa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from education_crm import crm as process
from education_crm.crm import Crm
from education_crm.web import import_pages, lead_pages, login_pages, recordings_api
from education_crm.web.problems import LoginNeeded, Problem, on_http_exception, on_login_needed, on_problem
from education_crm.web.rendering import STATIC

SESSION_SECONDS: Final = 12 * 60 * 60
SAFE_HEADERS: Final = {
    "content-security-policy": "default-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}

PAGES: Final[list[BaseRoute]] = [
    Route("/", login_pages.home),
    Route("/login", login_pages.show_login),
    Route("/login", login_pages.log_in, methods=["POST"]),
    Route("/logout", login_pages.log_out, methods=["POST"]),
    Route("/imports", import_pages.list_imports),
    Route("/imports", import_pages.start_import, methods=["POST"]),
    Route("/imports/new", import_pages.new_import),
    Route("/imports/{job_id:int}", import_pages.show_import),
    Route("/imports/{job_id:int}/status", import_pages.import_status),
    Route("/imports/{job_id:int}/failed-rows.csv", import_pages.import_report),
    Route("/leads", lead_pages.list_leads),
    Route("/leads/{lead_id}", lead_pages.show_lead),
    Route("/leads/{lead_id}/calls", lead_pages.log_call, methods=["POST"]),
    Route("/leads/{lead_id}/calls/{call_log_id}/recording", lead_pages.send_recording, methods=["POST"]),
    Mount("/static", StaticFiles(directory=STATIC)),
]

UPLOADS: Final = "/api/leads/{lead_id}/recordings/uploads"
API: Final[list[BaseRoute]] = [
    Route("/api/login", recordings_api.log_in, methods=["POST"]),
    Route("/api/leads/{lead_id}/calls", recordings_api.log_call, methods=["POST"]),
    Route("/api/leads/{lead_id}/recordings", recordings_api.send_recording, methods=["POST"]),
    Route(UPLOADS, recordings_api.begin_upload, methods=["POST"]),
    Route(UPLOADS + "/{upload_id}", recordings_api.upload_status),
    Route(UPLOADS + "/{upload_id}/chunks/{index:int}", recordings_api.append_chunk, methods=["PUT"]),
    Route(UPLOADS + "/{upload_id}/finalize", recordings_api.finalize_upload, methods=["POST"]),
    Route("/api/leads/{lead_id}/recordings/{call_log_id}", recordings_api.recording_file),
    Route("/api/jobs/{job_id:int}", recordings_api.job_status),
]


def build_app(crm: Crm, staffa: Staffa) -> Starlette:
    """The application of one CRM; while it lives, its tables are there and its queues run."""
    process.install(crm)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(crm.set_up)
        await staffa.amigrate()

        async with staffa.lifespan(app):
            yield

    sessions = Middleware(
        SessionMiddleware,
        secret_key=crm.settings.secret,
        session_cookie="education_crm",
        max_age=SESSION_SECONDS,
        same_site="lax",
        https_only=crm.settings.secure_cookies,
    )
    app = Starlette(
        routes=[*PAGES, *API],
        lifespan=lifespan,
        middleware=[Middleware(Door), sessions],
        exception_handlers={
            Problem: on_problem,
            LoginNeeded: on_login_needed,
            HTTPException: on_http_exception,
        },
    )
    app.state.crm, app.state.staffa = crm, staffa
    return app


class Door:
    """Lets no address in that a database cannot look up, and tells browsers to load nothing from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to every answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif not scope["path"].isprintable():
            await PlainTextResponse("Not Found", HTTPStatus.NOT_FOUND)(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)

            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)

        await send(message)

    return send_with_headers
