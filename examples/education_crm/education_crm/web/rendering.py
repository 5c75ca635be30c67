"""Pages from templates."""

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from education_crm.import_report import reasons
from education_crm.web.csrf import csrf_token

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"

_templates: Final = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def _moment(instant: datetime | None) -> str:
    return instant.strftime("%-d %b %Y, %H:%M UTC") if instant else "never"


def _counted(number: int) -> str:
    return f"{number:,}"


_templates.filters["moment"] = _moment
_templates.filters["counted"] = _counted
_templates.filters["reasons"] = reasons


def render(
    request: Request, template: str, values: Mapping[str, Any], *, status_code: int = HTTPStatus.OK
) -> HTMLResponse:
    """A page for the person who asks; every page knows who that is and carries the form token."""
    common = {
        "request": request,
        "user": getattr(request.state, "user", None),
        "csrf_token": csrf_token(request),
    }
    page = _templates.get_template(template).render({**common, **values})
    return HTMLResponse(page, status_code=status_code)
