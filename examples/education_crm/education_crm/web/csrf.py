"""Forms that only our own pages can send: each carries a token that the session knows."""

import hmac
import secrets

from starlette.datastructures import FormData
from starlette.requests import Request


def csrf_token(request: Request) -> str:
    """The token of this session; the first page makes it."""
    token = request.session.get("csrf")

    if not isinstance(token, str):
        token = request.session["csrf"] = secrets.token_urlsafe(24)

    return token


def is_own_form(request: Request, form: FormData) -> bool:
    """Whether a form came from one of this session's pages."""
    known, sent = request.session.get("csrf"), form.get("csrf_token")
    return (
        isinstance(known, str)
        and isinstance(sent, str)
        and hmac.compare_digest(known.encode(), sent.encode())
    )
