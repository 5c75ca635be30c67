"""Say what is wrong, and what to do about it."""

from __future__ import annotations

import typer

from staffa._finding import Finding, Level
from staffa._printable import printable
from staffa.cli.printing import AsJson, counted, tell_json
from staffa.cli.settings import DONE_WRONGLY, Settings

MARKS = {Level.FINE: "ok", Level.NOTICE: "notice", Level.PROBLEM: "PROBLEM"}


def doctor(settings: Settings, *, json: AsJson = False) -> None:
    """Look for what is wrong, and say what to do about it. Changes nothing.

    Looks at the database, its tables, locks, clocks and notifications, at who runs which queues, and at what waits
    for whom. Exits 1 where there is a problem. JSON: [{"check", "level": "fine", "notice" or "problem", "said",
    "advice"}].
    """
    with settings.instance() as staffa:
        settings.know_workers(staffa)
        findings = staffa.examine()

    if json:
        tell_json([each._asdict() for each in findings])
    else:
        _tell(findings)
    if any(each.level is Level.PROBLEM for each in findings):
        raise typer.Exit(DONE_WRONGLY)


def _tell(findings: list[Finding]) -> None:
    width = max(len(each.check) for each in findings)
    for each in findings:
        typer.echo(f"{MARKS[each.level]:8} {each.check:{width}}  {_line(each.said)}")
        if each.advice:
            typer.echo(f"{'':8} {'':{width}}  -> {_line(each.advice)}")
    problems = sum(each.level is Level.PROBLEM for each in findings)
    notices = sum(each.level is Level.NOTICE for each in findings)
    typer.echo(f"\n{counted(problems, 'problem')}, {counted(notices, 'notice')}.")


def _line(text: str) -> str:
    return " ".join(printable(text).split())
