"""Options that take several texts: a single one would become its letters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def texts(option: str, given: object, error: type[Exception]) -> tuple[str, ...]:
    """Read several texts. Raises `error`, naming the option, for anything else."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise error(f"{option} must be a list of texts, not {given!r}")
    several = tuple(given)
    if not all(isinstance(each, str) for each in several):
        raise error(f"{option} must be a list of texts, not {given!r}")
    return several
