"""The program: `python -m bench` takes the measures, `python -m bench render` writes the page about the last ones."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from bench import machine, page
from bench.databases import Sqlite, own_server
from bench.environments import ROOT, Unavailable
from bench.lab import Lab
from bench.processes import Failed
from bench.results import Results, RowResult
from bench.rows import ROWS, Row
from bench.scale import SCALES, Scale
from bench.table import show

KEYS = tuple(row.key for row in ROWS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    given = _parser().parse_args(arguments)
    signal.signal(
        signal.SIGTERM, lambda number, _: sys.exit(128 + number)
    )  # so that servers and workers go too
    console = Console(width=None if sys.stdout.isatty() else 120)
    if given.what == "run":
        scale = SCALES[given.scale]
        rows = [row for row in ROWS if row.key in given.only] if given.only else _of(scale)
        results = measured(scale, rows, console)
        show(results, console)
        if not given.write and (given.only or not scale.writes_page):
            return 0
        page.keep(results)
    try:
        page.draw()
    except (Failed, Unavailable) as error:
        console.print(f"no new plots: {error}")
    console.print(f"written: {page.write().relative_to(ROOT)}")
    return 0


def measured(scale: Scale, rows: Sequence[Row], console: Console) -> Results:
    """Take the measures, one after the other, on databases of our own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="staffa-bench-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        with own_server(place) as postgres:

            def say(what: str) -> None:
                console.print(f"{time.monotonic() - began:6.1f} s  {what}", style="dim", highlight=False)

            lab = Lab(scale, place, postgres, Sqlite(place), say)
            console.print(f"PostgreSQL: {postgres.settings()}", style="dim")
            found = [_row(lab, row) for row in rows]
            return Results(
                scale=scale.name,
                date=datetime.now(UTC).date().isoformat(),
                took_minutes=(time.monotonic() - began) / 60,
                machine=machine.described(),
                versions=machine.versions(),
                settings=postgres.settings(),
                rows=found,
                chosen=lab.chosen,
                missing=lab.missing,
            )


def _row(lab: Lab, row: Row) -> RowResult:
    lab.say(f"--- {row.what}")
    before = machine.pace(lab.folder)
    try:
        found = row.measure(lab, row.key, row.what)
    except (Failed, Unavailable) as error:
        lab.missing[row.what] = str(error)
        found = RowResult(row.key, row.what, [], [])
    return msgspec.structs.replace(found, paces=[before, machine.pace(lab.folder)])


def _of(scale: Scale) -> list[Row]:
    return [row for row in ROWS if scale.name == "full" or not row.only_full]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["run", "render"], default="run")
    parser.add_argument("--scale", choices=SCALES, default="default")
    parser.add_argument("--only", action="append", choices=KEYS, default=[], help="measure only this row")
    parser.add_argument("--write", action="store_true", help="write the page although not all was measured")
    return parser


if __name__ == "__main__":
    sys.exit(main())
