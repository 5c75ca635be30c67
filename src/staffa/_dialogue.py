"""What a process that runs jobs and the one that started it say to each other."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from staffa._job import AnyJob, Progress
from staffa.worker import Record

LONGEST_REPR = 500


# The parent says


class Begin(msgspec.Struct, frozen=True):
    """Be a child of this parent: know these modules, and enqueue into this database."""

    parent: int
    modules: tuple[str, ...]
    url: str | None
    schema: str
    name: str
    node: str
    default: bool
    levels: Mapping[str, int]


class Perform(msgspec.Struct, frozen=True):
    """Run this job; its worker is found once the module is imported."""

    module: str
    job: AnyJob
    max_memory: int | None


class Hurry(msgspec.Struct, frozen=True):
    """End soon: you will be killed."""


# The child says


class Ready(msgspec.Struct, frozen=True):
    """I can run jobs."""


class Unready(msgspec.Struct, frozen=True):
    """I cannot, because of this."""

    text: str


class Taken(msgspec.Struct, frozen=True):
    """I have the job, and begin."""


class Told(msgspec.Struct, frozen=True):
    """My job is this far."""

    progress: Progress


class Logged(msgspec.Struct, frozen=True):
    """Log this record where you log."""

    record: bytes


class Answered(msgspec.Struct, frozen=True):
    """My job ended with this answer."""

    answer: bytes
    progress: Progress | None


class Raised(msgspec.Struct, frozen=True):
    """My job ended with this exception."""

    error: bytes
    summary: str
    text: str
    progress: Progress | None


class Stopped(msgspec.Struct, frozen=True):
    """My job ended because you told it to."""

    progress: Progress | None


# How values of anybody's making are carried


class Lost(msgspec.Struct, frozen=True):
    """Stands for a value that cannot be carried from one process to another."""

    shown: str


def packed(value: object) -> bytes:
    """Make a value ready to be carried; one that cannot be becomes a `Lost`."""
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - what somebody's value does when it is looked at is anybody's guess
        if isinstance(value, Record):
            return pickle.dumps(Record(Lost(_shown(value.value))))
        return pickle.dumps(Lost(_shown(value)))


def unpacked(data: bytes) -> Any:
    """Give a value that was carried here, or a `Lost`. Nothing is imported for it."""
    try:
        return _Known(io.BytesIO(data)).load()
    except Exception as error:  # noqa: BLE001 - as above
        return Lost(_shown(error))


class _Known(pickle.Unpickler):
    """Knows only what this process has imported: an import could run somebody's program again."""

    def find_class(self, module: str, name: str) -> Any:
        if module not in sys.modules:
            raise pickle.UnpicklingError(f"{module} is not imported here")
        return super().find_class(module, name)


def _shown(value: object) -> str:
    try:
        return repr(value)[:LONGEST_REPR]
    except Exception:  # noqa: BLE001 - as above
        return f"a {type(value).__name__}"
