"""Files that are written together, or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from staffa.errors import FilesNotWritten, GeneratorError


@dataclass(frozen=True, slots=True)
class Change:
    """What a file will hold. `updates` marks a file that is there already and is meant to be changed."""

    path: Path
    text: str
    updates: bool = False


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process plans and writes files in a project, so that none writes over another's change."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(changes: Sequence[Change], *, force: bool = False) -> None:
    """Write files, all or none; `force` writes over those that are there.

    Raises `GeneratorError` naming the files that are there already, `FilesNotWritten` where the system refused.
    """
    _refuse_folders(changes)
    if not force:
        _refuse_what_is_there(changes)
    before = {change.path: _bytes_of(change.path) for change in changes}
    folders: list[Path] = []
    path = Path()
    try:
        for change in changes:
            path = change.path
            folders += _made_folders(change.path.parent)
            _draft(change)
        for change in changes:
            path = change.path
            _drafted(path).replace(path.resolve())
    except OSError as error:
        _take_back(before, folders)
        raise FilesNotWritten(f"{path}: {error.strerror}; nothing was written") from error


def _refuse_folders(changes: Sequence[Change]) -> None:
    for change in changes:
        if change.path.is_dir():
            raise GeneratorError(f"{change.path} is a folder; a file is to be written there")


def _refuse_what_is_there(changes: Sequence[Change]) -> None:
    there = [change.path for change in changes if not change.updates and os.path.lexists(change.path)]
    if there:
        names = " and ".join(map(str, there))
        raise GeneratorError(
            f"{names} {'is' if len(there) == 1 else 'are'} there already; --force writes over what is there"
        )


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _made_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; give those that were not there, the lowest last."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _draft(change: Change) -> None:
    """Write a file beside the one it will replace, open to nobody else than that one is."""
    path, draft = change.path, _drafted(change.path)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666
    draft.unlink(missing_ok=True)
    draft.touch(mode)
    draft.write_bytes(change.text.encode())


def _drafted(path: Path) -> Path:
    real = path.resolve()
    return real.with_name(f".{real.name}.draft")


def _take_back(before: dict[Path, bytes | None], folders: list[Path]) -> None:
    """Put everything back, as far as the system lets us."""
    for path, content in before.items():
        with suppress(OSError):
            _drafted(path).unlink(missing_ok=True)
        with suppress(OSError):
            if content is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                path.write_bytes(content)
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()
