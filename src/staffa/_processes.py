"""Processes that run one job at a time each, and die alone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from multiprocessing.connection import Pipe
from typing import Any

from staffa._dialogue import (
    Answered,
    Begin,
    Hurry,
    Logged,
    Lost,
    Perform,
    Raised,
    Ready,
    Stopped,
    Taken,
    Told,
    Unready,
    unpacked,
)
from staffa._hands import RaisedApart
from staffa._job import AnyJob, replace
from staffa._running import Running, Stop
from staffa._threads import Threads
from staffa._worker_names import home
from staffa.errors import ProcessDied
from staffa.worker import Worker

# The path comes first: what follows may need it. `-P` keeps the working directory from hiding Python's own modules.
PROGRAM = (
    "import sys; from multiprocessing.connection import Connection; parent = Connection(int(sys.argv[1]));"
    " sys.path[:] = parent.recv(); from staffa._child import serve; serve(parent)"
)
START_SECONDS = 60.0
NOTICE_SECONDS = 0.5
FAREWELL_SECONDS = 2.0
LOOK_SECONDS = 1.0
JOBS_PER_CHILD = 1_000  # then a new one takes its place: the memory of long-lived processes only grows
SPARE_CHILDREN = os.cpu_count() or 1

_in_child = threading.Event()
in_child, become_child = _in_child.is_set, _in_child.set

Outcome = Answered | Raised | Stopped | ProcessDied


class InProcesses:
    """Children that are started when jobs want them and used again, each for one job at a time."""

    def __init__(self, threads: Threads, begin: Callable[[], Begin]) -> None:
        self._threads, self._begin = threads, begin
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._closed = False

    @asynccontextmanager
    async def process(self, running: Running) -> AsyncIterator[LentChild]:
        """Give a child that waits for a job; starting one may take a moment, which is not the job's time."""
        lent = LentChild(self, self.spare() or await self.started(running))
        try:
            yield lent
        finally:
            self._keep(lent.child)

    async def close(self) -> None:
        """Kill the children that run jobs, end the others."""
        self._closed = True
        idle, self._idle = self._idle, []
        for child in self._children.difference(idle):
            child.kill()
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, child.end) for child in idle))
        self._children.difference_update(idle)

    def spare(self) -> Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.lives:
                return child
            self._forget(child)  # somebody killed it
        return None

    async def started(self, running: Running) -> Child:
        if self._closed:
            raise _cut_off(running)
        # Started by the loop's own thread, at whose end Linux ends the child.
        child = Child(self._begin())
        self._children.add(child)
        waiting = self._in_thread(child.begun)
        try:
            await asyncio.wait([waiting], timeout=START_SECONDS)
        except asyncio.CancelledError:
            child.kill()
            self._forget(child)
            raise
        said = waiting.result() if waiting.done() else Unready(f"it did not start in {START_SECONDS:g} s")
        if isinstance(said, Ready):
            return child
        child.kill()
        self._forget(child)
        if self._closed:
            raise _cut_off(running)
        if isinstance(said, ProcessDied):
            raise said
        raise RaisedApart(
            ProcessDied("the process for this job could not start"),
            f"the process for this job could not start:\n{said.text}",
        )

    async def attended(self, child: Child, running: Running, request: Perform) -> Outcome:
        """Run a job in a child. Cancelled, it kills the child, after a short notice where there is time for one."""
        attending: asyncio.Future[Outcome] = self._in_thread(child.perform, running, request)
        try:
            await asyncio.wait([attending])
        except asyncio.CancelledError:
            if running.stopped not in (Stop.CANCELLED, Stop.SHUTDOWN) or not await self._hurried(
                child, attending
            ):
                child.kill()
                raise
            if isinstance(attending.result(), Stopped):
                raise
            _uncancel()  # it ended by itself: what it answered counts
        outcome: Outcome = attending.result()
        if isinstance(outcome, ProcessDied) and self._closed:
            raise _cut_off(running)
        return outcome

    async def _hurried(self, child: Child, attending: asyncio.Future[Outcome]) -> bool:
        """Ask a child to end its job, and tell whether it did so in time."""
        child.say(Hurry())
        with suppress(asyncio.CancelledError):  # whoever asks twice gets no more patience
            await asyncio.wait([attending], timeout=NOTICE_SECONDS)
        return attending.done()

    def _keep(self, child: Child) -> None:
        """Keep a child for the next job, unless it is used up or one too many."""
        full = len(self._idle) >= SPARE_CHILDREN
        if self._closed or full or not child.usable or child.jobs >= JOBS_PER_CHILD:
            self._forget(child)
        else:
            self._idle.append(child)

    def _forget(self, child: Child) -> None:
        self._children.discard(child)
        if child.waits:  # else the thread that hears it sees it die
            asyncio.get_running_loop().run_in_executor(None, child.end)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return self._threads.call(function, *args).answer


class LentChild:
    """A child, for the time of one job."""

    def __init__(self, processes: InProcesses, child: Child) -> None:
        self._processes, self.child = processes, child

    async def perform(self, running: Running, worker: type[Worker], job: AnyJob) -> Any:
        """Give the worker's answer. Raises `RaisedApart` for what it raised, and `ProcessDied`."""
        request = Perform(home(worker), replace(job, running=None), worker.options.max_memory)
        outcome = await self._processes.attended(self.child, running, request)
        while isinstance(outcome, ProcessDied) and self.child.died_waiting:
            self.child = self._processes.spare() or await self._processes.started(running)
            outcome = await self._processes.attended(self.child, running, request)
        match outcome:
            case Answered(answer):
                return unpacked(answer)
            case Raised(error, summary, text):
                raise RaisedApart(_as_error(unpacked(error), summary), text)
            case Stopped():
                raise asyncio.CancelledError
            case ProcessDied() as died:
                raise died


class Child:
    """A child process and the talk with it."""

    def __init__(self, begin: Begin) -> None:
        self.jobs = 0
        self.waits = self.took = self._killed = False
        self._talk, theirs = Pipe()
        with theirs:
            # A group of its own: Ctrl-C is for the parent to hear, and what a job starts is killed with it.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-P", "-c", PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._saying, self._ending = threading.Lock(), threading.Lock()
        self.say(sys.path)
        self.say(begin)

    @property
    def usable(self) -> bool:
        return self.waits and not self._killed

    @property
    def died_waiting(self) -> bool:
        """Tell whether it was killed between two jobs, so that it never took the second."""
        return self.jobs > 1 and not self.took

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def say(self, word: object) -> None:
        """Say something, if anybody still hears it."""
        with self._saying, suppress(OSError):
            self._talk.send(word)

    def begun(self) -> Ready | Unready | ProcessDied:
        """Wait until it can run jobs, or says why it cannot; blocks."""
        said: Ready | Unready | ProcessDied = self._until(Ready, Unready)
        return said

    def perform(self, running: Running, request: Perform) -> Outcome:
        """Have it run a job to the end of one of the two; blocks."""
        self.waits = self.took = False
        self.jobs += 1
        self.say(request)
        said: Outcome = self._until(Answered, Raised, Stopped, running=running)
        if not isinstance(said, ProcessDied) and said.progress is not None:
            running.told = dict(said.progress)
        return said

    def kill(self) -> None:
        """Kill it and what its job has started. Safe to call twice."""
        self._killed = True
        if self._process.returncode is None:
            self._kill_group()

    def end(self) -> None:
        """Let it go, in peace unless it was killed; blocks."""
        with self._ending:
            if self._talk.closed:
                return
            self._talk.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(FAREWELL_SECONDS)
            self._kill_group()  # what its jobs have left behind, too
            self._process.wait()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _until(self, *kinds: type, running: Running | None = None) -> Any:
        """Hear it until it says one of these, or dies."""
        while True:
            try:
                said = self._heard()
            except Exception as error:  # noqa: BLE001 - half a word, or garbage: nothing it says can be relied on
                return self._died(error)
            match said:
                case Taken():
                    self.took = True
                case Told(progress) if running is not None:
                    running.told = dict(progress)
                case Logged(record):
                    _log(unpacked(record))
                case _ if isinstance(said, kinds):
                    self.waits = True
                    if self._killed:  # too late to be heard by those who see to its end
                        self.end()
                    return said

    def _heard(self) -> object:
        # A process that the job started may hold the line open after the child's death.
        while not self._talk.poll(LOOK_SECONDS):
            if not self.lives and not self._talk.poll(0):
                raise EOFError
        return self._talk.recv()

    def _died(self, error: Exception) -> ProcessDied:
        self.end()
        code = self._process.returncode
        if not isinstance(error, EOFError | OSError):
            return ProcessDied(f"the process of this job said something that nobody understands: {error!r}")
        return ProcessDied(f"the process of this job {how_it_ended(code)} before the job had ended")


def how_it_ended(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = " (by hand, or by the system for want of memory)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{memory}"


def _as_error(error: object, summary: str) -> BaseException:
    """Give the exception itself, or another in its place where it could not be carried."""
    return error if isinstance(error, BaseException) else RuntimeError(summary)


def _log(record: object) -> None:
    """Log what a child logged as if it had been logged here."""
    if isinstance(record, Lost):
        logging.getLogger("staffa").warning("a log record of a job's process was lost: %s", record.shown)
    if isinstance(record, logging.LogRecord):
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            with suppress(Exception):  # a handler's own; the job has nothing to do with it
                logger.handle(record)


def _cut_off(running: Running) -> BaseException:
    """End an attempt whose process was killed, or never started, because all of them were."""
    running.stopped = running.stopped or Stop.SHUTDOWN
    return asyncio.CancelledError()


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
