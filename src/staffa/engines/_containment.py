"""Whether a JSON value contains another, as `@>` of PostgreSQL tells; SQLite learns it from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

NAME = "staffa_contains"

decode = msgspec.json.Decoder(
    float_hook=Decimal
).decode  # numbers are what their digits say, as in PostgreSQL


def teach(connection: Any, execute: Callable[[str], Iterable[Any]]) -> None:
    """Make the function known on a connection, unless it is; one that is in use cannot be made anew."""
    if not list(execute(f"select 1 from pragma_function_list where name = '{NAME}'")):  # noqa: S608 - ours
        connection.create_function(NAME, 2, contains_text, deterministic=True)


def contains_text(stored: object, wanted: str) -> bool:
    """Tell whether stored JSON contains what is wanted; text that is no JSON contains nothing."""
    try:
        return contains(decode(stored), _decoded(wanted))  # type: ignore[arg-type]
    except (msgspec.DecodeError, TypeError, RecursionError):
        return False


def contains(stored: Any, wanted: Any) -> bool:
    """Tell whether an object has all keys, a list all elements of another; other values must be equal."""
    if isinstance(wanted, dict):
        return isinstance(stored, dict) and all(
            key in stored and contains(stored[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(stored, list) and all(
            any(contains(each, value) for each in stored) for value in wanted
        )
    return isinstance(stored, bool) == isinstance(wanted, bool) and bool(stored == wanted)


@lru_cache(maxsize=64)
def _decoded(wanted: str) -> Any:
    return decode(wanted)
