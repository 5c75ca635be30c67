"""Several processes of `staffa run`, kept running and stopped together."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from staffa._backoff import restart_delay
from staffa._processes import how_it_ended

logger = logging.getLogger("staffa")

RUNNING = b"+"
STOP, STOP_NOW = 1, 2  # how urgently; said as one byte
STEADY_SECONDS = 60.0
MEMBER = "--member"


class Supervisor:
    """Starts processes of the same command, starts again what dies, and stops when it is told to.

    The first one proves that they can run at all: where it cannot, the others are not started.
    """

    def __init__(self, arguments: Sequence[str], processes: int, *, until_idle: bool) -> None:
        self._arguments, self._processes, self._until_idle = arguments, processes, until_idle
        self._members: dict[int, Member] = {}
        self._proven = asyncio.Event()
        self._told = asyncio.Event()
        self._urgency = 0
        self._refusal = 0

    async def run(self) -> int:
        """Give the exit code: 0 where all have stopped gracefully."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._hear, signal.Signals(number))
        async with asyncio.TaskGroup() as group:
            kept = [group.create_task(self._keep(1))]
            proof = group.create_task(self._proven.wait())
            await asyncio.wait([kept[0], proof], return_when=asyncio.FIRST_COMPLETED)
            proof.cancel()
            if not self._refusal:
                kept += [group.create_task(self._keep(number)) for number in range(2, self._processes + 1)]
        return self._refusal or int(any(task.result() for task in kept))

    def _hear(self, number: signal.Signals) -> None:
        self._urgency += 1
        if self._urgency > STOP_NOW:  # whoever asks a third time wants no answer
            for member in self._members.values():
                member.kill()
            os._exit(128 + number)
        how = "stop" if self._urgency == STOP else "stop at once"
        logger.info("%s: all processes %s", number.name, how)
        self._stop()

    def _stop(self) -> None:
        self._told.set()
        for member in self._members.values():
            member.tell(self._urgency)

    async def _keep(self, number: int) -> int:
        """Keep one process running; give the code with which it ended for good."""
        failures = 0
        while not self._told.is_set():
            began = time.monotonic()
            code = await self._one(number)
            if self._told.is_set() or (self._until_idle and code == 0):
                return code
            if code > 0 and not self._proven.is_set():
                self._refusal = code
                return code
            failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            delay = restart_delay(failures).total_seconds()
            logger.warning("process %d %s; it is started again in %.1f s", number, how_it_ended(code), delay)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._told.wait()
        return 0

    async def _one(self, number: int) -> int:
        member = await Member.start([*self._arguments, "--processes", "1", MEMBER, str(number)])
        self._members[number] = member
        try:
            if self._told.is_set():  # meanwhile
                member.tell(self._urgency)
            return await member.ended(self._proven.set)
        finally:
            del self._members[number]


class Member:
    """One process, as its supervisor sees it."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self._process, self._line = process, line

    @classmethod
    async def start(cls, arguments: Sequence[str]) -> Member:
        line, theirs = socket.socketpair()
        line.setblocking(False)
        with theirs:
            # A group of its own: Ctrl-C is for the supervisor to hear.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "staffa", *arguments, stdin=theirs.fileno(), process_group=0
            )
        return cls(process, line)

    def tell(self, urgency: int) -> None:
        """Say how urgently it is to stop, if it still listens."""
        with suppress(OSError):
            self._line.send(bytes([urgency]))

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self, runs: Callable[[], None]) -> int:
        """Wait for its end and give its exit code; `runs` is called once it says that its queues run."""
        with self._line:
            with suppress(OSError):
                if await asyncio.get_running_loop().sock_recv(self._line, 1) == RUNNING:
                    runs()
            return await self._process.wait()


class Line:
    """The line from one of several processes to its supervisor: its standard input."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(0))
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor for jobs that read theirs
            os.dup2(nothing.fileno(), 0)

    def say_that_it_runs(self) -> None:
        with suppress(OSError):
            self._socket.send(RUNNING)

    def listen(self, told: Callable[[int, str], None]) -> None:
        """Tell how urgently to stop, and who says so; a supervisor that is gone says so, too."""
        threading.Thread(target=self._hear, args=(told,), name="staffa-supervisor", daemon=True).start()

    def _hear(self, told: Callable[[int, str], None]) -> None:
        with suppress(OSError):
            while word := self._socket.recv(1):
                told(word[0], "the supervisor")
        told(STOP, "the supervisor is gone")
