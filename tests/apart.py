"""Workers that run in processes of their own; a light module, since each of those imports it."""

import asyncio
import faulthandler
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import msgspec

from staffa import Cancel, Error, Job, Record, Snooze, Worker, current_job, job

logger = logging.getLogger("app.jobs")


class Odd(Exception):
    """Cannot be rebuilt from what `pickle` keeps of it."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"odd {code}")


class Answer(Worker, name="apart.Answer", executor="process", max_attempts=3):
    """Ends as its arguments say."""

    def perform(self, job: Job) -> object:  # noqa: C901, PLR0911, PLR0912 - a line for every way to end
        match job.args["do"]:
            case "cancel":
                return Cancel("no such file")
            case "snooze":
                return Snooze(timedelta(hours=1))
            case "error":
                return Error("not today")
            case "raise":
                raise ValueError("kaboom")
            case "raise oddly":
                raise Odd(code=7)
            case "raise a lock":
                raise RuntimeError(threading.Lock())
            case "answer a lock":
                return threading.Lock()
            case "return a coroutine":
                return asyncio.sleep(0)
            case "leave":
                sys.exit(3)
            case "press Ctrl-C":
                raise KeyboardInterrupt
            case "exit":
                os._exit(3)
            case "fault":
                faulthandler.disable()
                os.kill(os.getpid(), signal.SIGSEGV)
            case "be killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fork and exit":
                if (forked := os.fork()) == 0:
                    time.sleep(600)
                note(job.args["file"], forked)
                os._exit(4)
            case "eat":
                return len(bytearray(2**30))
        return {"anything": "else"}

    def backoff(self, job: Job) -> timedelta:
        return timedelta(minutes=job.attempt)

    def on_discarded(self, job: Job) -> None:
        note(job.args["hook"], os.getpid())


class Modest(Answer, name="apart.Modest", max_memory=512 * 2**20):
    """May not take much memory."""


@job(name="apart.note_pid", executor="process")
def note_pid(file: str) -> None:
    note(file, os.getpid())


@job(name="apart.compute", executor="process", max_attempts=3)
def compute(file: str) -> None:
    """Note two processes, then keep one of them busy for ever, without a thought for other threads."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as mine:
        note(file, os.getpid(), mine.pid)
        re.match(r"(a+)+$", "a" * 64 + "b")


@job(name="apart.hurry", executor="process", max_attempts=3, timeout=timedelta(seconds=0.3))
def hurry(file: str) -> None:
    note(file, os.getpid())
    time.sleep(600)


@job(name="apart.wait_for", executor="process", max_attempts=3)
def wait_for(file: str, go: str) -> str:
    """Wait for a file, or for the word to stop."""
    running = current_job()
    assert running is not None
    running.progress(1, 2, "waiting")
    note(file, os.getpid())
    while not Path(go).exists():
        if running.cancelled:
            note(Path(file).with_suffix(".told"), os.getpid())
            return "stopped"
        time.sleep(0.01)
    return "gone"


@job(name="apart.await_cancellation", executor="process")
async def await_cancellation(file: str) -> None:
    note(file, os.getpid())
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:  # which it keeps to itself
        note(Path(file).with_suffix(".told"), os.getpid())


@job(name="apart.follow")
def follow(file: str) -> None:
    note(file, os.getpid())


@job(name="apart.enqueue", executor="process", max_attempts=1)
def enqueue(file: str) -> None:
    follow.enqueue(file)
    logger.warning("enqueued by job %s", getattr(current_job(), "id", None))


@job(name="apart.enqueue_awaited", executor="process", max_attempts=1)
async def enqueue_awaited(file: str) -> None:
    await follow.aenqueue(file)


def note(file: str | Path, *pids: int) -> None:
    """Write at once, so that nobody reads half of it."""
    path = Path(file)
    path.with_suffix(".tmp").write_text(" ".join(map(str, pids)))
    path.with_suffix(".tmp").rename(path)


class Stranger(msgspec.Struct):
    """A type that the parent knows only if it imported this module."""

    name: str


@job(name="apart.record", executor="process")
def record(what: str) -> Record:
    match what:
        case "a lock":
            return Record(threading.Lock())
        case "a stranger":
            return Record([Stranger("Asha")])
    return Record({"pid": os.getpid()})
