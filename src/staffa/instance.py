"""Where the parts meet. Only this module knows which parts there are."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4
from weakref import WeakMethod

from staffa._bridge import refuse_inside_loop
from staffa._cron import DEFAULT_ZONE, Cron, CronEntry, crons, zone
from staffa._crontab import crontab
from staffa._dialogue import Begin
from staffa._enqueuer import is_default, offer, overridden
from staffa._examination import examined
from staffa._finding import Finding
from staffa._hands import Hands, InThisThread, InThreads
from staffa._heart import Heart
from staffa._job import AnyJob, State
from staffa._job_calls import JobCalls
from staffa._parts import Parts
from staffa._peer import Peer, lease_of
from staffa._processes import InProcesses, in_child
from staffa._producer import Producer
from staffa._queue_calls import QueueCalls
from staffa._queues import Queues
from staffa._repeat import Repeated
from staffa._result_calls import ResultCalls
from staffa._signals import ident, understood
from staffa._texts import texts
from staffa._threads import Threads
from staffa._waiting import Waiting
from staffa._watched import Watched
from staffa.config import Config, QueueConfig, Testing, load, queues_of, without_password
from staffa.engine import Database, Engine, Tables
from staffa.engines.inline import InlineDatabase
from staffa.errors import ConfigError, InstanceError
from staffa.notifier import DUE, INSERT, LEADER, SIGNAL, WATCH, Payload
from staffa.plugin import Plugin
from staffa.plugins.cron import Crontab
from staffa.plugins.lifeline import Lifeline
from staffa.plugins.pruner import Pruner
from staffa.plugins.reindexer import Reindexer
from staffa.plugins.stager import Stager
from staffa.telemetry import InstanceStarted, InstanceStopped, Telemetry
from staffa.worker import registered

T = TypeVar("T")

ENGINES = {
    "sqlite": ("staffa.engines.sqlite", "SqliteDatabase", ""),
    "postgresql": ("staffa.engines.postgres", "PostgresDatabase", "postgres"),
    "postgres": ("staffa.engines.postgres", "PostgresDatabase", "postgres"),
}


class Staffa(JobCalls, QueueCalls, ResultCalls):
    """One system of jobs on one database.

    Making one opens nothing. `async with staffa:` runs its queues; enqueueing works without that, from any
    thread or event loop. `queues` maps names to limits (jobs at once on this node) or `{"limit", "purpose"}`.
    `plugins` replace those of the same class or are added; Stager, Pruner, Lifeline and Crontab are always
    there. `cron` are entries of the crontab beside those that workers declare, `timezone` is where their
    expressions are read. `modules` are imported before queues run, so that their workers are known.
    `testing="manual"` stores jobs and runs nothing, `testing="inline"` runs them where they are enqueued and
    stores nothing. Raises `ConfigError` where something is wrong.
    """

    def __init__(
        self,
        url: str = "sqlite:///staffa.db",
        *,
        queues: Mapping[str, int | Mapping[str, Any] | QueueConfig] | None = None,
        modules: Sequence[str] = (),
        plugins: Sequence[Plugin] = (),
        name: str = "Staffa",
        node: str | None = None,
        schema: str = "public",
        default: bool = False,
        run_queues: bool = True,
        testing: Testing | None = None,
        grace: timedelta = timedelta(seconds=15),
        poll: timedelta = timedelta(seconds=1),
        heartbeat: timedelta = timedelta(seconds=5),
        stuck_after: timedelta = timedelta(minutes=10),
        timezone: str = DEFAULT_ZONE,
        cron: Sequence[Cron] = (),
    ) -> None:
        _refuse_testing(testing)
        _refuse_unstorable(name=name, node=node or "")
        self.url, self.schema = url, schema
        self.name, self.default = name, default
        self.queues = queues_of({"default": 10} if queues is None else queues)
        self.telemetry = Telemetry(name, node or socket.gethostname())
        self.modules = texts("modules", modules, ConfigError)
        self.runs_queues = run_queues and testing is None
        self._plugins = _with_standard(plugins)
        self._grace, self._poll = grace, poll
        self._heartbeat, self._stuck_after = heartbeat, stuck_after
        zone(timezone)
        self._timezone, self._cron = timezone, crons(cron)
        self._database = (
            InlineDatabase(self.telemetry) if testing == "inline" else _database(url, schema, self.telemetry)
        )
        self._waiting, self._watched = Waiting(self._database), Watched()
        self._hands: Hands = InThisThread()
        self._queues = Queues(_weakly(self._producer))
        self._parts: Parts | None = None
        self._stage_soon: Callable[[], None] = _nobody_stages
        self._started = self._announced = False
        self._stopping: asyncio.Event | None = None
        offer(self)

    @classmethod
    def from_config(cls, config: Config | str | Path | None = None, **options: Any) -> Self:
        """Make an instance from a configuration, a file, or what is found in the working directory."""
        found = config if isinstance(config, Config) else load(config)
        plugins: list[Plugin] = [
            Pruner(**found.pruner),
            Stager(**found.stager),
            Lifeline(**found.lifeline),
            Crontab(**found.crontab),
        ]
        if found.reindexer is not None:
            plugins.append(Reindexer(**{"timezone": found.timezone, **found.reindexer}))
        settings: dict[str, Any] = {
            "queues": found.queues,
            "modules": found.modules,
            "plugins": plugins,
            "name": found.name,
            "node": found.node,
            "schema": found.schema,
            "testing": found.testing,
            "grace": found.grace,
            "poll": found.poll,
            "heartbeat": found.heartbeat,
            "stuck_after": found.stuck_after,
            "timezone": found.timezone,
            "cron": found.cron,
        }
        return cls(found.database, **{**settings, **options})

    def __repr__(self) -> str:
        return f"<Staffa {self.name} on {without_password(self.url)}>"

    @property
    def node(self) -> str:
        """What this machine is called, by those who listen to telemetry too."""
        return self.telemetry.node

    @node.setter
    def node(self, node: str) -> None:
        self.telemetry.node = node

    # The database

    def migrate(self, to: int | None = None, *, indexes: Sequence[str] = ()) -> list[int]:
        """Make or update the tables, up to a version if given one; give the versions applied; blocks.

        `indexes` names columns (args, meta, tags) that filters ask for what they contain; on PostgreSQL each gets
        an index, made while others write, unless it has one. Safe to call twice, and from two processes. Raises
        `SchemaUnsupported` for tables that cannot be adopted, `ConfigError` for indexes that cannot be made.
        """
        refuse_inside_loop("migrate", "amigrate()")
        return self._migrated(to, indexes)

    async def amigrate(self, to: int | None = None, *, indexes: Sequence[str] = ()) -> list[int]:
        """Make or update the tables; awaited. See `migrate`."""
        return await _in_thread(lambda: self._migrated(to, indexes))

    def _migrated(self, to: int | None, indexes: Sequence[str]) -> list[int]:
        columns = texts("indexes", indexes, ConfigError)
        applied = self._database.tables.forward(to)
        self._database.tables.index(columns)
        return applied

    def migrate_back(self, to: int) -> list[int]:
        """Take away the versions of the tables above `to`, 0 for all that is Staffa's; give them; blocks.

        What these versions hold is lost, jobs too where Staffa made their table. Queues must not run meanwhile.
        """
        refuse_inside_loop("migrate_back", "amigrate_back(...)")
        return self._database.tables.back(to)

    async def amigrate_back(self, to: int) -> list[int]:
        """Take versions of the tables away; awaited. See `migrate_back`."""
        return await _in_thread(lambda: self._database.tables.back(to))

    def migration_sql(self, since: int = 0, to: int | None = None) -> list[str]:
        """List the statements that lead from one version of the tables to another; asks no database.

        For tools such as Alembic that execute migrations themselves. Raises `ConfigError` for unknown versions.
        """
        return self._database.tables.script(since, to)

    @property
    def tables(self) -> Tables:
        """The tables, for tools that look before they migrate."""
        return self._database.tables

    def examine(self) -> list[Finding]:
        """Look for what is or may go wrong: the database, who runs which queues, what waits for whom.

        Workers are judged by the modules imported so far. Nothing is written.
        """
        refuse_inside_loop("examine", "aexamine()")
        return self._examined()

    async def aexamine(self) -> list[Finding]:
        """Look for what is or may go wrong; awaited. See `examine`."""
        return await _in_thread(self._examined)

    def _examined(self) -> list[Finding]:
        return list(
            examined(
                self._database,
                lease=lease_of(self.name),
                queues=self.queues if self.runs_queues else {},
                workers=sorted(registered()),
                crontab=lambda: self.crontab if self.runs_queues else [],
            )
        )

    def close(self) -> None:
        """Let go of the database; a later call opens it again."""
        self._waiting.close()
        self._database.dispose()

    # Running queues

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:  # noqa: ARG002 - what ASGI frameworks hand over
        """Run the queues while an ASGI application runs: `Starlette(lifespan=staffa.lifespan)`."""
        async with self:
            yield

    async def start(self) -> None:
        """Run the queues on this event loop. Raises `SchemaMissing` where `staffa migrate` was forgotten."""
        if self._started:
            raise InstanceError(f"{self!r} runs already: stop it first, or make another")
        if in_child():
            raise InstanceError(
                "this process runs one job for another, and no queues: it imported a program that starts them;"
                " guard that with `if __name__ == '__main__':`"
            )
        self._started = True
        try:
            import_modules(self.modules)
            await self._database.open()
            if self.runs_queues:
                self._parts = self._assembled()
                self._parts.start()
            self._announced = True
            running = self.queues if self.runs_queues else {}
            self.telemetry.emit(InstanceStarted({name: each.limit for name, each in running.items()}))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Take no more jobs, wait the grace period for those that run, put back what was cut off."""
        if self._stopping is not None:  # somebody else does so already
            await self._stopping.wait()
            return
        stopped = self._stopping = asyncio.Event()
        parts, self._parts = self._parts, None
        began, announced, self._announced = time.monotonic(), self._announced, False
        try:
            if parts is not None:
                await parts.stop()
        finally:
            await self._database.close()
            self._started, self._stopping = False, None
            stopped.set()
            if announced:
                self.telemetry.emit(InstanceStopped(timedelta(seconds=time.monotonic() - began)))

    async def hand_back(self) -> None:
        """Put back the jobs that did not stop; only for a process that exits at once afterwards."""
        await self._queues.hand_back()

    @property
    def unstopped(self) -> int:
        """Count jobs that still run after `stop`."""
        return self._queues.unstopped

    @property
    def takes_from(self) -> frozenset[str]:
        """Name the queues of which this node takes jobs now: those that run here and are not paused."""
        return self._queues.taking

    @property
    def leads(self) -> bool:
        """Tell whether this node does the leader's duties now."""
        return self._parts is not None and self._parts.peer.leads

    @contextmanager
    def as_default(self) -> Iterator[Self]:
        """Make this instance the default for workers in this context."""
        with overridden(self):
            yield self

    @property
    def engine(self) -> Engine:
        """The awaited words of the engine, for tools that know them."""
        return self._database.engine

    @property
    def plain_engine(self) -> Engine:
        """The words of the engine for callers without an event loop; see `staffa._bridge.at_once`."""
        return self._database.plain

    @property
    def crontab(self) -> list[CronEntry]:
        """The cron entries of this instance. Raises `InvalidCron` where one is wrong.

        Those of workers belong to the default instance; to each one where several could be it.
        """
        return crontab(self._cron, self._timezone, with_workers=is_default(self))

    # Parts

    def _assembled(self) -> Parts:
        engine = self._database.engine
        threads = Threads("staffa-job")
        processes = InProcesses(threads, partial(self._beginning, default=is_default(self)))
        self._hands = InThreads(threads, processes)
        self._queues = Queues(_weakly(self._producer), self.queues)
        peer = Peer(
            lease_of(self.name),
            f"{self.node}/{uuid4()}",
            engine=engine,
            telemetry=self.telemetry,
            changed=lambda leads: self._led(leads=leads),
        )
        heart = Heart(
            self._database,
            telemetry=self.telemetry,
            producers=self._queues.living,
            expired=self._queues.expire,
            interval=self._heartbeat,
            stuck_after=self._stuck_after,
        )
        duties: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "notifier": lambda: self._database.notifier().run(self._heard),
            "peer": peer.run,
            "poll": partial(self._queues.poll, engine, self._poll),
        }
        for plugin in self._plugins:
            if isinstance(plugin, Crontab):
                plugin.begin(self.crontab)
            repeated = Repeated(plugin, engine=engine, peer=peer, telemetry=self.telemetry)
            if isinstance(plugin, Stager):
                self._stage_soon = repeated.wake
            duties[type(plugin).__name__] = repeated.run
        return Parts(self._queues, self.queues, peer, heart, duties, threads=threads, processes=processes)

    def _led(self, *, leads: bool) -> None:
        """Hear that this node began or ceased to lead."""
        self._database.leading(leads=leads)
        self._stage_soon()

    def _producer(self, queue: str, limit: int, paused: bool) -> Producer:
        return Producer(
            queue,
            limit,
            node=self.node,
            engine=self._database.engine,
            hands=self._hands,
            telemetry=self.telemetry,
            watched=self._watched,
            poll=self._poll,
            heartbeat=self._heartbeat,
            grace=self._grace,
            paused=paused,
        )

    def _beginning(self, *, default: bool) -> Begin:
        """Say what a process must know that runs jobs for this one, and may enqueue others."""
        levels = {
            name: logger.level
            for name, logger in logging.Logger.manager.loggerDict.items()
            if isinstance(logger, logging.Logger) and logger.level
        }
        return Begin(
            parent=os.getpid(),
            modules=self.modules,
            url=self._database.reach,
            schema=self.schema,
            name=self.name,
            node=self.node,
            default=default,
            levels={**levels, "root": logging.getLogger().level},
        )

    def _heard(self, channel: str, payload: Payload) -> None:
        if channel == INSERT:
            self._queues.wake(payload.get("queue"))
        elif channel == SIGNAL:
            signal = understood(payload, ident(self.name, self.node))
            if signal is not None:
                self._queues.obey(signal)
        elif channel == DUE:
            self._stage_soon()
        elif channel == WATCH:
            if self._watched.watch(payload):
                self._queues.wake(None)  # any of them tells
        elif channel == LEADER and self._parts is not None:
            self._parts.peer.hear(payload)

    def _wake_here(self, jobs: Sequence[AnyJob]) -> None:
        """Wake this process at once; other ones hear of it from the database."""
        self._queues.wake_from_anywhere({job.queue for job in jobs if job.state is State.AVAILABLE})


def _nobody_stages() -> None:
    """Do nothing: no queues run."""


def _weakly(method: Callable[[str, int, bool], Producer]) -> Callable[[str, int, bool], Producer]:
    """Let a method be called by what must not keep its instance: one that nobody holds takes no jobs any more."""
    reference = WeakMethod(method)

    def called(queue: str, limit: int, paused: bool) -> Producer:
        found = reference()
        assert found is not None  # noqa: S101 - queues run only while somebody holds their instance
        return found(queue, limit, paused)

    return called


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)


def import_modules(modules: Sequence[str]) -> None:
    """Import the declared modules, so that their workers are known. Raises `ConfigError` naming the module."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"modules: {module!r} cannot be imported: {error}") from error


def _database(url: str, schema: str, telemetry: Telemetry) -> Database:
    """Find the engine of a URL; its module is imported only now, so that drivers stay extras."""
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme not in ENGINES:
        raise ConfigError(
            f"{without_password(url)!r} is no database URL: write sqlite:///app.db or postgresql://user@host/name"
        )
    module, name, extra = ENGINES[scheme]
    try:
        engine = importlib.import_module(module)
    except ImportError as error:
        if not extra or (error.name or "").partition(".")[0] == "staffa":
            raise
        raise ConfigError(f"{scheme} needs {error.name}: run pip install 'staffa[{extra}]'") from error
    options = {} if scheme == "sqlite" else {"schema": schema}
    database: Database = getattr(engine, name)(url, telemetry=telemetry, **options)
    return database


def _with_standard(plugins: Sequence[Plugin]) -> list[Plugin]:
    """Add the standard plugins where no other of their class was given; refuse two of a class."""
    kinds = [type(plugin) for plugin in plugins]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ConfigError(f"plugins: there are two of {kind.__name__}; give one")
    standard: list[Plugin] = [kind() for kind in (Stager, Lifeline, Pruner, Crontab) if kind not in kinds]
    return [*standard, *plugins]


def _refuse_unstorable(**options: str) -> None:
    for option, text in options.items():
        if not isinstance(text, str) or "\0" in text or not text.isprintable():
            raise ConfigError(f"{option} must be printable text, not {text!r}")


def _refuse_testing(testing: object) -> None:
    if testing not in (None, "manual", "inline"):
        raise ConfigError(f'testing must be "manual", "inline" or None, not {testing!r}')
