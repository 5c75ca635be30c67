"""Measure this machine: what Staffa does beside what the database could do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from staffa.cli.bench.figures import Figures
from staffa.cli.bench.ours import latencies, throughput
from staffa.cli.bench.place import Bench, in_peace, undisturbed
from staffa.cli.bench.raw import raw_latencies, raw_throughput
from staffa.cli.printing import AsJson, tell_json, tell_table
from staffa.cli.settings import Settings
from staffa.config import without_password

BATCHES = (100, 500, 1000)
CONCURRENCIES = (100, 200, 500)
WARM_UP_JOBS = 1_000
LATENCY_SAMPLES = 300
PLACES = {
    "sqlite": ("staffa.cli.bench.sqlite", "SqliteBench"),
    "postgres": ("staffa.cli.bench.postgres", "PostgresBench"),
    "postgresql": ("staffa.cli.bench.postgres", "PostgresBench"),
}


@dataclass(slots=True)
class Best:
    """The best of several rounds, and what it was reached with."""

    insert_per_s: float = 0.0
    drain_per_s: float = 0.0
    drained_with: int = 0

    def take(self, insert_per_s: float, drain_per_s: float, drained_with: int) -> None:
        self.insert_per_s = max(self.insert_per_s, insert_per_s)
        if drain_per_s > self.drain_per_s:
            self.drain_per_s, self.drained_with = drain_per_s, drained_with


def bench(
    settings: Settings,
    *,
    jobs: Annotated[
        int, typer.Option(metavar="N", min=100, help="How many jobs each round stores and runs.")
    ] = 20_000,
    concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="The queue's limit; by default the best of 100, 200 and 500 counts."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Measure jobs per second and latency.

    All beside the raw limit of the same database; it takes half a minute.

    Everything happens in a schema or a file of its own, which is dropped at the end. One process runs no-op
    async jobs. The raw limit is the very statements Staffa uses, in a bare loop on the same table: batches of
    100, 500 and 1000, the best counts. Latency is the time from the call that enqueues to the job's start.

    JSON: {"insert_per_s", "drain_per_s", "latency_ms": {"p50", "p99"}, "raw": {the same three}, "ratio":
    {"insert", "drain", "latency_p50"}, "jobs", "concurrency", "raw_batch", "database"}.
    """
    with settings.instance() as staffa:
        url = staffa.url
    place = _place(url)
    with undisturbed():
        try:
            report = _measured(place, jobs, [concurrency] * 3 if concurrency else [*CONCURRENCIES], _say)
        finally:
            in_peace(place.clear)

    report["database"] = without_password(url)
    if json:
        tell_json(report)
    else:
        _tell(report)


def _place(url: str) -> Bench:
    """Find where to measure; the module of PostgreSQL needs an extra and is imported only for it."""
    module, name = PLACES[url.partition("://")[0].partition("+")[0]]
    place: Bench = getattr(importlib.import_module(module), name)(url)
    return place


def _measured(
    place: Bench, jobs: int, concurrencies: list[int], say: Callable[[str], None]
) -> dict[str, Any]:
    """Take turns, so that a machine that slows down slows both halves; each round has fresh tables."""
    ours, raw = Best(), Best()
    say("warming up")
    throughput(place, WARM_UP_JOBS, concurrency=100, batch=BATCHES[0])
    raw_throughput(place, WARM_UP_JOBS, batch=BATCHES[0])

    for concurrency, batch in zip(concurrencies, BATCHES, strict=True):
        say(f"{jobs:,} jobs, {concurrency} at once")
        ours.take(*throughput(place, jobs, concurrency=concurrency, batch=batch), concurrency)
        say(f"{jobs:,} jobs, raw, in batches of {batch}")
        raw.take(*raw_throughput(place, jobs, batch=batch), batch)

    say("latency")
    mine = Figures.of(ours.insert_per_s, ours.drain_per_s, latencies(place, LATENCY_SAMPLES))
    limit = Figures.of(raw.insert_per_s, raw.drain_per_s, raw_latencies(place, LATENCY_SAMPLES))
    return {
        **mine.as_object(),
        "raw": limit.as_object(),
        "ratio": {
            "insert": round(mine.insert_per_s / limit.insert_per_s, 3),
            "drain": round(mine.drain_per_s / limit.drain_per_s, 3),
            "latency_p50": round(mine.p50 / limit.p50, 2),
        },
        "jobs": jobs,
        "concurrency": ours.drained_with,
        "raw_batch": raw.drained_with,
    }


def _say(what: str) -> None:
    """Tell a person who waits what is being measured."""
    if sys.stderr.isatty():
        typer.echo(f"measuring: {what}", err=True)


def _tell(report: dict[str, Any]) -> None:
    raw, ratio = report["raw"], report["ratio"]
    latency, raw_latency = report["latency_ms"], raw["latency_ms"]
    tell_table(
        ("", "STAFFA", "RAW LIMIT", "RATIO"),
        [
            (
                "jobs inserted per second",
                f"{report['insert_per_s']:,}",
                f"{raw['insert_per_s']:,}",
                f"{ratio['insert']:.2f}",
            ),
            (
                "jobs drained per second",
                f"{report['drain_per_s']:,}",
                f"{raw['drain_per_s']:,}",
                f"{ratio['drain']:.2f}",
            ),
            (
                "enqueue to start, median",
                f"{latency['p50']:.2f} ms",
                f"{raw_latency['p50']:.2f} ms",
                f"{ratio['latency_p50']:.2f}",
            ),
            (
                "enqueue to start, 99 %",
                f"{latency['p99']:.2f} ms",
                f"{raw_latency['p99']:.2f} ms",
                f"{latency['p99'] / raw_latency['p99']:.2f}",
            ),
        ],
    )
    typer.echo(
        f"\n{report['jobs']:,} no-op jobs on {report['database']}, one process, best with"
        f" {report['concurrency']} at once; raw with batches of {report['raw_batch']}."
    )
