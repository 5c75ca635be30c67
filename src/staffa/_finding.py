"""What an examination finds."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is."""

    FINE = "fine"
    NOTICE = "notice"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One thing that was looked at: what was seen and, where it is not fine, what to do about it."""

    check: str
    level: Level
    said: str
    advice: str = ""


def fine(check: str, said: str) -> Finding:
    return Finding(check, Level.FINE, said)


def notice(check: str, said: str, advice: str) -> Finding:
    return Finding(check, Level.NOTICE, said, advice)


def problem(check: str, said: str, advice: str) -> Finding:
    return Finding(check, Level.PROBLEM, said, advice)
