"""Checks of arguments where a job is enqueued, with errors that say what to mend."""

from pathlib import Path
from uuid import UUID


def identifier(name: str, value: object) -> str:
    """An id as text; UUIDs are written out."""
    if isinstance(value, UUID):
        return str(value)

    return text(name, value)


def text(name: str, value: object) -> str:
    """Text that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {type(value).__name__}")

    if not value:
        raise ValueError(f"{name} must not be empty")

    return value


def absolute_path(name: str, value: object) -> str:
    """The absolute path of a file, as text."""
    path = text(name, str(value) if isinstance(value, Path) else value)

    if not Path(path).is_absolute():
        raise ValueError(f"{name} must be an absolute path, since the job may run elsewhere: {path!r}")

    return path


def at_least_one(name: str, value: object) -> int:
    """A whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")

    if value < 1:
        raise ValueError(f"{name} must be 1 or more, not {value}")

    return value
