"""Text of jobs, shown so that it commands nobody's terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def printable(text: str) -> str:
    """Show control characters instead of letting a job's data command the terminal."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )


def reason(errors: Sequence[object]) -> str:
    """Return what went wrong last: the line with which a traceback ends. Others may have written other errors."""
    last = errors[-1] if errors else None
    text = last.get("error", "") if isinstance(last, Mapping) else last or ""
    lines = str(text).strip().splitlines()
    return printable(lines[-1]) if lines else ""
