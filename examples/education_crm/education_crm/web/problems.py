"""What goes wrong in a request, told as JSON to programs and as a page to people."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from education_crm.web.rendering import render


class Problem(Exception):
    """A request that is answered with an error; `code` is for programs, the message for people."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class LoginNeeded(Exception):
    """A page for somebody who is logged in was asked for by nobody known."""


def wants_json(request: Request) -> bool:
    """Whether the answer is for a program."""
    return request.url.path.startswith("/api/") or "application/json" in request.headers.get("accept", "")


def on_problem(request: Request, error: Exception) -> Response:
    """Answer a Problem."""
    assert isinstance(error, Problem)
    return _answer(request, error.status, error.code, str(error))


def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the framework refused, such as an unknown address."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return _answer(request, status, status.name.lower(), error.detail)


def on_login_needed(request: Request, _: Exception) -> Response:
    """Show the way to the login page."""
    if wants_json(request):
        return _answer(request, HTTPStatus.UNAUTHORIZED, "login_needed", "log in first")

    return RedirectResponse("/login", status_code=HTTPStatus.SEE_OTHER)


def _answer(request: Request, status: HTTPStatus, code: str, message: str) -> Response:
    if wants_json(request):
        return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)

    return render(request, "problem.html", {"heading": status.phrase, "message": message}, status_code=status)
