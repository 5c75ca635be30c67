"""Options that several commands share, shown to Typer as each one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints


def taking_options(
    called: Callable[..., None],
    command: Callable[..., Any],
    *,
    supplied: int,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., None]:
    """Show that `called` takes its own parameters, those of the command it calls, and more options.

    It supplies the command's first parameters itself. `options` are annotations by name; their default is None.
    """
    keyword = inspect.Parameter.KEYWORD_ONLY
    given = (
        inspect.Parameter(name, keyword, default=None, annotation=each)
        for name, each in (options or {}).items()
    )
    parameters = [
        *(each.replace(kind=keyword) for each in _parameters(command)[supplied:]),
        *_parameters(called),
        *given,
    ]
    parameters.sort(key=lambda each: each.kind)
    shown: Any = called
    shown.__name__, shown.__doc__ = command.__name__, command.__doc__
    shown.__signature__ = inspect.Signature(parameters)
    shown.__annotations__ = {each.name: each.annotation for each in parameters}
    return called


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Read the named parameters of a function, with their annotations."""
    hints = get_type_hints(function, include_extras=True)
    return [
        each.replace(annotation=hints[each.name])
        for each in inspect.signature(function).parameters.values()
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]
