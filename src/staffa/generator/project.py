"""The project that gets new files: its configuration, and where its workers and tests are."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Comment, Item, Key, Table, Whitespace

from staffa.config import FILE, PROJECT_FILE, QueueConfig, config_file, load, queue_limits
from staffa.errors import ConfigError, GeneratorError, UnknownQueue
from staffa.generator.rendering import Templates
from staffa.generator.writing import Change


@dataclass(frozen=True, slots=True)
class Project:
    """A configured project. `workers` is the folder of `package`."""

    config: Path
    queues: Mapping[str, QueueConfig]
    package: str
    workers: Path
    tests: Path
    templates: Templates

    @property
    def root(self) -> Path:
        """The folder of the configuration, to which paths are relative."""
        return self.config.parent

    def shown(self, path: Path) -> str:
        """Write a path as seen from the project."""
        return os.path.relpath(path, self.root)

    def check_queue(self, name: str) -> None:
        """Raise `UnknownQueue`, listing the queues with limits and purposes, where there is none of a name."""
        if name not in self.queues:
            listed = "; ".join(map(self.described, self.queues)) or "none is configured"
            raise UnknownQueue(f"unknown queue {name!r}: {listed}; --new-queue NAME:LIMIT adds one")

    def described(self, queue: str) -> str:
        """Tell a queue's limit and purpose."""
        config = self.queues[queue]
        return f"{queue} (limit {config.limit}{f', {config.purpose}' if config.purpose else ''})"

    def reconfigured(self, *, module: str, new_queue: str | None) -> list[Change]:
        """Give the configuration with a new module, and a new queue as `name:limit`; comments and order stay.

        Raises `GeneratorError` where the queue is there already, or is written wrongly.
        """
        text = self.config.read_bytes().decode()
        document = tomlkit.parse(text)
        table = _staffa_table(document, self.config)
        if new_queue is not None:
            _add_queue(table, new_queue, self.queues)
        _add_module(table, module)
        changed = tomlkit.dumps(document)
        self._check(changed, module, new_queue)
        if "\r\n" in text:  # new lines end as the others do
            changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
        return [] if changed == text else [Change(self.config, changed, updates=True)]

    def _check(self, changed: str, module: str, new_queue: str | None) -> None:
        """Read what is to be written: a file with comments in odd places may not survive being changed."""
        try:
            table = _staffa_table(tomllib.loads(changed), self.config)
        except tomllib.TOMLDecodeError:
            table = {}
        added = new_queue is None or new_queue_name(new_queue) in table.get("queues", {})
        if not added or module not in table.get("modules", []):
            queue = "" if new_queue is None else f", and the queue {new_queue} to queues"
            raise GeneratorError(
                f"{self.config} is written in a way that cannot be changed without harm:"
                f' add "{module}" to modules{queue} by hand, or simplify it'
            )


def find_project(path: Path | None = None) -> Project:
    """Read the project that a configuration file belongs to, by default that of the working directory.

    Raises `ConfigError` where there is no such file or it does not say where workers go.
    """
    file = config_file(path)
    if file is None:
        raise ConfigError(
            f"there is no {FILE} here: go where it is, name it with --config,"
            " or have `staffa new app` write a whole project"
        )
    config = load(path, environment={})  # new files are of the file, whatever holds here today
    package: str | None = config.generator.get("package")
    if package is None:
        raise ConfigError(
            f'{file}: it does not say where workers go: add [generator] with package = "app.workers" and'
            f' tests = "tests/workers", whatever yours are called'
        )
    templates = config.generator.get("templates")
    return Project(
        config=file,
        queues=config.queues,
        package=package,
        workers=_folder_of(package, file),
        tests=file.parent / config.generator.get("tests", "tests"),
        templates=Templates(None if templates is None else _existing(file.parent / templates, file)),
    )


def new_queue_name(given: str) -> str:
    """Read the name in `name:limit`. Raises `GeneratorError`."""
    return _new_queue(given)[0]


def _folder_of(package: str, config: Path) -> Path:
    below = Path(*package.split("."))
    places = [config.parent / "src" / below, config.parent / below]
    for place in places:
        if place.is_dir():
            return place
    raise ConfigError(
        f"{config}: generator.package: there is no folder {places[0]} nor {places[1]} for the package {package}"
    )


def _existing(folder: Path, config: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"{config}: generator.templates: there is no folder {folder}")
    return folder


# Changes of the configuration


def _staffa_table(document: Any, file: Path) -> Any:
    """Find our table, which tomlkit shows as one of several kinds."""
    return document["tool"]["staffa"] if file.name == PROJECT_FILE else document


def _new_queue(given: str) -> tuple[str, int]:
    try:
        found = queue_limits(given)
    except ValueError as error:
        raise GeneratorError(
            f"--new-queue: write a queue with its limit, as in digests:4: {error}"
        ) from error
    if len(found) != 1:
        raise GeneratorError(f"--new-queue: write one queue with its limit, as in digests:4, not {given!r}")
    [(name, queue)] = found.items()
    return name, queue.limit


def _add_queue(table: Any, given: str, queues: Mapping[str, QueueConfig]) -> None:
    name, limit = _new_queue(given)
    if "queues" not in table:  # then those that hold without being written are to go on
        table["queues"] = tomlkit.table()
        for each, queue in queues.items():
            table["queues"][each] = queue.limit
    elif name in table["queues"]:
        raise GeneratorError(f"there is a queue {name} already, with limit {queues[name].limit}")
    table["queues"][name] = limit
    if isinstance(table["queues"], Table):
        _put_before_comments(table["queues"].value.body, name)


def _put_before_comments(body: list[tuple[Key | None, Item]], name: str) -> None:
    """Move a new key up to the one before it: comments that follow that one speak of what comes next."""
    [place] = [number for number, (key, _) in enumerate(body) if key is not None and key.key == name]
    added = body.pop(place)
    while place and isinstance(body[place - 1][1], Whitespace | Comment):
        place -= 1
    body.insert(place, added)


def _add_module(table: Any, module: str) -> None:
    modules = table.get("modules")
    if modules is None:
        table["modules"] = [module]
    elif module not in modules:
        modules.append(module)
