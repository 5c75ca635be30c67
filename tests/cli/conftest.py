"""A project to stand in, and a `staffa` to type there."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from staffa import Staffa
from typed import Said, clean_environment, typed_here

PATIENCE = 60.0
WORK = """
import asyncio, gc, time
from pathlib import Path
from staffa import Cancel, Worker, job

@job(queue="mail", max_attempts=3)
async def greet(name: str) -> None:
    Path(f"greeted-{name}").touch()

@job(max_attempts=1)
def imports() -> None:
    if not Path("branch").exists():
        raise ValueError("there is no such branch")

@job
async def waits_for_go() -> None:
    Path("started").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)

@job
async def naps() -> None:
    Path("napping").touch()
    await asyncio.sleep(600)

@job(unique=True)
async def asked_once(number: int) -> None: ...

@job
def counts_what_stays() -> None:
    Path("stays").write_text(str(gc.get_freeze_count()))

@job
def digs() -> None:
    Path("digging").touch()
    time.sleep(600)
"""


@dataclass
class Project:
    """A directory with a configuration and a module of workers."""

    path: Path
    url: str
    module: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def configure(self, **settings: Any) -> None:
        lines = {
            "database": self.url,
            "modules": [self.module],
            "queues": {"default": 5, "mail": 2},
        } | settings
        text = [f"{key} = {_toml(value)}" for key, value in lines.items() if value is not None]
        (self.path / "staffa.toml").write_text("\n".join(text))

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def start(self, *arguments: str, in_group: bool = False, **environment: str) -> subprocess.Popen[str]:
        """Start `staffa` as its own process, as a shell does in a terminal if it is to be a group's first."""
        process = subprocess.Popen(
            [sys.executable, "-m", "staffa", *arguments],
            cwd=self.path,
            env=clean_environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0 if in_group else None,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> Said:
        """Run `staffa` as its own process to its end."""
        return self.finish(self.start(*arguments, **environment))

    def finish(self, process: subprocess.Popen[str]) -> Said:
        out, err = process.communicate(timeout=PATIENCE)
        return Said(process.returncode, out, err)

    def wait_for(self, file: str) -> None:
        """Wait until a worker has left a file."""
        deadline = time.monotonic() + PATIENCE
        while not (self.path / file).exists():
            assert time.monotonic() < deadline, f"{file} did not appear"
            time.sleep(0.02)

    def say_go(self) -> None:
        (self.path / "go").touch()

    def instance(self, **options: Any) -> Staffa:
        return Staffa(self.url, run_queues=False, **options)

    def worker(self, name: str) -> str:
        return f"{self.module}.{name}"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the workers of one project from the next test."""
    monkeypatch.setattr("staffa.worker._registry._workers", {})


@pytest.fixture
def project(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    made = Project(tmp_path / "project", url, f"work_{uuid4().hex}")
    made.path.mkdir()
    made.write(f"{made.module}.py", WORK)
    made.configure()
    monkeypatch.chdir(made.path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def staffa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Type `staffa …` in this process, in the directory of the project or an empty one."""
    if not (tmp_path / "project").exists():
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(sys, "path", [*sys.path])
    for key in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(key)

    return typed_here


@pytest.fixture
def typed_at_once() -> Callable[..., list[Said]]:
    """Type the same command in several processes at once."""

    def typed(times: int, *arguments: str) -> list[Said]:
        command = [sys.executable, "-m", "staffa", *arguments]
        processes = [
            subprocess.Popen(
                command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(times)
        ]
        ended = [(process, *process.communicate(timeout=PATIENCE)) for process in processes]
        return [Said(process.returncode, out, err) for process, out, err in ended]

    return typed


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
