"""Which jobs a command means: the options of a filter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from staffa._filter import JobFilter
from staffa._job import State, state_of
from staffa.cli.enqueue import object_of
from staffa.cli.options import taking_options
from staffa.config import duration
from staffa.errors import ConfigError

FILTER: dict[str, Any] = {
    "state": Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Only these states; may be repeated, or have commas."),
    ],
    "queue": Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these queues.")],
    "worker": Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these workers.")],
    "tag": Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Only jobs with this tag, and all others given.")
    ],
    "args": Annotated[
        str | None, typer.Option(metavar="JSON", help="Only jobs whose arguments contain this object.")
    ],
    "meta": Annotated[
        str | None, typer.Option(metavar="JSON", help="Only jobs whose meta contains this object.")
    ],
    "node": Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only jobs that ran on these nodes last.")
    ],
    "older_than": Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only jobs inserted before that: 30m, 7d.")
    ],
    "newer_than": Annotated[str | None, typer.Option(metavar="DURATION", help="Only jobs inserted since.")],
    "finished_within": Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only jobs that finished since.")
    ],
}


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a filter and, as its second argument, the filter's fields."""

    def called(settings: Any, **given: Any) -> None:
        asked = {name: given.pop(name) for name in FILTER}
        command(settings, _fields(asked), **given)

    return taking_options(called, command, supplied=2, options=FILTER)


def _fields(asked: dict[str, Any]) -> dict[str, Any]:
    """Read the fields that ask for something. Raises `ConfigError` or `InvalidFilter`."""
    fields = {
        "states": [_state(part) for each in asked["state"] or () for part in each.split(",")],
        "queues": asked["queue"],
        "workers": asked["worker"],
        "tags": asked["tag"],
        "args": object_of(asked["args"], "--args") if asked["args"] is not None else None,
        "meta": object_of(asked["meta"], "--meta") if asked["meta"] is not None else None,
        "nodes": asked["node"],
        "inserted_before": _ago(asked["older_than"], "--older-than"),
        "inserted_after": _ago(asked["newer_than"], "--newer-than"),
        "finished_after": _ago(asked["finished_within"], "--finished-within"),
    }
    given = {name: value for name, value in fields.items() if value is not None and value != []}
    JobFilter(**given)
    return given


def _state(text: str) -> State:
    try:
        return state_of(text.strip())
    except ValueError as error:
        raise ConfigError(f"--state: {error}") from None


def _ago(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.now(UTC) - max(duration(text), timedelta(0))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{option}: {error}") from error
