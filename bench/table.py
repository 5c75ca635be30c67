"""What was found, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench.results import Check, Figure, Results, RowResult

HEADINGS = ("what", "measured", "target", "median", "spread", "met")
WORDS = ("what", "measured")


def show(results: Results, console: Console) -> None:
    """Print every row, then what could not be measured."""
    table = Table(expand=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in WORDS else "right")
    for row in results.rows:
        for number_of_line, cells in enumerate(lines(row)):
            table.add_row("" if number_of_line else row.what, *cells)
        table.add_section()
    console.print(table)
    for name, why in results.missing.items():
        console.print(f"not measured: {name}: {why}")
    met = sum(row.met for row in results.rows)
    console.print(
        f"{met} of {len(results.rows)} rows met their targets in {results.took_minutes:.1f} minutes."
    )


def lines(row: RowResult) -> Iterator[tuple[str, ...]]:
    """Give what was wanted and found, then the bare figures that are not yet told."""
    if not row.checks:
        yield "not measured", "", "", "", "no"
    for check in row.checks:
        yield check.what, wanted(check), number(check.median, check.unit), spread(check), verdict(check)
    told = {check.what for check in row.checks}
    for figure in row.figures:
        if figure.name not in told:
            yield figure.name, "", number(figure.median, figure.unit), spread(figure), ""


def wanted(check: Check) -> str:
    """Write a bound as people read it."""
    return f"{'≥' if check.bound == 'at least' else '≤'} {number(check.wanted, check.unit)}"


def verdict(check: Check) -> str:
    return "yes" if check.met else "no"


def spread(found: Check | Figure) -> str:
    """Write the least and the most, where there is more than one."""
    if len(found.values) == 1:
        return ""
    return f"{number(min(found.values))} to {number(max(found.values))}"


def number(value: float, unit: str = "") -> str:
    """Write a number with as many digits as it is worth."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - thousands have commas
    return f"{text} {unit}".strip()
