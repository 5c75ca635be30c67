"""Coming in and going out."""

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from education_crm.people import User, authenticate
from education_crm.web.desk import crm_of, own_form, session_user
from education_crm.web.rendering import render


async def home(request: Request) -> Response:
    """Show each person the page of their work."""
    user = await session_user(request)
    return RedirectResponse("/imports" if user.is_admin else "/leads", status_code=HTTPStatus.SEE_OTHER)


async def show_login(request: Request) -> Response:
    """Ask who is there."""
    return render(request, "login.html", {"username": "", "wrong": False})


async def log_in(request: Request) -> Response:
    """Let somebody in who knows the password; the session begins anew."""
    form = await own_form(request)
    username, password = str(form.get("username", "")), str(form.get("password", ""))
    user = await run_in_threadpool(check_password, request, username, password)

    if user is None:
        values = {"username": username, "wrong": True}
        return render(request, "login.html", values, status_code=HTTPStatus.UNPROCESSABLE_ENTITY)

    request.session.clear()
    request.session["user_id"] = user.id
    return RedirectResponse("/", status_code=HTTPStatus.SEE_OTHER)


async def log_out(request: Request) -> Response:
    """Forget who is there."""
    await own_form(request)
    request.session.clear()
    return RedirectResponse("/login", status_code=HTTPStatus.SEE_OTHER)


def check_password(request: Request, username: str, password: str) -> User | None:
    """The user with this name and password; blocks for as long as a hash takes."""
    if not username.isprintable():
        return None

    with crm_of(request).database.read() as connection:
        return authenticate(connection, username, password)
