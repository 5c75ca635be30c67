"""How long jobs wait that could start at once."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from bench import raw_awaited, raw_postgres
from bench.databases import Site
from bench.disk import Syncs, watched
from bench.environments import ROOT
from bench.filling import Filling
from bench.jobs import QUEUE, Marking
from bench.lab import Lab
from bench.processes import Failed, Program
from bench.results import Figure, RowResult, at_most, percentile, quantiles, ratios
from bench.tally import Tally
from staffa import Staffa
from staffa.cli.bench.ours import latencies
from staffa.cli.bench.sqlite import SqliteBench

T = TypeVar("T")

WARM_UP = 20
PAUSE_SECONDS = 0.006
PATIENCE_SECONDS = 20.0
AHEAD = timedelta(seconds=2)
LIMIT = 10
LATE_MS = 100


def latency_postgres(lab: Lab, key: str, what: str) -> RowResult:
    """Enqueue in one process, start in another, and take turns with a raw loop that listens.

    A second raw loop is laid out as Staffa is.
    """
    rounds = []
    for number in range(lab.scale.repeats):
        lab.say(f"round {number + 1}: latency")
        rounds.append(_beside_raw(lab))
    ours, raw, across = map(list, zip(*rounds, strict=True))
    checks = [
        at_most(2.5, "p50", _percentiles(ours, 50), "ms"),
        at_most(1.5, "p99 / p99 of a raw LISTEN loop", ratios(_percentiles(ours, 99), _percentiles(raw, 99))),
    ]
    figures = [
        *_latency_figures("Staffa", ours),
        *_latency_figures("raw LISTEN loop", raw),
        *_latency_figures("the same, awaited and across two processes", across),
    ]
    series = {"Staffa, PostgreSQL": _milliseconds(ours), "raw LISTEN loop": _milliseconds(raw)}
    return RowResult(key, what, checks, figures, series=series)


def latency_sqlite(lab: Lab, key: str, what: str) -> RowResult:
    alone: list[list[float]] = []
    across: list[list[float]] = []
    for number in range(lab.scale.repeats):
        lab.say(f"round {number + 1}: latency on SQLite")
        with lab.filled(lab.sqlite, Filling()) as url:
            alone.append(latencies(SqliteBench(url), lab.scale.samples))
            across.append(_run(_latencies(lab, url, _nothing)))
    checks = [
        at_most(1, "p50 in one process", _percentiles(alone, 50), "ms"),
        at_most(5, "p50 across two", _percentiles(across, 50), "ms"),
    ]
    figures = [*_latency_figures("one process", alone), *_latency_figures("across two", across)]
    series = {
        "Staffa, SQLite, one process": _milliseconds(alone),
        "Staffa, SQLite, two": _milliseconds(across),
    }
    return RowResult(key, what, checks, figures, series=series)


def scheduled(lab: Lab, key: str, what: str) -> RowResult:
    """Let jobs fall due one after another while many more wait for a later day.

    Each commit waits for the disk, so the disk is watched beside them.
    """
    checks, figures = [], []
    for site in (lab.postgres, lab.sqlite):
        rounds = []
        for number in range(lab.scale.repeats):
            lab.say(f"round {number + 1}: scheduled jobs, {site.kind}")
            rounds.append(_falling_due(lab, site))
        late = [each.late for each in rounds]
        checks.append(at_most(LATE_MS, f"p99 late, {site.kind}", _percentiles(late, 99), "ms"))
        figures += _latency_figures(site.kind, late)
        prompt = _percentiles([each.late_without_stalls for each in rounds], 99)
        figures.append(Figure(f"{site.kind}, p99 of jobs due while no stall of the disk", "ms", prompt))
        slowest = [each.syncs.slowest * 1000 for each in rounds]
        figures.append(Figure(f"{site.kind}, longest write and sync of one page beside", "ms", slowest))
    return RowResult(key, what, checks, figures)


def _beside_raw(lab: Lab) -> tuple[list[float], list[float], list[float]]:
    with ExitStack() as around:
        url, alone, parted = (around.enter_context(lab.filled(lab.postgres, Filling())) for _ in range(3))
        arrival = around.enter_context(raw_postgres.listening(alone))
        tally = lab.tally(lab.scale.samples + WARM_UP)
        around.enter_context(_raw_listener(lab, parted, tally))
        raw: list[float] = []
        across: list[float] = []

        async def in_turns() -> list[float]:
            async with await raw_awaited.connected(parted) as connection:

                async def between(slot: int) -> None:
                    raw.append(arrival())
                    await asyncio.sleep(PAUSE_SECONDS)
                    began = time.monotonic()
                    await raw_awaited.insert(connection, slot=slot)
                    across.append(await _marked(tally, slot) - began)

                return await _latencies(lab, url, between)

        return _run(in_turns()), raw[WARM_UP:], across[WARM_UP:]


def _raw_listener(lab: Lab, url: str, tally: Tally) -> Program:
    command = [sys.executable, "-m", raw_awaited.__name__, url, str(tally.path)]
    return Program(command, log=lab.file("raw.log"), cwd=ROOT)


async def _latencies(lab: Lab, url: str, between: Callable[[int], Awaitable[None]]) -> list[float]:
    """Give the seconds from enqueueing here to the start in a worker's process."""
    samples = lab.scale.samples + WARM_UP
    tally = lab.tally(samples)
    found = []
    with lab.worker(url, tally, queues=f"{QUEUE}:{LIMIT}"):
        async with Staffa(url, run_queues=False) as staffa:
            for slot in range(samples):
                began = time.monotonic()
                await staffa.ainsert(Marking.new(slot=slot))
                found.append(await _marked(tally, slot) - began)
                await asyncio.sleep(PAUSE_SECONDS)
                await between(slot)
                await asyncio.sleep(PAUSE_SECONDS)
    return found[WARM_UP:]


async def _nothing(_: int) -> None:
    """Measure nothing between."""


@dataclass(frozen=True)
class _Due:
    """When jobs were due and how late they began, in seconds, and what the disk did meanwhile."""

    due: list[float]
    late: list[float]
    syncs: Syncs

    @property
    def late_without_stalls(self) -> list[float]:
        """How late those were that the disk did not hold up while they had to begin; all, where it always did."""
        prompt = [
            late
            for due, late in zip(self.due, self.late, strict=True)
            if not self.syncs.stalled(due, due + LATE_MS / 1000)
        ]
        return prompt or self.late


def _falling_due(lab: Lab, site: Site) -> _Due:
    tally = lab.tally(lab.scale.samples)
    with ExitStack() as around:
        url = around.enter_context(lab.filled(site, Filling(scheduled=lab.scale.waiting)))
        around.enter_context(lab.worker(url, tally, queues=f"{QUEUE}:100"))
        syncs = around.enter_context(watched(lab.folder))
        staffa = Staffa(url, run_queues=False)
        wall, monotonic = datetime.now(UTC), time.monotonic()
        spread = timedelta(seconds=lab.scale.under_load) / lab.scale.samples
        due = [AHEAD + spread * slot for slot in range(lab.scale.samples)]
        staffa.insert_all(
            [Marking.using(scheduled_at=wall + later).new(slot=slot) for slot, later in enumerate(due)]
        )

        async def wait() -> list[float]:
            return [await _marked(tally, slot) for slot in range(lab.scale.samples)]

        starts = _run(wait())
        staffa.close()
    at = [monotonic + later.total_seconds() for later in due]
    return _Due(at, [start - when for start, when in zip(starts, at, strict=True)], syncs)


async def _marked(tally: Tally, slot: int) -> float:
    patience = time.monotonic() + PATIENCE_SECONDS
    while (found := tally.marked(slot)) is None:
        if time.monotonic() > patience:
            raise Failed(f"job {slot} did not begin within {PATIENCE_SECONDS:.0f} s")
        await asyncio.sleep(PAUSE_SECONDS / 4)
    return found


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


def _percentiles(rounds: list[list[float]], percent: int) -> list[float]:
    return [percentile(each, percent) * 1000 for each in rounds]


def _latency_figures(name: str, rounds: list[list[float]]) -> list[Figure]:
    return [Figure(f"{name}, p{percent}", "ms", _percentiles(rounds, percent)) for percent in (50, 99)]


def _milliseconds(rounds: list[list[float]]) -> list[float]:
    return quantiles([round(value * 1000, 3) for each in rounds for value in each])
