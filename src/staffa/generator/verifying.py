"""Look whether new files are as a project wants them: its own tools say so, one after the other."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TextIO

from staffa.errors import VerificationFailed
from staffa.generator.project import Project
from staffa.generator.worker import Planned


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a tool: the arguments of `python`, and the package that brings it."""

    what: str
    tool: str
    arguments: tuple[str, ...]

    @property
    def shown(self) -> str:
        return f"python {' '.join(self.arguments)}"


def verify(project: Project, planned: Planned, to: TextIO) -> None:
    """Run the test, compile and check types, format, lint, and write what the tools say to a stream.

    Raises `VerificationFailed` at the first that fails, or is not installed.
    """
    for step in steps(project, planned):
        to.write(f"$ {step.shown}\n")
        to.flush()
        if find_spec(step.tool) is None:
            raise VerificationFailed(
                f"{step.what} needs {step.tool}, which is not installed here: pip install {step.tool}"
            )
        done = subprocess.run(  # noqa: S603 - tools of the project, by the Python that runs
            [sys.executable, *step.arguments], cwd=project.root, check=False, stdout=to
        )
        if done.returncode:
            raise VerificationFailed(f"{step.what} failed: {step.shown}")


def steps(project: Project, planned: Planned) -> list[Step]:
    """Give the commands that verify a new worker, in their order."""
    module, test = (project.shown(each.path) for each in (planned.module, planned.test))
    both = (module, test)
    return [
        Step("the test", "pytest", ("-m", "pytest", "-v", test)),
        Step("compiling", "compileall", ("-W", "error", "-m", "compileall", "-q", "-f", *both)),
        Step("checking types", "mypy", ("-m", "mypy", *both)),
        Step("formatting", "ruff", ("-m", "ruff", "format", *both)),
        Step("linting", "ruff", ("-m", "ruff", "check", *both)),
    ]
