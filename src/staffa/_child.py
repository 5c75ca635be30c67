"""The program of a process that runs jobs for another, one at a time."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import importlib
import io
import logging
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from staffa import _enqueuer
from staffa._arguments import undeclared
from staffa._dialogue import (
    Answered,
    Begin,
    Hurry,
    Logged,
    Perform,
    Raised,
    Ready,
    Stopped,
    Taken,
    Told,
    Unready,
    packed,
)
from staffa._executor import traced
from staffa._job import AnyJob, current, replace
from staffa._processes import become_child
from staffa._running import Running, Stop
from staffa.errors import InstanceError, InvalidArguments
from staffa.instance import Staffa, import_modules
from staffa.worker import Cancel, Error, Record, Snooze, Worker, find, is_async, performed

PROGRESS_SECONDS = 0.25
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
WELCOME_TO_THE_KILLER = "500"  # when memory runs out, the system should take us before our parent


def serve(parent: Connection[Any, Any]) -> None:
    """Run jobs until the parent has no more, or is no more."""
    sys.argv[:] = ["staffa"]
    _be_a_good_child()
    begin = parent.recv()
    _die_with(begin.parent)
    Service(parent, begin).run()


class Service:
    """Runs what the parent sends, and listens to it meanwhile."""

    def __init__(self, parent: Connection[Any, Any], begin: Begin) -> None:
        self._parent, self._begin = parent, begin
        self._pid = os.getpid()
        self._saying = threading.Lock()
        self._requests: queue.SimpleQueue[Perform | None] = queue.SimpleQueue()
        self._ready = False
        self._running: Running | None = None
        self._cancel: Callable[[], object] = lambda: None
        self._runner = asyncio.Runner()

    def run(self) -> None:
        self._log_to_parent()
        os.register_at_fork(after_in_child=self._let_go)
        threading.Thread(target=self._listen, name="staffa-parent", daemon=True).start()
        try:
            import_modules(self._begin.modules)
        except BaseException as error:  # noqa: BLE001 - whatever a module raises, the parent should know
            self._say(Unready(traced(error)))
            return
        own = self._own_instance()
        self._ready = True
        self._say(Ready())
        while (request := self._requests.get()) is not None:
            self._attempt(request)
        self._runner.close()
        if own is not None:
            own.close()

    def _own_instance(self) -> Staffa | None:
        """Let jobs enqueue jobs: a child has connections of its own, or none where nobody can reach its parent's."""
        begin = self._begin
        if begin.url is None:
            if begin.default:
                _enqueuer.prefer(Unreachable(begin.name))
            return None
        own = Staffa(begin.url, schema=begin.schema, name=begin.name, node=begin.node, run_queues=False)
        _enqueuer.withdraw(own)
        if begin.default:
            _enqueuer.prefer(own)
        return own

    # Jobs

    def _attempt(self, request: Perform) -> None:
        running = self._running or Running()
        said: Answered | Raised | Stopped
        try:
            said = Answered(packed(self._perform(request, running)), None)
        except BaseException as error:  # noqa: BLE001 - whatever a worker raises is its own failure
            if isinstance(error, asyncio.CancelledError) and running.stopped is not None:
                said = Stopped(None)
            else:
                summary = "".join(traceback.format_exception_only(error)).strip()
                said = Raised(packed(error), summary, traced(error), None)
        if running.heeded:
            said = Stopped(None)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        with self._saying:
            self._running = None
            self._send(msgspec.structs.replace(said, progress=running.told))

    def _perform(self, request: Perform, running: Running) -> Any:
        importlib.import_module(request.module)
        found = find(request.job.worker)
        worker = found()
        job = replace(request.job, args=found.shape.load(request.job.args), running=running)
        token = current.set(job)
        try:
            with _at_most(request.max_memory):
                if is_async(found):
                    return _plainly(self._runner.run(self._performed(worker, job)), worker)
                return _plainly(performed(worker, job), worker)
        finally:
            current.reset(token)

    async def _performed(self, worker: Worker, job: AnyJob) -> Any:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is not None:
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            if job.cancelled:
                raise asyncio.CancelledError
            return await worker.perform(job)
        finally:
            self._cancel = lambda: None
            if task is not None and task.cancelling():  # whatever it answers, it may be half done
                raise asyncio.CancelledError

    # The parent

    def _listen(self) -> None:
        """Hear the parent in a thread of its own, and tell it of progress."""
        while True:
            try:
                if self._running is not None and not self._parent.poll(PROGRESS_SECONDS):
                    self._tell_progress()
                    continue
                word = self._parent.recv()
            except (EOFError, OSError):
                return self._lose_parent()
            match word:
                case Perform():
                    self._say(Taken())
                    self._running = Running()
                    self._requests.put(word)
                case Hurry():
                    self._hurry()

    def _hurry(self) -> None:
        if (running := self._running) is not None:
            running.stopped = Stop.CANCELLED
            with suppress(RuntimeError):  # its loop has ended meanwhile
                self._cancel()

    def _lose_parent(self) -> None:
        if self._ready and self._running is None:
            self._requests.put(None)
        else:
            os.killpg(self._pid, signal.SIGKILL)

    def _tell_progress(self) -> None:
        with self._saying:
            running = self._running
            if running is not None and running.told is not None:
                told, running.told = running.told, None
                self._send(Told(told))

    def _say(self, word: object) -> None:
        if os.getpid() == self._pid:
            with self._saying:
                self._send(word)

    def _send(self, word: object) -> None:
        with suppress(OSError):  # nobody hears it any more
            self._parent.send(word)

    # Logging

    def _log_to_parent(self) -> None:
        for name, level in self._begin.levels.items():
            logging.getLogger(None if name == "root" else name).setLevel(level)
        logging.getLogger().addHandler(ToParent(lambda record: self._say(Logged(packed(record)))))

    def _let_go(self) -> None:
        """Keep what a job forks from speaking for it."""
        self._parent.close()
        logging.getLogger().handlers[:] = [logging.StreamHandler()]


class ToParent(QueueHandler):
    """Hands log records to the parent, which logs as it was configured to."""

    def __init__(self, hand: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(queue.SimpleQueue())  # which stays empty
        self._hand = hand

    def enqueue(self, record: logging.LogRecord) -> None:
        self._hand(record)


class Unreachable:
    """Stands for an instance whose jobs only its own process can reach."""

    default = True

    def __init__(self, name: str) -> None:
        self.name = name

    def insert(self, job: AnyJob, /, *, connection: Any = None) -> AnyJob:  # noqa: ARG002 - an Enqueuer
        raise InstanceError(
            f"{self.name} keeps its jobs in memory, where another process cannot enqueue:"
            ' use a file, or enqueue from a worker without executor="process"'
        )

    async def ainsert(self, job: AnyJob, /, *, connection: Any = None) -> AnyJob:
        return self.insert(job, connection=connection)


def _plainly(answer: object, worker: Worker) -> object:
    """Write what is to be recorded without types that the parent may not know."""
    if isinstance(answer, Cancel | Error | Snooze) or not (
        worker.options.recorded or isinstance(answer, Record)
    ):
        return answer
    value = answer.value if isinstance(answer, Record) else answer
    try:
        return Record(undeclared(value, "its result"))
    except InvalidArguments:
        return Record(value)  # which the parent refuses


# What the system is asked for


def _be_a_good_child() -> None:
    """Leave signals to the parent, lines to whoever reads them, and a trace where Python itself falls."""
    become_child()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which what a job starts would inherit
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    faulthandler.enable()


def _die_with(parent: int) -> None:
    """End with the parent, even while a job lets no other thread run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(WELCOME_TO_THE_KILLER, "ascii")
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def _at_most(memory: int | None) -> Iterator[None]:
    """Let what runs in this block take so many bytes; asking for more raises `MemoryError`."""
    if memory is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
