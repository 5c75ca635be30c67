"""A new project that a person would keep: configuration, one worker, one test, and what runs them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from staffa.errors import GeneratorError
from staffa.generator.names import name_of
from staffa.generator.rendering import Templates
from staffa.generator.writing import Change

PACKAGE = "src/{name}"
FILES = {
    "app/pyproject.toml.jinja": "pyproject.toml",
    "app/staffa.toml.jinja": "staffa.toml",
    "app/Makefile.jinja": "Makefile",
    "app/README.md.jinja": "README.md",
    "app/gitignore.jinja": ".gitignore",
    "app/package/__init__.py.jinja": f"{PACKAGE}/__init__.py",
    "app/package/__main__.py.jinja": f"{PACKAGE}/__main__.py",
    "app/package/database.py.jinja": f"{PACKAGE}/database.py",
    "app/package/people.py.jinja": f"{PACKAGE}/people.py",
    "app/package/signing_up.py.jinja": f"{PACKAGE}/signing_up.py",
    "app/package/jobs/__init__.py.jinja": f"{PACKAGE}/jobs/__init__.py",
    "app/package/jobs/welcome.py.jinja": f"{PACKAGE}/jobs/welcome.py",
    "app/tests/conftest.py.jinja": "tests/conftest.py",
    "app/tests/factories.py.jinja": "tests/factories.py",
    "app/tests/jobs/test_welcome.py.jinja": "tests/jobs/test_welcome.py",
}
LONGEST = 30
TAKEN = frozenset({"pytest", "staffa", "tests", "test", "factories", "conftest"})


def new_app(given: str, parent: Path) -> list[Change]:
    """Plan a project in a folder of its name; nothing is written yet.

    Raises `GeneratorError` for names that cannot be, and where the folder holds something.
    """
    name = name_of(given)
    if name.snake in TAKEN:
        raise GeneratorError(
            f"{given!r} is the name of something that every application has: choose another one"
        )
    if len(name.snake) > LONGEST:
        raise GeneratorError(f"{name.snake} has more than {LONGEST} characters: choose a shorter name")
    folder = parent / name.snake
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GeneratorError(f"{folder} is there already, and is not empty")
    templates, requirement = Templates(), _requirement()
    return [
        Change(
            folder / path.format(name=name.snake),
            templates.render(template, name=name, requirement=requirement),
        )
        for template, path in FILES.items()
    ]


@dataclass(frozen=True, slots=True)
class Requirement:
    """How a project says which Staffa it needs: by its version, or by its place where it came from no index."""

    version: str
    place: str | None

    def of(self, package: str) -> str:
        return f"{package}>={self.version}" if self.place is None else f"{package} @ {self.place}"


def _requirement() -> Requirement:
    """Name the Staffa that runs this; where it came from is written as PEP 610 says."""
    distribution = metadata.distribution("staffa")
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    place: str | None = origin.get("url")
    if place is not None and (source := origin.get("vcs_info")) is not None:
        place = f"{source['vcs']}+{place}@{source['commit_id']}"
    return Requirement(distribution.version, place)
