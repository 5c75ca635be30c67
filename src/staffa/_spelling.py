"""What a name that nobody knows was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_NAMED = 20


def unknown(name: str, known: Iterable[str], kind: str = "key") -> str:
    """Say that a name is unknown, and which one is nearest."""
    return f"unknown {kind} {name!r}; {hint(name, known)}"


def hint(name: str, known: Iterable[str]) -> str:
    """Name the nearest of the known names, or else those there are."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1) or difflib.get_close_matches(name.lower(), names, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    if not names:
        return "none is known"
    more = ", ..." if len(names) > MOST_NAMED else ""
    return f"known are {', '.join(names[:MOST_NAMED])}{more}"
