"""What every request needs: the CRM, its queues, and the person who asks."""

from http import HTTPStatus
from typing import Final, cast

from itsdangerous import BadSignature, URLSafeTimedSerializer
from staffa import Staffa
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request

from education_crm.crm import Crm
from education_crm.people import User, find_user
from education_crm.web.csrf import is_own_form
from education_crm.web.problems import LoginNeeded, Problem

TOKEN_SECONDS: Final = 7 * 24 * 60 * 60
FORM_OVERHEAD: Final = 64 * 1024
LARGEST_ID: Final = 2**63 - 1


def crm_of(request: Request) -> Crm:
    """The CRM that this application shows."""
    return cast(Crm, request.app.state.crm)


def staffa_of(request: Request) -> Staffa:
    """The queues that this application fills."""
    return cast(Staffa, request.app.state.staffa)


async def session_user(request: Request) -> User:
    """Who is logged in with this browser; raises LoginNeeded."""
    return _known(request, await run_in_threadpool(_find, request, request.session.get("user_id")))


async def admin(request: Request) -> User:
    """The admin who is logged in with this browser; raises LoginNeeded, or Problem for anybody else."""
    user = await session_user(request)

    if not user.is_admin:
        raise Problem(HTTPStatus.FORBIDDEN, "admins_only", "This page is for admins.")

    return user


async def telecaller(request: Request) -> User:
    """The telecaller who is logged in with this browser; raises LoginNeeded, or Problem for anybody else."""
    user = await session_user(request)

    if user.is_admin:
        raise Problem(HTTPStatus.FORBIDDEN, "telecallers_only", "This page is for telecallers.")

    return user


async def bearer(request: Request) -> User:
    """Who sent this token; raises LoginNeeded."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")

    if scheme.lower() != "bearer":
        raise LoginNeeded

    try:
        user_id = _signer(request).loads(token, max_age=TOKEN_SECONDS)
    except BadSignature as error:
        raise LoginNeeded from error

    return _known(request, await run_in_threadpool(_find, request, user_id))


async def anyone_known(request: Request) -> User:
    """Who asks, by token or, where nothing is changed, by browser; raises LoginNeeded."""
    return await (bearer(request) if "authorization" in request.headers else session_user(request))


def new_token(request: Request, user: User) -> str:
    """A token that says who somebody is, for a week."""
    return str(_signer(request).dumps(user.id))


async def own_form(request: Request, *, largest: int = 0) -> FormData:
    """The form that was sent, files of at most `largest` bytes included; raises Problem for a foreign one."""
    length = request.headers.get("content-length", "")

    if not length.isdecimal():
        raise Problem(HTTPStatus.LENGTH_REQUIRED, "length_required", "The request must say how long it is.")

    if int(length) > largest + FORM_OVERHEAD:
        raise too_large(largest)

    form = await request.form()

    if not is_own_form(request, form):
        await form.close()
        raise Problem(
            HTTPStatus.FORBIDDEN, "stale_form", "This form has expired; go back, reload and try again."
        )

    return form


def number_in_path(request: Request, name: str) -> int:
    """A number of the address; raises Problem for one that no row can have."""
    number: int = request.path_params[name]

    if number > LARGEST_ID:
        raise Problem(HTTPStatus.NOT_FOUND, "not_found", "There is nothing with this number.")

    return number


def too_large(largest: int) -> Problem:
    """The problem of a file beyond its limit."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"A file may have at most {largest:,} bytes."
    )


def _find(request: Request, user_id: object) -> User | None:
    if not isinstance(user_id, str):
        return None

    with crm_of(request).database.read() as connection:
        return find_user(connection, user_id)


def _known(request: Request, user: User | None) -> User:
    if user is None:
        raise LoginNeeded

    request.state.user = user
    return user


def _signer(request: Request) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(crm_of(request).settings.secret, salt="education-crm-token")
