"""SQLite: one file, one writer, no server."""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

import msgspec

from staffa._bridge import at_once
from staffa._clock import utc_now
from staffa._job import AnyJob, Job, State
from staffa._lifecycle import instant
from staffa.engine import Engine
from staffa.engines._sql.engine import Row, Session, SqlEngine, lists, objects
from staffa.engines._sql.statements import migrations, statement
from staffa.errors import (
    ConfigError,
    DatabaseBusy,
    DatabaseError,
    DatabaseUnavailable,
    SchemaMissing,
    UnstorableData,
    UnsupportedConnection,
)
from staffa.notifier import Notifier, Payload
from staffa.notifiers.local import LocalNotifier

T = TypeVar("T")
decode = msgspec.json.Decoder().decode

Waiting: TypeAlias = "queue.SimpleQueue[Any]"  # words with their futures, tasks, and None: the end
Tell = Callable[[str, Sequence[Payload]], None]
Body = Callable[[Session], Coroutine[Any, Any, T]]
Execute = Callable[..., Iterable[Row]]

OLDEST = (3, 35, 0)
SAFE_FOR_MANY = (3, 51, 3)
LONGEST_LOCK_SECONDS = 5.0
LARGEST_GROUP = 256
CHANGE_CHECK_SECONDS = 0.01
LEADER_CHECKPOINT_PAGES = 1_000
BACKSTOP_CHECKPOINT_PAGES = 100_000
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "lustre",
    }
)
BUSY = (
    f"another connection has held SQLite's write lock for more than {LONGEST_LOCK_SECONDS:.0f} s; "
    "if it is your own open transaction, enqueue inside it with using(connection=...)"
)
IN_MEMORY = "a database in memory has one connection, and no other can join it: connection= needs a file"


class SqliteDatabase:
    """One SQLite file, or one database in memory. Its tables are made on first use."""

    dialect, schema, channel = "sqlite", None, None

    def __init__(self, url: str) -> None:
        self.path = path_of(url)
        self._notifier = LocalNotifier()
        self.writer = Writer(self.path, tell=self._notifier.tell)
        self.reader = self.writer if self.path == ":memory:" else Writer(self.path, reads_only=True)
        self.has_tables = False
        self._engine, self._plain = SqlEngine(Awaited(self)), SqlEngine(Blocking(self))

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def plain(self) -> Engine:
        return self._plain

    @contextmanager
    def alone(self) -> Iterator[Engine]:
        """Use the writer's thread: it beats whatever the event loop does."""
        yield self._plain

    def joined(self, connection: Any) -> Engine:
        if not isinstance(connection, sqlite3.Connection):
            raise UnsupportedConnection(
                f"this instance keeps its jobs in SQLite; it cannot join a {type(connection).__module__}."
                f"{type(connection).__qualname__}: give a sqlite3.Connection to {self.path}"
            )
        if self.path == ":memory:":
            raise UnsupportedConnection(IN_MEMORY)
        with _translating():
            self._prepare(connection)
        return SqlEngine(Joined(connection))

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Refuse a connection that would commit by itself; make the tables it will need."""
        if _commits_by_itself(connection):
            raise UnsupportedConnection(
                "this connection is in no transaction and would commit at once: begin one first"
            )
        if connection.in_transaction:
            self.make_tables_inside(_own_rows(connection))
        else:
            self.make_tables()

    def notifier(self) -> Notifier:
        return self._notifier

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.make_tables)
        self.writer.watch(self._notifier.changed)

    async def close(self) -> None:
        self.leading(leads=False)
        self.writer.watch(None)

    def dispose(self) -> None:
        self.writer.stop()
        self.reader.stop()

    def migrate(self) -> list[int]:
        applied = self.writer.do(_migrate).result()
        self.has_tables = True
        return applied

    def make_tables(self) -> None:
        if not self.has_tables:
            self.migrate()

    def make_tables_inside(self, execute: Execute) -> None:
        """Make missing tables in a caller's transaction, which keeps everyone else from making them."""
        if not self.has_tables:
            with _translating():
                apply_missing(execute)

    def leading(self, *, leads: bool) -> None:
        """Let only the leader checkpoint; others would race it (sqlite.org/wal.html, the WAL-reset bug)."""
        self.writer.pragma(
            "wal_autocheckpoint", LEADER_CHECKPOINT_PAGES if leads else BACKSTOP_CHECKPOINT_PAGES
        )


# Connections: how a word gets its session


class Awaited:
    """Words are awaited; the writer's thread runs each from its first to its last statement."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def write(self, body: Body[T]) -> T:
        await self._ready()
        return await asyncio.wrap_future(self._database.writer.do(body))

    async def read(self, body: Body[T]) -> T:
        await self._ready()
        return await asyncio.wrap_future(self._database.reader.do(body))

    async def _ready(self) -> None:
        if not self._database.has_tables:
            await asyncio.get_running_loop().run_in_executor(None, self._database.make_tables)


class Blocking:
    """Words block until the writer's thread has run them, so their coroutines never wait."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def write(self, body: Body[T]) -> T:
        self._database.make_tables()
        return self._database.writer.do(body).result()

    async def read(self, body: Body[T]) -> T:
        self._database.make_tables()
        return self._database.reader.do(body).result()


class Joined:
    """Words run at once on a connection that the caller owns; its transaction is never begun or ended here."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._session = SqliteSession(connection)

    def write(self, body: Body[T]) -> Awaitable[T]:
        return body(self._session)

    read = write


class SqliteSession:
    """Statements on one connection."""

    def __init__(self, connection: sqlite3.Connection, tell: Tell | None = None) -> None:
        self._connection, self._tell = connection, tell

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Tell this process; others see that the file changed."""
        if self._tell is not None:
            self._tell(channel, payloads)

    async def run(self, name: str, **params: Any) -> list[Row]:
        values = {key: _encoded(value) for key, value in params.items()}
        values["now"] = instant(params.get("now") or utc_now())
        try:
            cursor = self._connection.cursor()
            cursor.row_factory = None
            rows: list[Row] = []
            for sql in _statements(name):
                rows += cursor.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error) from error
        return rows

    def together(self) -> nullcontext[None]:
        """Do nothing: the whole word is one transaction already."""
        return nullcontext()

    def job(self, row: Row) -> AnyJob:
        return _job(row)


class Writer:
    """The one thread that owns a connection, and commits whatever has gathered while it was busy."""

    def __init__(self, path: str, *, tell: Tell | None = None, reads_only: bool = False) -> None:
        self._path, self._tell, self._reads_only = path, tell, reads_only
        self._waiting: Waiting = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid: int | None = None
        self._changed: Callable[[], None] | None = None
        self._pragmas: dict[str, int] = {"wal_autocheckpoint": BACKSTOP_CHECKPOINT_PAGES}

    def watch(self, call: Callable[[], None] | None) -> None:
        """Call from this thread whenever another connection has committed, or no longer."""
        self._changed = call
        if self._thread is not None:
            self._put(lambda _: None)

    def do(self, body: Body[T]) -> Future[T]:
        """Run a word in a transaction that it may share with its neighbours; an error undoes it alone."""
        future: Future[T] = Future()
        self._put((body, future))
        return future

    def pragma(self, name: str, value: int) -> None:
        self._pragmas[name] = value
        if self._thread is not None:
            self._put(lambda db: db.execute(f"pragma {name} = {value}").close())

    def stop(self) -> None:
        """Answer all that waits, and let go of the connection; a later call opens another."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._waiting.put(None)
            if self._pid == os.getpid():
                self._pid = None
        if thread is not None:
            thread.join()

    def _put(self, item: Any) -> None:
        if self._pid not in (None, os.getpid()):
            raise DatabaseError(
                "this Staffa was used before a fork; SQLite's locks do not survive one: make a Staffa in each process"
            )
        with self._lock:
            if self._thread is None:
                self._pid = os.getpid()
                self._waiting = queue.SimpleQueue()  # the old one belongs to the thread that was stopped
                kind = "reader" if self._reads_only else "writer"
                self._thread = threading.Thread(
                    target=self._run, args=[self._waiting], name=f"staffa sqlite {kind}", daemon=True
                )
                self._thread.start()
            self._waiting.put(item)

    def _run(self, waiting: Waiting) -> None:
        db: sqlite3.Connection | None = None
        seen = 0
        while True:
            group = _gather(waiting, listening=db is not None and self._changed is not None)
            if group is None:
                break
            try:
                db = db or _open(self._path, self._pragmas, reads_only=self._reads_only)
            except Exception as error:  # noqa: BLE001 - told to whoever waits
                _fail_all(group, error)
                continue
            if not self._serve(db, group) and self._path != ":memory:":
                db.close()
                db = None
                continue
            changed = self._changed  # which another thread may take away at any moment
            if changed is not None and (version := _data_version(db)) != seen:
                seen = version
                changed()
        if db is not None:
            db.close()

    def _serve(self, db: sqlite3.Connection, group: Sequence[Any]) -> bool:
        """Answer everyone who waits; tell whether the connection is still good."""
        for task in group:
            if callable(task):
                with suppress(sqlite3.Error):
                    task(db)
        words = [task for task in group if not callable(task) and task[1].set_running_or_notify_cancel()]
        if not words:
            return True
        try:
            answers = self._transaction(db, words)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            refusal = translated(error) if isinstance(error, sqlite3.Error) else error
            with suppress(sqlite3.Error):
                db.rollback()
            _fail_all(words, refusal)
            return isinstance(refusal, DatabaseBusy)
        for (_, future), (answer, error_alone) in zip(words, answers, strict=True):
            if error_alone is not None:
                future.set_exception(error_alone)
            else:
                future.set_result(answer)
        return True

    def _transaction(
        self, db: sqlite3.Connection, words: Sequence[Any]
    ) -> list[tuple[Any, Exception | None]]:
        """Run words in one transaction, each undone alone if it fails."""
        session = SqliteSession(db, self._tell)
        answers: list[tuple[Any, Exception | None]] = []
        db.execute("begin" if self._reads_only else "begin immediate")
        for body, _ in words:
            db.execute("savepoint word")
            try:
                answers.append((at_once(body(session)), None))
            except Exception as error:
                if not db.in_transaction:
                    raise
                db.execute("rollback to word")
                answers.append((None, error))
            db.execute("release word")
        db.execute("commit")
        return answers


def _gather(waiting: Waiting, *, listening: bool) -> list[Any] | None:
    """Wait for a word and take what came with it; empty when only the time for a change check has come."""
    try:
        first = waiting.get(timeout=CHANGE_CHECK_SECONDS if listening else None)
    except queue.Empty:
        return []
    group = [first]
    with suppress(queue.Empty):
        while len(group) < LARGEST_GROUP and group[-1] is not None:
            group.append(waiting.get_nowait())
    if group[-1] is None:
        if len(group) == 1:
            return None
        waiting.put(None)
    return group[:-1] if group[-1] is None else group


# Opening


def path_of(url: str) -> str:
    """Find the file in a URL as SQLAlchemy writes it: `sqlite:///relative.db`, `sqlite:////absolute.db`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] != "sqlite":
        raise ConfigError(
            f"{url!r} is no SQLite URL: write sqlite:///relative.db or sqlite:////absolute/path.db"
        )
    path = unquote(rest.partition("?")[0].removeprefix("/"))
    if rest and not rest.startswith("/"):
        raise ConfigError(
            f"{url!r} names a host; SQLite has none: write sqlite:///{rest} for a relative path"
        )
    return str(Path(path).absolute()) if path not in ("", ":memory:") else ":memory:"


def _open(path: str, pragmas: dict[str, int], *, reads_only: bool) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < OLDEST:
        raise ConfigError(f"SQLite {sqlite3.sqlite_version} is too old: Staffa needs 3.35 or newer")
    if path != ":memory:":
        _refuse_network(path)
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(
            path, isolation_level=None, timeout=LONGEST_LOCK_SECONDS, check_same_thread=False
        )
        db.execute("pragma synchronous = normal")
        if path != ":memory:":
            db.execute("pragma journal_mode = wal")
        for name, value in pragmas.items():
            db.execute(f"pragma {name} = {value}")
        if reads_only:
            db.execute("pragma query_only = on")
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        where = translated(error)
        raise type(where)(f"{path}: {where}") from error
    return db


def _refuse_network(path: str) -> None:
    """Refuse files on network file systems, whose locks SQLite cannot trust."""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return
    points = {fields[1]: fields[2] for line in mounts if len(fields := line.split()) > 2}  # noqa: PLR2004 - device, point, type
    folder = Path(path).resolve().parent
    nearest = next((str(each) for each in (folder, *folder.parents) if str(each) in points), None)
    if nearest is not None and points[nearest] in NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"{path} lies on a network file system ({points[nearest]} at {nearest}), where SQLite corrupts: "
            "move it to a local disk, or use PostgreSQL"
        )


async def _migrate(session: Session) -> list[int]:
    """Apply missing versions; the write lock keeps everyone else out meanwhile."""
    db = session._connection  # type: ignore[attr-defined]  # noqa: SLF001 - migrations are scripts, not statements
    with _translating():
        return apply_missing(db.execute)


def apply_missing(execute: Execute) -> list[int]:
    """Apply missing versions in the transaction of whoever executes; give them."""
    execute(
        "create table if not exists staffa_schema (version integer primary key, applied_at text not null"
        " default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')))"
    )
    done = {row[0] for row in execute(statement("sqlite", "schema_versions"))}
    missing = {version: sql for version, sql in migrations("sqlite").items() if version not in done}
    for version, sql in missing.items():
        for one in _split(sql):
            execute(one)
        execute(statement("sqlite", "record_version"), {"version": version})
    return list(missing)


def _own_rows(connection: sqlite3.Connection) -> Execute:
    """Execute on a connection whose owner may have chosen another kind of rows."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute


def _commits_by_itself(connection: sqlite3.Connection) -> bool:
    autocommit = getattr(connection, "autocommit", -1)  # Python 3.12 and later; -1 is the older way
    no_implicit = connection.isolation_level is None if autocommit == -1 else bool(autocommit)
    return no_implicit and not connection.in_transaction


# Values


def _statements(name: str) -> list[str]:
    if name not in _split_statements:
        _split_statements[name] = _split(statement("sqlite", name))
    return _split_statements[name]


_split_statements: dict[str, list[str]] = {}


def _split(script: str) -> list[str]:
    """Part a script at semicolons that end a line."""
    return [part for part in (part.strip() for part in (script + "\n").split(";\n")) if part]


def _encoded(value: Any) -> Any:
    match value:
        case list():
            return msgspec.json.encode(value).decode()
        case datetime():
            return instant(value.astimezone(UTC))
        case _:
            return value


def _job(row: Row) -> AnyJob:
    return Job(
        id=row[0],
        state=State(row[1]),
        queue=row[2],
        worker=row[3],
        args=_from_json(row[4]),
        meta=objects(_from_json(row[5])),
        tags=lists(_from_json(row[6])),
        errors=lists(_from_json(row[7])),
        attempt=row[8],
        max_attempts=row[9],
        priority=row[10],
        inserted_at=_instant(row[11]),
        scheduled_at=_instant(row[12]),
        attempted_at=_instant(row[13]),
        completed_at=_instant(row[14]),
        discarded_at=_instant(row[15]),
        cancelled_at=_instant(row[16]),
        attempted_by=lists(_from_json(row[17])),
        take=row[18],
        unique_key=row[19],
    )


def _from_json(value: Any) -> Any:
    """Read JSON; keep what is none, or too deep to read, so that one odd row stops nobody."""
    try:
        return decode(value)
    except (msgspec.DecodeError, TypeError, RecursionError):
        return value


def _instant(text: str | None) -> datetime | None:
    """Read an instant, also as other programs may write it; None where it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _data_version(db: sqlite3.Connection) -> int:
    try:
        (version,) = db.execute("pragma data_version").fetchone()
    except sqlite3.Error:
        return 0
    return int(version)


def _fail_all(group: Sequence[Any], error: Exception) -> None:
    for task in group:
        if not callable(task):
            _, future = task
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(error)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error) from error


def translated(error: sqlite3.Error) -> DatabaseError:
    """Name SQLite's errors in our words."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return DatabaseBusy(BUSY)
    if "no such table" in text or "no such column" in text:
        return SchemaMissing(f"{text}: run `staffa migrate` on this database first")
    if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError | sqlite3.InterfaceError):
        return UnstorableData(text)
    if isinstance(error, sqlite3.OperationalError) or "closed database" in text:
        return DatabaseUnavailable(text)
    return DatabaseError(text)
