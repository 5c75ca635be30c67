"""A project to generate into, in a fresh directory, and a `staffa` that runs there as its own process."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from typed import Said, clean_environment, typed_here

PATIENCE = 120.0
CONFIG = """\
# Where jobs are.
database = "sqlite:///shop.db"  # a file

modules = [
  "shop.jobs.orders", # what is bought
]

# How much at once.
[queues]
maintenance = { limit = 5, purpose = "cleanup, archival" } # not urgent
default = 10

[generator]
package = "shop.jobs"
tests = "tests/jobs"
"""
TOOLS = """\
[tool.pytest.ini_options]
pythonpath = ["src"]
asyncio_default_fixture_loop_scope = "function"
addopts = ["--import-mode=importlib"]
filterwarnings = ["error"]

[tool.mypy]
strict = true
mypy_path = "src"
explicit_package_bases = true

[tool.ruff]
src = ["src"]

[tool.ruff.lint]
select = ["ALL"]
ignore = ["COM812", "CPY001", "D203", "D213"]

[tool.ruff.lint.per-file-ignores]
"tests/**" = ["D103", "INP001", "S101"]
"""


@dataclass
class Folder:
    """A directory to type commands in. What mypy found out about libraries is kept from test to test."""

    path: Path
    mypy_cache: Path

    def new(self, *arguments: str) -> Said:
        """Type `staffa new …`, in this process."""
        with chdir(self.path), patch.dict(os.environ, clean_environment(), clear=True):
            return typed_here("new", *arguments)

    def staffa(self, *arguments: str, path: str | Path = "src") -> Said:
        """Type `staffa …`, as its own process."""
        return self.python("-m", "staffa", *arguments, path=path)

    def python(self, *arguments: str, path: str | Path = "src") -> Said:
        """Run Python, which looks for modules in a folder first."""
        already = os.environ.get("PYTHONPATH", "")
        return self.run(sys.executable, *arguments, PYTHONPATH=os.pathsep.join([str(path), already]))

    def run(self, *command: str, **environment: str) -> Said:
        done = subprocess.run(
            command,
            cwd=self.path,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=clean_environment() | {"MYPY_CACHE_DIR": str(self.mypy_cache)} | environment,
            timeout=PATIENCE,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def answering(self, *arguments: str, answers: str = "") -> Said:
        """Run `staffa` on a terminal and type answers there."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "staffa", *arguments],
            cwd=self.path,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=clean_environment() | {"TERM": "xterm-256color", "COLUMNS": "100"},
        )
        os.close(theirs)
        os.write(ours, answers.encode())
        said = _read_all(ours)
        os.close(ours)
        return Said(process.wait(PATIENCE), said, "")

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    @property
    def tree(self) -> dict[str, bytes]:
        """Every file with its content."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


def _read_all(terminal: int) -> str:
    said = b""
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # which is how a terminal ends on Linux
            break
        if not part:
            break
        said += part
    return said.decode()


@pytest.fixture(scope="session")
def folder_at(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Folder]:
    cache = tmp_path_factory.getbasetemp() / "mypy_cache"
    return lambda path: Folder(path, cache)


@pytest.fixture
def empty(tmp_path: Path, folder_at: Callable[[Path], Folder]) -> Folder:
    return folder_at(tmp_path)


@pytest.fixture
def shop(tmp_path: Path, folder_at: Callable[[Path], Folder]) -> Folder:
    """A project with two queues and the strictest settings of its tools."""
    folder = folder_at(tmp_path / "shop")
    folder.write("staffa.toml", CONFIG)
    folder.write("pyproject.toml", TOOLS)
    folder.write("src/shop/__init__.py", '"""A shop."""\n')
    folder.write("src/shop/jobs/__init__.py", '"""What it does later."""\n')
    folder.write("src/shop/jobs/orders.py", '"""Orders."""\n')
    return folder


@pytest.fixture
def new_worker(shop: Folder) -> Callable[..., Said]:
    """Type `staffa new worker`, with a queue and a purpose unless the test gives its own."""

    def typed(
        name: str, *more: str, queue: str | None = "maintenance", purpose: str = "Send digests"
    ) -> Said:
        where = () if queue is None else ("--queue", queue)
        return shop.new("worker", name, *where, "--purpose", purpose, *more)

    return typed
