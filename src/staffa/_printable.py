"""Text of jobs, shown so that it commands nobody's terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Show control characters instead of letting a job's data command the terminal."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )


def last_line(text: str) -> str:
    """Return what a traceback ends with: the error itself."""
    lines = text.strip().splitlines()
    return printable(lines[-1]) if lines else ""
