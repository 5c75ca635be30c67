"""Write new files: a worker with its test, a whole project, a guide for coding assistants."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from staffa.cli.consent import can_be_asked
from staffa.cli.printing import AsJson, tell_json
from staffa.cli.settings import Settings, configured
from staffa.errors import ConfigError, GeneratorError, StaffaError

DEFAULT_ATTEMPTS = 3
USAGE = "Usage: staffa new worker NAME --queue QUEUE --purpose TEXT"

commands = typer.Typer(
    help="Write new files: a worker with its test, a whole project, a guide for coding assistants.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Force = Annotated[bool, typer.Option("--force", help="Write over files that are there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be written.")]


@commands.command("worker")
@configured
def new_worker(
    settings: Settings,
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="In any spelling: send-digest, SendDigest.")
    ] = None,
    queue: Annotated[str | None, typer.Option(metavar="NAME", help="A configured queue.")] = None,
    purpose: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the worker does, in one sentence.")
    ] = None,
    max_attempts: Annotated[
        int, typer.Option(metavar="N", help="How often a job may be attempted.")
    ] = DEFAULT_ATTEMPTS,
    awaited: Annotated[bool, typer.Option("--async", help="Write `async def perform`.")] = False,
    new_queue: Annotated[
        str | None, typer.Option(metavar="NAME:LIMIT", help="Add this queue to the configuration.")
    ] = None,
    force: Force = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Then run its test, compile and check types, format, lint."),
    ] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Write a worker and its test, and let the configuration know of them.

    On a terminal it asks for what is not given. Workers and tests go where [generator] of the configuration says.
    JSON: {"written": [paths]}, with --dry-run {"files": {path: text}}.
    """
    asked = {"NAME": name, "--queue": new_queue if queue is None else queue, "--purpose": purpose}
    if missing := [each for each, given in asked.items() if given is None]:
        _refuse_without_terminal(missing)
    generator = _generator()
    project = generator.find_project(settings.path)
    if name is None:
        name = _asked("Name", generator.name_of)
    if queue is None and new_queue is None:
        queue = _chosen_queue(project)
    if purpose is None:
        purpose = _asked("Purpose, in one sentence", generator.sentence)
    wanted = generator.NewWorker(
        name=name,
        queue=queue,
        purpose=purpose,
        new_queue=new_queue,
        max_attempts=max_attempts,
        awaited=awaited,
    )
    with generator.alone_in(project.root):
        project = generator.find_project(settings.path)  # another process may have changed it meanwhile
        planned = generator.new_worker(project, wanted)
        _write(planned.changes, force=force, dry_run=dry_run, json=json)
    if verify and not dry_run:
        generator.verify(project, planned, sys.stderr if json else sys.stdout)


@commands.command("app")
@configured
def new_app(
    settings: Settings,  # noqa: ARG001 - there is no configuration yet
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="In any spelling; it names the folder too.")],
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Write a new project into a folder of its name: configuration, a worker, a test, Makefile, README.

    JSON: {"written": [paths]}, with --dry-run {"files": {path: text}}.
    """
    changes = _generator().new_app(name, Path())
    _write(changes, dry_run=dry_run, json=json)
    if not dry_run and not json:
        typer.echo(f"Next: cd {changes[0].path.parent}, then `make test` and `make run`.")


@commands.command("assistant-guide")
@configured
def new_assistant_guide(
    settings: Settings,
    *,
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="Where; by default docs/commands/new-worker.md.")
    ] = None,
    force: Force = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Write a guide that tells a coding assistant how to make a worker in this project.

    It names the queues as they are configured now. JSON: {"written": [paths]}, with --dry-run {"files": {path: text}}.
    """
    generator = _generator()
    change = generator.new_guide(generator.find_project(settings.path), path)
    _write([change], force=force, dry_run=dry_run, json=json)


def _generator() -> Any:
    """Load what writes files; it needs libraries that running jobs does not. Raises `ConfigError`."""
    try:
        return import_module("staffa.generator")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`staffa new` needs {error.name}, which is not installed: pip install 'staffa[new]'"
        ) from error


def _write(changes: Sequence[Any], *, force: bool = False, dry_run: bool, json: bool) -> None:
    if dry_run and json:
        tell_json({"files": {str(change.path): change.text for change in changes}})
    elif dry_run:
        _show(changes)
    else:
        _generator().write(changes, force=force)
        written = [str(change.path) for change in changes]
        if json:
            tell_json({"written": written})
            return
        for change in changes:
            typer.echo(f"{'Changed' if change.updates else 'Wrote'} {change.path}")


def _show(changes: Sequence[Any]) -> None:
    if sys.stdout.isatty():
        import_module("staffa.cli.terminal").tell_files([(str(each.path), each.text) for each in changes])
        return
    for change in changes:
        typer.echo(f"# {change.path}\n\n{change.text}")


# Asking


def _refuse_without_terminal(missing: Sequence[str]) -> None:
    if not can_be_asked():
        typer.echo(USAGE, err=True)
        raise ConfigError(f"{', '.join(missing)} must be given, as there is no terminal to ask on")


def _asked(question: str, read: Callable[[str], object]) -> str:
    """Ask until the answer can be read."""
    while True:
        answer: str = typer.prompt(question)
        try:
            read(answer)
        except StaffaError as error:
            typer.echo(str(error), err=True)
        else:
            return answer


def _chosen_queue(project: Any) -> str:
    """Let a queue be chosen from a list, by its number or its name."""
    queues: list[str] = [*project.queues]
    if not queues:
        raise GeneratorError(f"{project.config} names no queue: add one with --new-queue NAME:LIMIT")
    for number, queue in enumerate(queues, 1):
        typer.echo(f"  {number}. {project.described(queue)}")

    def chosen(answer: str) -> str:
        if answer in queues:
            return answer
        if answer.isdecimal() and 0 < int(answer) <= len(queues):
            return queues[int(answer) - 1]
        raise GeneratorError(f"choose one of them, by its number or its name, not {answer!r}")

    return chosen(_asked("Queue", chosen))
