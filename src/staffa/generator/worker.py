"""A new worker and its test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from staffa._job import ATTEMPTS, LONGEST_NAME
from staffa.errors import GeneratorError
from staffa.generator.names import Name, name_of
from staffa.generator.project import Project, new_queue_name
from staffa.generator.rendering import formatted
from staffa.generator.writing import Change

LONGEST_PURPOSE = 72
TAKEN = frozenset({"AsyncMock", "Cancel", "Error", "Job", "Mock", "Mode", "StrEnum", "Worker"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorker:
    """What is wanted: a worker's name in any spelling, its queue, and its purpose in one sentence.

    `new_queue`, as `name:limit`, is added to the configuration.
    """

    name: str
    purpose: str
    queue: str | None = None
    new_queue: str | None = None
    max_attempts: int = 3
    awaited: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """The files of a new worker: its module and its test, and the configuration that knows of them."""

    module: Change
    test: Change
    config: list[Change]

    @property
    def changes(self) -> list[Change]:
        return [self.module, self.test, *self.config]


def new_worker(project: Project, wanted: NewWorker) -> Planned:
    """Plan a worker and its test; nothing is written yet.

    Raises `GeneratorError` for names and purposes that cannot be, `UnknownQueue` for a queue that nobody configured.
    """
    name = _class_name(wanted.name)
    queue = _queue(project, wanted)
    if wanted.max_attempts not in ATTEMPTS:
        raise GeneratorError(
            f"--max-attempts must be a whole number from {ATTEMPTS[0]} to {ATTEMPTS[-1]}, not {wanted.max_attempts}"
        )
    module = f"{project.package}.{name.snake}"
    if len(f"{module}.{name.pascal}") > LONGEST_NAME:
        raise GeneratorError(f"{module}.{name.pascal} is longer than the {LONGEST_NAME} characters of a name")
    given = {
        "name": name,
        "package": project.package,
        "module": module,
        "queue": queue,
        "purpose": sentence(wanted.purpose),
        "max_attempts": wanted.max_attempts,
        "awaited": wanted.awaited,
    }

    def planned(template: str, path: Path) -> Change:
        text = project.templates.render(template, **given)
        return Change(path, formatted(text, path, root=project.root, package=project.package))

    return Planned(
        planned("worker.py.jinja", project.workers / f"{name.snake}.py"),
        planned("test_worker.py.jinja", project.tests / f"test_{name.snake}.py"),
        project.reconfigured(module=module, new_queue=wanted.new_queue),
    )


def _class_name(text: str) -> Name:
    name = name_of(text)
    if name.pascal in TAKEN:
        raise GeneratorError(f"{name.pascal} is a name that every worker's module has: choose another one")
    return name


def _queue(project: Project, wanted: NewWorker) -> str:
    if wanted.new_queue is None:
        if wanted.queue is None:
            raise GeneratorError("a queue is missing: say --queue NAME, or --new-queue NAME:LIMIT")
        project.check_queue(wanted.queue)
        return wanted.queue
    added = new_queue_name(wanted.new_queue)
    if wanted.queue not in (None, added):
        raise GeneratorError(f"--queue {wanted.queue} and --new-queue {wanted.new_queue} name two queues")
    return added


def sentence(purpose: str) -> str:
    """Write a purpose as the first line of a docstring. Raises `GeneratorError`."""
    text = " ".join(purpose.split()).rstrip(".!?。")
    if not text:
        raise GeneratorError("a purpose is missing: say in one sentence what the worker does")
    if "\\" in text or '"""' in text or text[0] == '"' or not text.isprintable():
        raise GeneratorError('a purpose is a plain sentence: without \\ and """, and no quote begins it')
    if len(text) > LONGEST_PURPOSE:
        raise GeneratorError(
            f"a purpose has at most {LONGEST_PURPOSE} characters, and this has {len(text)}:"
            " it is the first line of a docstring, and there is room for more below it"
        )
    first = text[0].upper() if len(text[0].upper()) == 1 else text[0]
    return f"{first}{text[1:]}."
