"""The programs that are measured, each a process that is gone when its measure is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil


class Failed(Exception):
    """A program did not do what was asked of it; the message says what it said last."""


class Program:
    """A running process, with all that it starts; leaving the block kills them."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self._command, self._log, self._cwd = command, log, cwd
        given = {**os.environ, **(environment or {})}
        self._environment = {key: value for key, value in given.items() if value is not None}
        self._file: IO[bytes]
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self._file = self._log.open("wb")
        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._file.close()

    @property
    def usage(self) -> psutil.Process:
        """What the operating system knows of the process."""
        return psutil.Process(self._process.pid)

    def check(self) -> None:
        """Raise `Failed` if the process has ended."""
        if (code := self._process.poll()) is not None:
            raise Failed(f"ended with {code}: {self._said()}")

    def answer(self, seconds: float) -> Any:
        """Wait until the process ends; read its last line as JSON. Raises `Failed`."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"did not end within {seconds:.0f} s: {self._said()}") from None
        if code:
            raise Failed(f"ended with {code}: {self._said()}")
        return json.loads(self._said())

    def _said(self) -> str:
        return last_line(self._log.read_text("utf-8", "replace"))


def last_line(text: str) -> str:
    """Give the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
