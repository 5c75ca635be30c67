"""Run queues until a signal says stop."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from staffa._finding import Level
from staffa._job import FAILED, State
from staffa._spelling import unknown
from staffa.cli.printing import counted, our_version
from staffa.cli.settings import Settings
from staffa.cli.supervisor import MEMBER, Line, Supervisor
from staffa.config import LogFormat, QueueConfig, queue_limits, without_password
from staffa.engines._sqlite_examination import library
from staffa.errors import ConfigError, DatabaseError, DatabaseUnavailable
from staffa.instance import Staffa
from staffa.json_log import JsonFormatter, log_json
from staffa.notifier import INSERT, naming_queues
from staffa.telemetry import JobStopped
from staffa.worker import registered

logger = logging.getLogger("staffa")

LEVELS = ("debug", "info", "warning", "error", "critical")
IDLE_CHECK_SECONDS = 0.2
ECHO_SECONDS = 0.1  # wrappers such as `timeout` signal their child and its group, so it hears them twice
LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
MEMBERS_LINE = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"
STAGED_AT_ONCE = 5_000
COLLECTED_AT = 10_000  # objects more than before


def run(
    settings: Settings,
    *,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:LIMIT]", help="Run only these queues, with their configured or these limits."
        ),
    ] = None,
    until_idle: Annotated[
        bool,
        typer.Option(
            "--until-idle",
            help="Exit 0 once nothing is available, due or executing in the queues run here; jobs of paused"
            " queues stay available.",
        ),
    ] = False,
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help=f"One of {', '.join(LEVELS)}.")] = "info",
    log_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="text, or json: one JSON object a line.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Keep N processes running, each with all of these queues and limits."),
    ] = None,
    member: Annotated[int | None, typer.Option(MEMBER, hidden=True)] = None,
) -> None:
    """Run queues until SIGTERM or Ctrl-C.

    The first signal takes no more jobs and waits the grace period for those that run; then what still runs is
    put back, and the exit code is 0. A second signal puts them back at once and exits 1.
    """
    config = settings.config(log_format=log_format, processes=processes)
    _log_to_stderr(log_level, config.log_format, LINE if member is None else MEMBERS_LINE)
    if config.processes > 1:
        _supervise(config.processes, until_idle=until_idle)
    line = None if member is None else Line()
    staffa = settings.running_instance(config)
    if member is not None:
        staffa.node = f"{staffa.node}.{member}"
    _refuse_what_runs_nothing(staffa)
    settings.know_workers(staffa)
    if queue:
        staffa.queues = chosen(staffa.queues, queue)
    if member in (None, 1):
        _tell_what_runs(staffa)
    if config.log_format == "json":
        log_json(staffa)
    elif logger.isEnabledFor(logging.DEBUG):
        staffa.telemetry.attach(_log_the_others, JobStopped)

    # what jobs enqueue goes to the instance that runs them, whatever else their modules make
    mine = staffa.as_default() if config.app is None else nullcontext()
    with mine, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(Service(staffa, until_idle=until_idle, line=line).serve())


def _supervise(processes: int, *, until_idle: bool) -> NoReturn:
    """Run as many processes of the same command instead of this one."""
    with asyncio.Runner() as runner:
        raise typer.Exit(runner.run(Supervisor(sys.argv[1:], processes, until_idle=until_idle).run()))


def chosen(configured: Mapping[str, QueueConfig], texts: Sequence[str]) -> dict[str, QueueConfig]:
    """Choose queues by `name` or `name:limit`. Raises `ConfigError` naming the option."""
    found: dict[str, QueueConfig] = {}
    for text in texts:
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, new = _one_queue(configured, part)
            if name in found:
                raise ConfigError(f"--queue: {name} is given twice")
            found[name] = new
    if not found:
        raise ConfigError("--queue: name a queue, as in --queue default:10")
    return found


def _one_queue(configured: Mapping[str, QueueConfig], part: str) -> tuple[str, QueueConfig]:
    if part in configured:
        return part, configured[part]
    if ":" not in part:
        raise ConfigError(
            f"--queue: {unknown(part, configured, 'queue')} (another one needs a limit: {part}:10)"
        )
    try:
        [(name, new)] = queue_limits(part).items()
    except ValueError as error:
        raise ConfigError(f"--queue: {error}") from error
    purpose = configured[name].purpose if name in configured else ""
    return name, QueueConfig(new.limit, purpose)


class Service:
    """An instance whose queues run until a signal comes, or until they are idle. Serving ends the process."""

    def __init__(self, staffa: Staffa, *, until_idle: bool, line: Line | None = None) -> None:
        self._staffa, self._until_idle, self._line = staffa, until_idle, line
        self._told = asyncio.Event()
        self._signals = 0
        self._patience: asyncio.Timeout | None = None

    async def serve(self) -> NoReturn:
        self._listen()
        await self._staffa.start()
        _collect_less_often()
        if self._line is not None:
            self._line.say_that_it_runs()
        await self._until_told()
        code = await self._stop()
        _leave(code)

    # Signals

    def _listen(self) -> None:
        """Hear signals even while a job blocks the event loop.

        One of several processes hears from its supervisor how urgent it is: a signal that was sent to all of
        them reaches it twice, and says no more than that it is time to stop.
        """
        loop = asyncio.get_running_loop()

        def told(urgency: int, name: str) -> None:
            if urgency > self._signals:
                self._signals = urgency
                loop.call_soon_threadsafe(self._hear, name)

        last = (0, -math.inf)

        def heard(number: int, _: FrameType | None) -> None:
            nonlocal last
            before, last = last, (number, time.monotonic())
            if before[0] == number and last[1] - before[1] < ECHO_SECONDS:
                return
            urgency = self._signals + 1 if self._line is None else 1
            if urgency > 2:  # noqa: PLR2004 - whoever asks a third time wants no answer
                os._exit(128 + number)
            told(urgency, signal.Signals(number).name)

        if self._line is not None:
            self._line.listen(told)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, heard)

    def _hear(self, name: str) -> None:
        self._told.set()
        if self._signals > 1:
            logger.warning("%s again: running jobs are put back at once", name)
            self._lose_patience()
        else:
            logger.info("%s: no more jobs are taken; waiting for those that run", name)

    def _lose_patience(self) -> None:
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    # The end

    async def _until_told(self) -> None:
        while not self._told.is_set():
            if self._until_idle and await self._is_idle():
                await self._tell_idle()
                self._told.set()
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_CHECK_SECONDS if self._until_idle else None):
                    await self._told.wait()

    async def _is_idle(self) -> bool:
        """Look whether nothing executes in the queues that run here, and nothing waits that they would take."""
        engine, queues = self._staffa.engine, self._staffa.takes_from
        try:
            if due := (await engine.stage(STAGED_AT_ONCE)).queues:
                await engine.tell(INSERT, naming_queues(due))
            counts = await self._staffa.acounts()
        except DatabaseUnavailable as error:
            logger.warning("cannot see whether the queues are idle: %s", error)
            return False
        return not (
            any(counts.get(queue, {}).get(State.AVAILABLE) for queue in queues)
            or any(
                counts.get(queue, {}).get(State.EXECUTING) for queue in queues | self._staffa.queues.keys()
            )
        )

    async def _tell_idle(self) -> None:
        logger.info("the queues are idle")
        with suppress(DatabaseError):
            counts = await self._staffa.acounts()
            for queue in sorted(self._staffa.queues.keys() - self._staffa.takes_from):
                if waiting := counts.get(queue, {}).get(State.AVAILABLE):
                    logger.warning(
                        "queue %s takes no jobs here, as it is paused or stopped; %s left waiting in it",
                        queue,
                        counted(waiting, "job"),
                    )

    async def _stop(self) -> int:
        """Stop, patiently or not, and put back what did not stop; return the exit code."""
        code = 0
        try:
            async with asyncio.timeout(None) as self._patience:
                if self._signals > 1:
                    self._lose_patience()
                await self._staffa.stop()
        except TimeoutError:
            code = 1
        finally:
            self._patience = None
        if code or self._staffa.unstopped:
            await self._put_back()
        return code

    async def _put_back(self) -> None:
        cut_off = counted(self._staffa.unstopped, "job")
        try:
            await self._staffa.hand_back()
        except DatabaseError as error:
            logger.warning("%s cut off, to be rescued by others, as the database says: %s", cut_off, error)
        else:
            logger.warning("%s cut off and put back", cut_off)


def _collect_less_often() -> None:
    """Spare the garbage collector what is there for good, and what jobs leave behind: hardly any of it is a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_AT, *gc.get_threshold()[1:])


def _leave(code: int) -> NoReturn:
    """End the process although threads may still run: their jobs were put back, nobody waits for them."""
    atexit._run_exitfuncs()  # noqa: SLF001 - the one way to run them without joining threads first
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


# What is told


def _log_to_stderr(level: str, form: LogFormat, line: str) -> None:
    if level.lower() not in LEVELS:
        raise ConfigError(f"--log-level: {unknown(level, LEVELS, 'level')}")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(line))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level.lower() == "debug":
        logging.getLogger("psycopg.pool").setLevel(logging.DEBUG)


def _log_the_others(event: JobStopped) -> None:
    """Log attempts that did not fail; those that did are logged where they run."""
    job = event.job
    if job.state not in FAILED:
        logger.debug(
            "job %s (%s) is %s after %.3f s", job.id, job.worker, job.state, event.took.total_seconds()
        )


def _tell_what_runs(staffa: Staffa) -> None:
    known = sorted({worker.options.name for worker in registered().values()})
    queues = ", ".join(f"{name} ({each.limit})" for name, each in staffa.queues.items()) or "none"
    typer.echo(f"Staffa {our_version()} runs on {without_password(staffa.url)}")
    typer.echo(f"Queues:  {queues}")
    typer.echo(f"Workers: {', '.join(known) or 'none'}")
    sys.stdout.flush()
    if not known:
        logger.warning(
            "no workers are known, so every job will fail: name their modules in `modules`, or set `app`"
        )
    if not staffa.queues:
        logger.warning("no queues are configured, so no job will run")
    _tell_of_old_sqlite(staffa)


def _tell_of_old_sqlite(staffa: Staffa) -> None:
    if staffa.url.startswith("sqlite") and (found := library()).level is not Level.FINE:
        logger.info("%s; %s", found.said, found.advice)


def _refuse_what_runs_nothing(staffa: Staffa) -> None:
    if not staffa.runs_queues:
        raise ConfigError(
            "this Staffa runs no queues: it was made with run_queues=False or for testing;"
            " let it be made without, or configure `modules` instead of `app`"
        )


def loop_factory() -> Callable[[], Any] | None:
    """Choose a loop on which psycopg can wait."""
    return asyncio.SelectorEventLoop if sys.platform == "win32" else None
