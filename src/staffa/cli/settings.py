"""Which configuration, and which instance, a command speaks to."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from staffa._printable import printable
from staffa._spelling import unknown
from staffa.cli.options import taking_options
from staffa.config import Config, load
from staffa.engines.sqlite import path_of
from staffa.errors import (
    ConfigError,
    DatabaseError,
    GeneratorError,
    InvalidFilter,
    JobError,
    StaffaError,
    WorkerError,
)
from staffa.instance import Staffa, import_modules

DONE_WRONGLY, ASKED_WRONGLY = 1, 2

SHARED: dict[str, Any] = {
    "config": Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Read this file instead of staffa.toml or pyproject.toml."),
    ],
    "database": Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Use this database: sqlite:///app.db or postgresql://user@host/name."
        ),
    ],
    "schema": Annotated[str | None, typer.Option(metavar="NAME", help="Use this schema of PostgreSQL.")],
    "app": Annotated[
        str | None, typer.Option(metavar="MODULE:NAME", help="Use the Staffa that your program makes.")
    ],
    "module": Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Import workers from this module; may be repeated."),
    ],
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options of all commands say."""

    given: Mapping[str, Any]

    @property
    def path(self) -> Path | None:
        path: Path | None = self.given.get("config")
        return path

    def config(self, **more: Any) -> Config:
        """Read the configuration; options weigh most. Raises `ConfigError`."""
        flags = {
            "database": self.given.get("database"),
            "schema": self.given.get("schema"),
            "app": self.given.get("app"),
            "modules": self.given.get("module"),
        }
        return load(self.path, flags={**flags, **more})

    @contextmanager
    def instance(self, *, looks: bool = False) -> Iterator[Staffa]:
        """Make the instance to enqueue with, or to look at; it runs nothing. Looking makes no new files."""
        config = self.config()
        elsewhere = [key for key in ("database", "schema") if self.given.get(key) is not None]
        staffa = _built(config) if config.app is None or elsewhere else application(config.app)
        if looks:
            _refuse_missing_file(staffa.url)
        try:
            yield staffa
        finally:
            staffa.close()

    def running_instance(self, config: Config) -> Staffa:
        """Make the instance that runs queues. Raises `ConfigError` where the options contradict its program."""
        if config.app is None:
            return _built(config)
        for key in ("database", "schema"):
            if self.given.get(key) is not None:
                raise ConfigError(
                    f"--{key}: {config.app} makes its own Staffa with a {key} of its own; change it there,"
                    f" or run without app"
                )
        return application(config.app)

    def know_workers(self, staffa: Staffa) -> None:
        """Import the modules that define the workers. Raises `ConfigError`."""
        config = self.config()
        if config.app is not None:
            application(config.app)
        with _importing("modules"):
            import_modules([*staffa.modules, *config.modules])


def _built(config: Config) -> Staffa:
    _find_modules_here()
    return Staffa.from_config(config)


def application(path: str) -> Staffa:
    """Find a program's own instance, written `pkg.jobs:staffa`. Raises `ConfigError`."""
    _find_modules_here()
    module, _, name = path.partition(":")
    with _importing("app"):
        try:
            found: Any = importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"app: {module!r} cannot be imported: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            names = [each for each in vars(found) if not each.startswith("_")]
            known = [each for each in names if isinstance(getattr(found, each), Staffa)] or names
            raise ConfigError(f"app: in {module}: {unknown(part, known, 'name')}")
        found = getattr(found, part)
    if not isinstance(found, Staffa):
        raise ConfigError(f"app: {path} is a {type(found).__name__}, not a Staffa")
    return found


def _refuse_missing_file(url: str) -> None:
    """Say that a SQLite file is not there, rather than make one in the wrong directory."""
    if not url.startswith("sqlite"):
        return
    path = path_of(url)
    if path != ":memory:" and not Path(path).exists():
        raise DatabaseError(
            f"{path}: there is no such file; run this where your program runs, name it with --database,"
            " or make it with `staffa migrate`"
        )


def _find_modules_here() -> None:
    """Let modules be found in the working directory, as `python -m` does."""
    here = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if here not in sys.path:
        sys.path.insert(0, here)


@contextmanager
def _importing(key: str) -> Iterator[None]:
    """Say in one line what is wrong in a module of the user, and where."""
    try:
        yield
    except StaffaError:
        raise
    except SyntaxError as error:
        raise ConfigError(f"{key}: {error.msg} ({error.filename}, line {error.lineno})") from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{key}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
        ) from error


# How commands get their settings


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options and, as its first argument, what they say; tell errors in one line."""

    def called(context: typer.Context, **given: Any) -> None:
        shared = {name: given.pop(name) for name in SHARED}
        with _refusing():
            command(Settings({**(context.obj or {}), **_present(shared)}), **given)

    return taking_options(called, command, supplied=1, options=SHARED)


def remember(command: Callable[..., None]) -> Callable[..., None]:
    """Let the shared options stand before the command's name, too."""

    def called(context: typer.Context, **given: Any) -> None:
        context.obj = _present({name: given.pop(name) for name in SHARED})
        command(**given)

    return taking_options(called, command, supplied=0, options=SHARED)


def _present(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value not in (None, [])}


@contextmanager
def _refusing() -> Iterator[None]:
    """Tell errors in one line: exit 2 where something was asked wrongly, 1 where it could not be done."""
    try:
        yield
    except StaffaError as error:
        line = " ".join(printable(str(error)).split())
        typer.echo(f"staffa: {line}", err=True)
        wrongly = isinstance(error, ConfigError | GeneratorError | InvalidFilter | JobError | WorkerError)
        raise typer.Exit(ASKED_WRONGLY if wrongly else DONE_WRONGLY) from None
