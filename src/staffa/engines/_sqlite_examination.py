"""What can be wrong with a SQLite file, seen by one who only looks."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from staffa._finding import Finding, fine, notice, problem
from staffa.engines._sql.migrations import migrations
from staffa.engines._sql.statements import statement
from staffa.engines._sqlite_writer import OLDEST, network_file_system

SAFE_FOR_MANY = (3, 51, 3)
"""The first SQLite without the bug by which several writers can, in rare cases, corrupt a file in WAL mode."""

LARGEST_CHECKED = 256 * 1024**2
LARGE_LOG = 256 * 1024**2
LITTLE_SPACE = 256 * 1024**2
LOCK_SECONDS = 1.0


def examine(path: str) -> Iterator[Finding]:
    """Look at the library, the file and the disk under it. Nothing is written."""
    yield library()
    if path == ":memory:":
        yield notice(
            "file", "jobs are kept in memory and end with this process", "name a file: sqlite:///app.db"
        )
        return
    yield from _place(Path(path))
    if not Path(path).exists():
        yield problem("file", f"{path}: there is no such file", "make it with `staffa migrate`")
        return
    try:
        with closing(
            sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS)
        ) as connection:
            connection.isolation_level = None
            for check in (_content, _tables, _lock):
                yield from check(connection, path)
    except sqlite3.Error as error:
        yield problem("file", f"{path}: {error}", "restore it from a backup if it is damaged")


def library() -> Finding:
    """Judge the SQLite that this Python was built with."""
    version, safe = sqlite3.sqlite_version, ".".join(map(str, SAFE_FOR_MANY))
    if sqlite3.sqlite_version_info < OLDEST:
        return problem("database", f"SQLite {version} is too old", "use a Python built with 3.35 or newer")
    if sqlite3.sqlite_version_info < SAFE_FOR_MANY:
        return notice(
            "database",
            f"SQLite {version} is older than {safe}, whose predecessors can in rare cases corrupt a file that"
            " several processes write",
            f"let one process write the file, or use a Python built with SQLite {safe} or newer",
        )
    return fine("database", f"SQLite {version}")


def _place(file: Path) -> Iterator[Finding]:
    folder = file.resolve().parent
    if not folder.is_dir():
        yield problem("disk", f"{folder}: there is no such folder", "make it, or name another file")
        return
    if kind := network_file_system(str(file)):
        yield problem("disk", f"{file} lies on {kind}, where SQLite corrupts", "move it to a local disk")
    if not os.access(folder, os.W_OK):
        yield problem("disk", f"{folder} cannot be written", "give this user the right to write there")
    free = shutil.disk_usage(folder).free
    if free < LITTLE_SPACE:
        yield problem("disk", f"{_megabytes(free)} are free under {folder}", "make room, or prune earlier")
    else:
        yield fine("disk", f"{_megabytes(free)} are free")
    log = Path(f"{file}-wal")
    if log.exists() and log.stat().st_size > LARGE_LOG:
        yield notice(
            "disk",
            f"{log} has grown to {_megabytes(log.stat().st_size)}",
            "some connection has been reading for long; end its transaction",
        )


def _content(connection: sqlite3.Connection, path: str) -> Iterator[Finding]:
    [[mode]] = connection.execute("pragma journal_mode").fetchall()
    size = Path(path).stat().st_size
    if size > LARGEST_CHECKED:
        yield fine("file", f"{_megabytes(size)}, {mode}; too large to be read whole here")
        return
    faults = [row[0] for row in connection.execute("pragma quick_check(3)")]
    if faults == ["ok"]:
        yield fine("file", f"{_megabytes(size)}, {mode}, whole")
    else:
        yield problem("file", f"{path} is damaged: {'; '.join(faults)}", "stop everything, restore a backup")


def _tables(connection: sqlite3.Connection, path: str) -> Iterator[Finding]:
    try:
        done = {row[0] for row in connection.execute(statement("sqlite", "schema_versions"))}
    except sqlite3.OperationalError:
        done = set()
    known = set(migrations("sqlite"))
    if missing := known - done:
        yield notice(
            "tables",
            f"{path} lacks version {min(missing)}",
            "it is made on first use, or by `staffa migrate`",
        )
    elif newer := [version for version in done if version > max(known)]:
        yield notice("tables", f"version {max(newer)} is not known to this Staffa", "upgrade Staffa here too")
    else:
        yield fine("tables", f"version {max(done)}")


def _lock(connection: sqlite3.Connection, path: str) -> Iterator[Finding]:
    try:
        connection.execute("begin immediate")
        connection.execute("rollback")
    except sqlite3.OperationalError as error:
        yield problem(
            "lock",
            f"{path} cannot be written: {error} for {LOCK_SECONDS:g} s",
            "some program keeps a write transaction open; find it with `fuser` or `lsof`, and end it",
        )
    else:
        yield fine("lock", "the file can be written")


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:,.1f} MB"
