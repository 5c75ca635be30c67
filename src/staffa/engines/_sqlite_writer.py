"""The one thread that owns a connection to SQLite."""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

from staffa._bridge import at_once
from staffa.engines._containment import teach
from staffa.engines._sqlite_exchange import WriterSession, make_step
from staffa.engines._sqlite_session import LONGEST_LOCK_SECONDS, SqliteSession, translated
from staffa.errors import ConfigError, DatabaseBusy, DatabaseError, DatabaseUnavailable
from staffa.notifier import INSERT, Payload

logger = logging.getLogger("staffa")

T = TypeVar("T")
Body = Callable[[SqliteSession], Coroutine[Any, Any, T]]
Tell = Callable[[str, Sequence[Payload]], None]


class Notice(NamedTuple):
    """What somebody told on a channel, as it was written."""

    channel: str
    text: str


class News(NamedTuple):
    """What became of the file: whether another connection wrote into it, and the notices since the last news."""

    from_elsewhere: bool
    notices: list[Notice]


Hear = Callable[[News], None]

OLDEST = (3, 35, 0)
LARGEST_GROUP = 256
LONGEST_HEAD_START_SECONDS = 0.001
SOON, SELDOM = 0.004, 0.04  # seconds between looks for changes, while others write and while nobody does
OTHERS_WRITE_SECONDS = 1.0
BACKSTOP_CHECKPOINT_PAGES = 100_000
PRAGMAS = (
    "synchronous = normal",
    "cache_size = -16000",  # kibibytes; with 2000, indexes of a million jobs are read anew all the time
    "temp_store = memory",  # else each transaction that changes a few pages makes a file of its own for a moment
    "ignore_check_constraints = on",  # we write no other states, and SQLite lists them anew for every row it checks
)
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


class HeadStart:
    """Lets the writer reach its longest step before callers go on: up to there, both need Python's lock."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._in_step = False

    def give(self) -> None:
        """Wait until the writer is in that step; never for long."""
        self._gate.acquire(blocking=False)
        if not self._in_step:
            self._gate.acquire(timeout=LONGEST_HEAD_START_SECONDS)

    def __enter__(self) -> None:
        self._in_step = True
        if self._gate.locked():
            self._gate.release()

    def __exit__(self, *_: object) -> None:
        self._in_step = False


class Word(NamedTuple):
    """A word of the engine, and who waits for its answer."""

    body: Body[Any]
    future: Future[Any]
    exchanges: bool = False  # many jobs, and begins what it needs, where it has no neighbours


class Task(NamedTuple):
    """What is done with the connection itself, outside of transactions."""

    body: Callable[[sqlite3.Connection], object]
    future: Future[Any]


Waiting: TypeAlias = "queue.SimpleQueue[Word | Task | None]"  # None is the end


class Writer:
    """The one thread that owns a connection, and commits whatever has gathered while it was busy."""

    def __init__(self, path: str, *, tell: Tell | None = None, reads_only: bool = False) -> None:
        self._path, self._tell, self._reads_only = path, tell, reads_only
        self._waiting: Waiting = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid: int | None = None
        self._hear: Hear | None = None
        self._read = 0
        self._unread = False
        self._head_start = HeadStart()
        self._others_wrote = 0.0
        self._pragmas: dict[str, int] = {"wal_autocheckpoint": BACKSTOP_CHECKPOINT_PAGES}

    def watch(self, hear: Hear) -> Future[Any]:
        """Give news from this thread, whenever another connection has committed or somebody left a notice.

        The answer comes as soon as nothing that is told from then on will be missed.
        """

        def begin(db: sqlite3.Connection) -> None:
            [(self._read,)] = at_once(SqliteSession(db).run("newest_notice"))
            self._hear = hear

        return self._soon(begin)

    def look_away(self) -> None:
        """Watch no longer."""
        self._hear = None
        if self._thread is not None:
            self._soon(lambda _: self._forget())  # a watch may be about to begin

    def _forget(self) -> None:
        self._hear = None

    def do(self, body: Body[T]) -> Future[T]:
        """Run a word in a transaction that it may share with its neighbours; an error undoes it alone."""
        future: Future[T] = Future()
        self._put(Word(body, future))
        return future

    def exchange(self, body: Body[T]) -> Future[T]:
        """Run a large exchange in one step; where it has no neighbours, it begins and commits what it needs."""
        future: Future[T] = Future()
        self._put(Word(body, future, exchanges=True))
        return future

    def give_head_start(self) -> None:
        """Let this thread begin what waits before the calling one goes on, which waits a millisecond at most."""
        if not self._waiting.empty():
            self._head_start.give()

    def pragma(self, name: str, value: int) -> None:
        self._pragmas[name] = value
        if self._thread is not None:
            self._soon(lambda db: db.execute(f"pragma {name} = {value}").close())

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

    def _soon(self, body: Callable[[sqlite3.Connection], object]) -> Future[Any]:
        future: Future[Any] = Future()
        self._put(Task(body, future))
        return future

    def _put(self, item: Word | Task) -> None:
        if self._pid not in (None, os.getpid()):
            raise DatabaseError(
                "this Staffa was used before a fork; SQLite's locks do not survive one: make a Staffa in each process"
            )
        if threading.current_thread() is self._thread:
            raise DatabaseError(
                "this is called from within a change of the same database, which waits for it: "
                "ask for what it needs before"
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
            group = _gather(waiting, None if db is None else self._pause)
            if group is None:
                break
            try:
                if db is None:
                    db, seen = _open(self._path, self._pragmas, reads_only=self._reads_only), 0
            except Exception as error:  # noqa: BLE001 - told to whoever waits
                _fail_all(group, error)
                continue
            if group and not self._serve(db, group) and self._path != ":memory:":
                db.close()
                db = None
                continue
            seen = self._look(db, seen)
        if db is not None:
            db.close()

    @property
    def _pause(self) -> float | None:
        """Tell for how long to wait for words before looking what others wrote; None where there is nothing to see."""
        if self._hear is None or self._path == ":memory:":
            return None
        return SOON if time.monotonic() - self._others_wrote < OTHERS_WRITE_SECONDS else SELDOM

    def _serve(self, db: sqlite3.Connection, group: Sequence[Word | Task]) -> bool:
        """Answer everyone who waits; tell whether the connection is still good."""
        for each in group:
            if isinstance(each, Task):
                _do(each, db)
        words = [
            each for each in group if isinstance(each, Word) and each.future.set_running_or_notify_cancel()
        ]
        if not words:
            return True
        try:
            answers = _looks(db, words) if self._reads_only else self._transaction(db, words)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits; this thread goes on for the others
            refusal = translated(error) if isinstance(error, sqlite3.Error) else error
            with suppress(sqlite3.Error):
                db.rollback()
            _fail_all(words, refusal)
            return isinstance(refusal, DatabaseBusy)
        for word, (answer, error_alone) in zip(words, answers, strict=True):
            if error_alone is not None:
                word.future.set_exception(error_alone)
            else:
                word.future.set_result(answer)
        return not (self._reads_only and any(type(error) is DatabaseUnavailable for _, error in answers))

    def _transaction(
        self, db: sqlite3.Connection, words: Sequence[Word]
    ) -> list[tuple[Any, BaseException | None]]:
        """Run words in one transaction, each undone alone if it fails."""
        session = WriterSession(db, self._head_start)
        together = len(words) > 1
        answers: list[tuple[Any, BaseException | None]] = []
        if together or not words[0].exchanges:
            db.execute("begin immediate")
        for word in words:
            session.exchanges = word.exchanges
            if together:
                db.execute("savepoint word")
            told = len(session.told)
            try:
                answers.append((at_once(word.body(session)), None))
            except BaseException as error:
                if not db.in_transaction:
                    raise
                db.execute("rollback to word" if together else "rollback")
                del session.told[told:]
                answers.append((None, error))
            if together:
                db.execute("release word")
        if db.in_transaction:
            db.execute("commit")
        self._unread |= session.left_notices
        if self._tell is not None and session.told:
            self._tell(INSERT, session.told)
        return answers

    def _look(self, db: sqlite3.Connection, seen: int) -> int:
        """Give news, if another connection has committed since the version seen; return the version."""
        hear = self._hear  # which another thread may take away at any moment
        if hear is None:
            return seen
        version = _data_version(db)
        if version == seen and not self._unread:
            return seen
        try:
            rows = at_once(SqliteSession(db).run("read_notices", after=self._read))
        except DatabaseError:
            return seen  # and look again
        self._unread = False
        if version != seen:
            self._others_wrote = time.monotonic()
        if rows:
            self._read = rows[-1][0]
        try:
            hear(News(version != seen, [Notice(channel, text) for _, channel, text in rows]))
        except Exception:
            logger.exception("news of %s could not be passed on", self._path)
        return version


def _gather(waiting: Waiting, pause: float | None) -> list[Word | Task] | None:
    """Wait for a word and take what came with it; none when the pause is over, if there is one.

    Nothing is taken behind a large exchange, so that its jobs run while the next words are done.
    """
    group: list[Word | Task] = []
    try:
        item = waiting.get(timeout=pause)
        while item is not None:
            group.append(item)
            if len(group) == LARGEST_GROUP or (isinstance(item, Word) and item.exchanges):
                return group
            item = waiting.get_nowait()
    except queue.Empty:
        return group
    if group:
        waiting.put(None)  # which comes next
    return group or None


def _looks(db: sqlite3.Connection, words: Sequence[Word]) -> list[tuple[Any, BaseException | None]]:
    """Answer words that only read, without a transaction around them: there is nothing to undo."""
    session = SqliteSession(db)
    answers: list[tuple[Any, BaseException | None]] = []
    for word in words:
        try:
            answers.append((at_once(word.body(session)), None))
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            answers.append((None, error))
    return answers


def _do(task: Task, db: sqlite3.Connection) -> None:
    if not task.future.set_running_or_notify_cancel():
        return
    try:
        task.future.set_result(task.body(db))
    except (sqlite3.Error, DatabaseError) as error:
        task.future.set_exception(error)


def _fail_all(group: Sequence[Word | Task], error: BaseException) -> None:
    for each in group:
        if each.future.running() or each.future.set_running_or_notify_cancel():
            each.future.set_exception(error)


def _data_version(db: sqlite3.Connection) -> int:
    try:
        (version,) = db.execute("pragma data_version").fetchone()
    except sqlite3.Error:
        return 0
    return int(version)


# Opening


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
        for pragma in PRAGMAS:
            db.execute(f"pragma {pragma}")
        teach(db, db.execute)
        if path != ":memory:":
            db.execute("pragma journal_mode = wal")
        for name, value in pragmas.items():
            db.execute(f"pragma {name} = {value}")
        if reads_only:
            db.execute("pragma query_only = on")
        else:
            make_step(db)
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        where = translated(error)
        raise type(where)(f"{path}: {where}") from error
    return db


def network_file_system(path: str) -> str | None:
    """Name the network file system on which a file lies, and where that begins; None where it is none."""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return None
    points = {fields[1]: fields[2] for line in mounts if len(fields := line.split()) > 2}  # noqa: PLR2004 - device, point, type
    folder = Path(path).resolve().parent
    nearest = next((str(each) for each in (folder, *folder.parents) if str(each) in points), None)
    if nearest is None or points[nearest] not in NETWORK_FILE_SYSTEMS:
        return None
    return f"{points[nearest]} at {nearest}"


def _refuse_network(path: str) -> None:
    """Refuse files on network file systems, whose locks SQLite cannot trust."""
    if found := network_file_system(path):
        raise ConfigError(
            f"{path} lies on a network file system ({found}), where SQLite corrupts: "
            "move it to a local disk, or use PostgreSQL"
        )
