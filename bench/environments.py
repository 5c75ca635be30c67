"""A virtual environment for each peer, made when it is first needed and kept for the next time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.processes import last_line

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".bench"
DOCS = ROOT / "docs"
INSTALLING_SECONDS = 600


class Unavailable(Exception):
    """Something that is measured beside us cannot be had here; the message says why."""


def python_of(name: str, requires: Sequence[str], python: tuple[int, int] = (3, 11)) -> Path:
    """Give the interpreter of an environment with these packages. Raises `Unavailable`."""
    folder = CACHE / name
    interpreter, ready = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(requires)
    if ready.exists() and ready.read_text("utf-8") == wanted:
        return interpreter

    shutil.rmtree(folder, ignore_errors=True)
    _call([str(_interpreter(python)), "-m", "venv", "--without-pip", str(folder)])  # ours will do
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(interpreter),
        "--quiet",
        "--disable-pip-version-check",
    ]
    _call([*pip, "install", *requires])
    ready.write_text(wanted, "utf-8")
    return interpreter


def _call(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALLING_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"not installed: {error}") from error
    if done.returncode:
        raise Unavailable(f"not installed: {last_line(done.stderr)}")


def _interpreter(least: tuple[int, int]) -> Path:
    """Find a Python that is new enough: this one, or another of this machine."""
    for candidate in _interpreters():
        asked = subprocess.run(
            [candidate, "-c", f"import sys; sys.exit(sys.version_info < {least!r})"],
            capture_output=True,
            check=False,
        )
        if not asked.returncode:
            return Path(candidate)
    raise Unavailable(f"it needs Python {least[0]}.{least[1]}, which is not here")


def _interpreters() -> Iterator[str]:
    yield sys.executable
    for minor in range(11, 20):
        if found := shutil.which(f"python3.{minor}"):
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob("versions/3.*/bin/python")))
