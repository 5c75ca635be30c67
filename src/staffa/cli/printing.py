"""How answers are written: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Annotated, Any

import msgspec
import typer

from staffa._clock import instant
from staffa._job import OBAN_COLUMNS, AnyJob
from staffa._printable import printable

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
AsJobJson = Annotated[bool, typer.Option("--json", help="Answer with the stored job, by its columns.")]

SPANS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def tell_json(value: object) -> None:
    """Write a value for programs, indented so that people can read it too."""
    encoded = msgspec.json.encode(value, enc_hook=str)
    typer.echo(msgspec.json.format(encoded, indent=2).decode())


def job_object(job: AnyJob) -> dict[str, Any]:
    """Show a job by the names and formats of its columns: instants are UTC with six digits and Z."""
    return with_instants({name: getattr(job, name) for name in OBAN_COLUMNS})


def with_instants(found: Mapping[str, Any]) -> dict[str, Any]:
    """Write the instants of an object as its JSON shows them."""
    return {name: instant(each) if isinstance(each, datetime) else each for name, each in found.items()}


def tell_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table: fitted to a terminal, in full and without decoration to a pipe."""
    clean = [[" ".join(printable(cell).split()) for cell in row] for row in rows]
    if sys.stdout.isatty():
        import_module("staffa.cli.terminal").tell_fitted(headers, clean)  # takes long to load
    else:
        _aligned(headers, clean)


def _aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [list(headers), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def moment(at: datetime | None) -> str:
    """Write an instant and how far it is from now."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({distance(at)})"


def distance(at: datetime) -> str:
    """Say how far an instant is from now, by this machine's clock."""
    away = at - datetime.now(UTC)
    return f"in {span(away)}" if away > timedelta(0) else f"{span(-away)} ago"


def span(length: timedelta) -> str:
    """Write a length of time by its two largest units."""
    left = int(length.total_seconds())
    parts: list[str] = []
    for unit, seconds in SPANS:
        count, left = divmod(left, seconds)
        if count or parts:
            parts.append(f"{count}{unit}")
    return "".join(part for part in parts[:2] if not part.startswith("0")) or "0s"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: 1 job, 2 jobs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def our_version() -> str:
    """Tell the version that is installed; what knows it takes long to load, and few commands ask."""
    version: str = import_module("importlib.metadata").version("staffa")
    return version
