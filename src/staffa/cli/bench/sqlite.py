"""Measure on a SQLite file of its own, beside the configured one: the same disk, nobody's jobs."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from staffa._clock import instant, utc_now
from staffa.cli.bench.place import QUEUE, Raw, in_peace
from staffa.engines._sql.rows import TAKE_BITS
from staffa.engines._sql.statements import statement
from staffa.engines._sqlite_writer import PRAGMAS
from staffa.engines.sqlite import LEADER_CHECKPOINT_PAGES, path_of
from staffa.errors import ConfigError
from staffa.instance import Staffa

LAST_WORD_SECONDS = 2.0


class SqliteBench:
    """The disk of one SQLite file."""

    hears_across_processes = False

    def __init__(self, url: str) -> None:
        path = path_of(url)
        self._parent = Path(tempfile.gettempdir()) if path == ":memory:" else Path(path).parent
        self._folders: list[Path] = []

    @contextmanager
    def room(self) -> Iterator[SqliteRoom]:
        folder = self._parent / f".staffa-bench-{uuid4().hex[:12]}"
        self._folders.append(folder)
        try:
            folder.mkdir()
        except OSError as error:
            raise ConfigError(
                f"database: nothing can be written in {self._parent}: {error.strerror}"
            ) from error
        yield SqliteRoom(folder / "bench.db")
        in_peace(self.clear)

    def clear(self) -> None:
        """Delete folders, again while an interrupted instance still writes there."""
        deadline = time.monotonic() + LAST_WORD_SECONDS
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
            while folder.exists() and time.monotonic() < deadline:
                time.sleep(LAST_WORD_SECONDS / 100)
                shutil.rmtree(folder, ignore_errors=True)
        self._folders.clear()


class SqliteRoom:
    """A file that is gone soon."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def staffa(self, limit: int, *, runs: bool = True) -> Staffa:
        return Staffa(f"sqlite:///{self._path.absolute()}", queues={QUEUE: limit}, run_queues=runs)

    @contextmanager
    def raw(self) -> Iterator[Raw]:
        staffa = self.staffa(1, runs=False)
        staffa.migrate()
        staffa.close()
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            for pragma in (
                *PRAGMAS,
                "journal_mode = wal",
                f"wal_autocheckpoint = {LEADER_CHECKPOINT_PAGES}",
            ):
                connection.execute(f"pragma {pragma}")
            yield RawSqlite(connection)


class RawSqlite:
    """The statements on the standard library's connection, with the settings that Staffa's leader uses."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self._producer = connection, str(uuid4())
        self._insert = _parts("insert_jobs")
        self._exchange = _parts("exchange_jobs")
        connection.execute(
            "insert into staffa_producers (id, node, queue, capacity) values (?, 'bench', ?, 1)",
            [self._producer, QUEUE],
        )

    def insert(self, jobs: Mapping[str, str]) -> None:
        self._together(self._insert, {**jobs})

    def exchange(self, fences: Sequence[int], demand: int) -> list[tuple[int, int]]:
        values = {
            "fences": f"[{','.join(map(str, fences))}]",
            "producer": self._producer,
            "node": "bench",
            "queue": QUEUE,
            "demand": demand,
        }
        [(_, taken, _)] = self._together(self._exchange, values)
        return [divmod(each, 1 << TAKE_BITS) for each in msgspec.json.decode(taken)]

    def arrival(self, job: Mapping[str, str]) -> tuple[int, int]:
        self.insert(job)
        [taken] = self.exchange([], 1)
        return taken

    def _together(self, parts: Sequence[str], values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run the parts of a statement in one transaction."""
        values["now"] = instant(utc_now())
        self._connection.execute("begin immediate")
        rows: list[tuple[Any, ...]] = []
        for part in parts:
            rows += self._connection.execute(part, values).fetchall()
        self._connection.execute("commit")
        return rows


def _parts(name: str) -> list[str]:
    return [part for part in (part.strip() for part in f"{statement('sqlite', name)}\n".split(";\n")) if part]
