"""Files that are whole or absent, and that stay where they belong."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

BLOCK = 256 * 1024
PART = ".part"


def make_folder(folder: Path) -> None:
    """Make a folder that only this user can look into."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """A file to write that appears under its name when all of it is safely on disk, or not at all."""
    part = target.with_name(f"{target.name}.{secrets.token_hex(8)}{PART}")

    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

        part.replace(target)
        _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def copy_into(source: Path, target: BinaryIO, *, seen: Callable[[bytes], object] = len) -> int:
    """Append a file's bytes to an open one, block by block, showing each to `seen`; return how many."""
    copied = 0

    with source.open("rb") as file:
        while block := file.read(BLOCK):
            seen(block)
            target.write(block)
            copied += len(block)

    return copied


def is_below(path: Path, root: Path) -> bool:
    """Whether a path, all symbolic links followed, lies below a folder."""
    resolved, top = path.resolve(), root.resolve()
    return resolved != top and resolved.is_relative_to(top)


def remove_file(path: Path, *, below: Path) -> bool:
    """Remove a file if it is there and lies below a folder; say whether it was removed."""
    if not is_below(path, below) or not path.is_file():
        return False

    path.unlink(missing_ok=True)
    return True


def remove_folder(path: Path, *, below: Path) -> None:
    """Remove a folder and what is in it if it lies below another; absence is fine."""
    if is_below(path, below):
        shutil.rmtree(path, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)

    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
