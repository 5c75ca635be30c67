"""The project that gets new files: its configuration, and where its workers and tests are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.container import Container
from tomlkit.items import Table

from staffa._spelling import hint
from staffa.config import FILE, QueueConfig, config_file, load, queue_limits
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

    def check_queue(self, name: str) -> None:
        """Raise `UnknownQueue`, listing the queues with limits and purposes, where there is none of a name."""
        if name not in self.queues:
            listed = "; ".join(map(self.described, self.queues))
            raise UnknownQueue(
                f"unknown queue {name!r}; {hint(name, self.queues)} The queues are: {listed}."
                f" --new-queue {name}:LIMIT adds one"
            )

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
        if "\r\n" in text:  # new lines end as the others do
            changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
        return [] if changed == text else [Change(self.config, changed, updates=True)]


def find_project(path: Path | None = None) -> Project:
    """Read the project that a configuration file belongs to, by default that of the working directory.

    Raises `ConfigError` where there is no such file or it does not say where workers go.
    """
    file = config_file(path)
    if file is None:
        raise ConfigError(
            f"there is no {FILE} here: `staffa init` writes one, `staffa new app` a whole project"
        )
    config = load(path)
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


def _staffa_table(document: TOMLDocument, file: Path) -> Container | Table:
    table = document["tool"]["staffa"] if file.name == "pyproject.toml" else document
    assert isinstance(table, Container | Table)  # noqa: S101 - it was read as a configuration before
    return table


def _new_queue(given: str) -> tuple[str, int]:
    try:
        [(name, queue)] = queue_limits(given).items()
    except ValueError as error:
        raise GeneratorError(
            f"--new-queue {given}: write one queue with its limit, as in digests:4 ({error})"
        ) from error
    return name, queue.limit


def _add_queue(table: Container | Table, given: str, queues: Mapping[str, QueueConfig]) -> None:
    name, limit = _new_queue(given)
    written = table.get("queues")
    if name in queues and written is not None:
        raise GeneratorError(f"there is a queue {name} already, with limit {queues[name].limit}")
    if written is None:  # then those that hold without being written are to go on
        table["queues"] = tomlkit.table()
        written = table["queues"]
        for each, queue in queues.items():
            written[each] = queue.limit
    written[name] = limit


def _add_module(table: Container | Table, module: str) -> None:
    modules = table.get("modules")
    if modules is None:
        table["modules"] = [module]
    elif module not in modules:
        modules.append(module)
