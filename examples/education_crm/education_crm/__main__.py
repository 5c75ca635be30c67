"""The command line: ``python -m education_crm demo | serve | setup``."""

import asyncio
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.console import Console
from sqlalchemy.exc import IntegrityError
from starlette.applications import Starlette

from education_crm import crm as process
from education_crm.crm import Crm
from education_crm.demo import DemoFailed, show
from education_crm.people import add_user
from education_crm.queues import configured_database, open_queues
from education_crm.seeding import PASSWORD, found_company
from education_crm.settings import Settings
from education_crm.web.app import build_app

cli = typer.Typer(help="The Education CRM, an example application of Staffa.", no_args_is_help=True)
Url = Annotated[str | None, typer.Option("--database", help="Database URL; from staffa.toml where left out.")]
FIRST_PORT = 8000


@cli.command()
def demo(database: Url = None) -> None:
    """Import 10,000 rows and join a recording through real queues; on a terminal, serve afterwards."""
    console = Console()

    with tempfile.TemporaryDirectory(prefix="education-crm-") as folder:
        home = Path(folder)
        settings = Settings(
            database_url=database or f"sqlite:///{home / 'crm.db'}",
            temp_root=home / "tmp",
            recordings_root=home / "recordings",
        )

        with suppress(KeyboardInterrupt):
            asyncio.run(_demo(settings, console))


async def _demo(settings: Settings, console: Console) -> None:
    crm = Crm.open(settings)
    staffa = open_queues(settings.database_url)
    app = build_app(crm, staffa)

    async with app.router.lifespan_context(app):
        console.print(f"Education CRM on [bold]{settings.database_url}[/]\n", highlight=False)

        try:
            company = await show(crm, staffa, console)
        except DemoFailed as failed:
            console.print(f"[red]{failed}[/]")
            raise typer.Exit(1) from failed

        if sys.stdout.isatty():
            await _serve_until_stopped(app, console, company.admin_username, company.telecaller_username)

    crm.close()


async def _serve_until_stopped(app: Starlette, console: Console, admin: str, telecaller: str) -> None:
    port = _free_port()
    console.print(f"\nServing on [bold]http://127.0.0.1:{port}[/] until Ctrl-C", highlight=False)
    console.print(f"Log in as [bold]{admin}[/] or [bold]{telecaller}[/], password [bold]{PASSWORD}[/]")
    config = uvicorn.Config(app, host="127.0.0.1", port=port, lifespan="off", log_level="warning")
    await uvicorn.Server(config).serve()


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + 50):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port

    raise typer.BadParameter("no free port from 8000 to 8049")


@cli.command()
def setup(
    username: Annotated[str, typer.Option(help="The first admin's username.")] = "admin",
    password: Annotated[str, typer.Option(help="The password; asked for where left out.")] = "",
    *,
    sample: Annotated[bool, typer.Option(help="Make two branches with seven telecallers instead.")] = False,
    database: Url = None,
) -> None:
    """Make the tables and the first admin."""
    chosen = PASSWORD if sample else password or typer.prompt("Password", hide_input=True)
    crm = _configured(database)
    crm.set_up()
    open_queues(crm.settings.database_url).migrate()

    try:
        with crm.database.write() as connection:
            if sample:
                username = found_company(connection).admin_username
            else:
                add_user(connection, username, chosen, full_name=username, role="admin")
    except IntegrityError as error:
        message = f"{username!r} is taken already, or shorter than 3 letters"
        raise typer.BadParameter(message, param_hint="--username") from error

    typer.echo(f"Ready: log in as {username}{f' with {PASSWORD}' if sample else ''}")


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = FIRST_PORT,
    database: Url = None,
) -> None:
    """Serve the pages and the API, and run the queues."""
    crm = _configured(database)
    uvicorn.run(build_app(crm, open_queues(crm.settings.database_url)), host=host, port=port)


def _configured(database: str | None) -> Crm:
    crm = Crm.open(Settings.from_environment(database or configured_database()))
    process.install(crm)
    return crm


if __name__ == "__main__":
    cli()
