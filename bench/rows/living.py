"""What a worker costs, and does, while it lives on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench import jobs
from bench.databases import Site
from bench.environments import ROOT
from bench.filling import Filling
from bench.lab import SAMPLE_SECONDS, UNFINISHED, Lab, first_start
from bench.processes import Program
from bench.results import Figure, RowResult, at_least, at_most

COMPLETED = "select count(*) from oban_jobs where state = 'completed'"
WARM_UP_SECONDS = 1.0
SETTLING_SECONDS = 3.0
IDLE_QUEUES = "mailers:10,imports:5,media:2,reports:1,default:20"
WANTED_COMPLETED = {"postgres": 15_000, "sqlite": 20_000}
CONCURRENCY = 500
MEGABYTE = 1024 * 1024
WARM_JOBS = 100_000  # by then the page cache of SQLite is full


def mixed(lab: Lab, key: str, what: str) -> RowResult:
    checks, figures = [], []
    for site in (lab.postgres, lab.sqlite):
        rounds = []
        for number in range(lab.scale.repeats):
            lab.say(f"round {number + 1}: mixed load, {site.kind}")
            rounds.append(_mixed(lab, site))
        completed, produced = ([each[which] for each in rounds] for which in (0, 1))
        checks.append(at_least(WANTED_COMPLETED[site.kind], f"completed, {site.kind}", completed, "jobs/s"))
        figures += [
            Figure(f"{site.kind}, completed", "jobs/s", completed),
            Figure(f"{site.kind}, produced", "jobs/s", produced),
        ]
    return RowResult(key, what, checks, figures)


def idle(lab: Lab, key: str, what: str) -> RowResult:
    checks = []
    for site in (lab.postgres, lab.sqlite):
        lab.say(f"idle, {site.kind}")
        percent, statements = _idle(lab, site)
        checks += [
            at_most(1, f"of a core, {site.kind}", [percent], "%"),
            at_most(10, f"statements, {site.kind}", [statements], "/s"),
        ]
    return RowResult(key, what, checks, [])


def memory(lab: Lab, key: str, what: str) -> RowResult:
    """Flat is the end beside the first seconds of work."""
    checks, figures = [], []
    for site in (lab.postgres, lab.sqlite):
        lab.say(f"memory, {site.kind}")
        sizes = _sizes(lab, site)
        checks += [
            at_most(80, f"largest, {site.kind}", [max(sizes)], "MB"),
            at_most(1.1, f"end / start, {site.kind}", [sizes[-1] / sizes[0]]),
        ]
        figures += [
            Figure(f"{site.kind}, at the start", "MB", [sizes[0]]),
            Figure(f"{site.kind}, at the end", "MB", [sizes[-1]]),
        ]
    return RowResult(key, what, checks, figures)


def _mixed(lab: Lab, site: Site) -> tuple[float, float]:
    """Give jobs completed and stored a second, both by what the database shows."""
    tally = lab.tally()
    with ExitStack() as around:
        url = around.enter_context(lab.filled(site, Filling()))
        ask = around.enter_context(site.asking(url))
        worker = around.enter_context(lab.worker(url, tally, queues=f"{jobs.QUEUE}:{CONCURRENCY}"))
        time.sleep(WARM_UP_SECONDS)
        producer = around.enter_context(
            Program([sys.executable, "-m", "bench.producer", url], log=lab.file("producer.log"), cwd=ROOT)
        )
        first_start([worker, producer], [tally])
        time.sleep(WARM_UP_SECONDS)
        began, [(completed,)] = time.monotonic(), ask(COMPLETED)
        [(stored,)] = ask("select count(*) from oban_jobs")
        time.sleep(lab.scale.under_load)
        took, [(completed_since,)] = time.monotonic() - began, ask(COMPLETED)
        [(stored_since,)] = ask("select count(*) from oban_jobs")
        worker.check()
        producer.check()
    return (completed_since - completed) / took, (stored_since - stored) / took


def _idle(lab: Lab, site: Site) -> tuple[float, float]:
    """Give the share of a core in per cent, and statements a second, of a worker with nothing to do.

    SQLite tells its statements to nobody but the process that says them, which costs; so it is asked apart.
    """
    if site.kind == "postgres":
        return _watched(lab, site, lab.postgres.logged_statements, prepare=lab.postgres.log_statements)
    said = lab.tally()
    percent, _ = _watched(lab, site, lambda: 0)
    _, statements = _watched(lab, site, lambda: said.began, environment={jobs.STATEMENTS: str(said.path)})
    return percent, statements


def _watched(
    lab: Lab,
    site: Site,
    statements: Callable[[], int],
    *,
    prepare: Callable[[str], None] | None = None,
    environment: dict[str, str] | None = None,
) -> tuple[float, float]:
    with ExitStack() as around:
        url = around.enter_context(lab.filled(site, Filling()))
        if prepare is not None:
            prepare(url)
        worker = around.enter_context(
            lab.worker(url, lab.tally(), queues=IDLE_QUEUES, environment=environment)
        )
        time.sleep(SETTLING_SECONDS)
        before, counted, began = worker.usage.cpu_times(), statements(), time.monotonic()
        time.sleep(lab.scale.watched)
        after, count, took = worker.usage.cpu_times(), statements(), time.monotonic() - began
        worker.check()
    spent = after.user + after.system - before.user - before.system
    return 100 * spent / took, (count - counted) / took


def _sizes(lab: Lab, site: Site) -> list[float]:
    """Give the memory of a worker while it runs a long backlog, once it has warmed up."""
    tally = lab.tally()
    sizes = []
    with ExitStack() as around:
        url = around.enter_context(lab.filled(site, Filling(lab.scale.kept_running)))
        ask = around.enter_context(site.asking(url))
        worker = around.enter_context(lab.worker(url, tally, queues=f"{jobs.QUEUE}:{CONCURRENCY}"))
        first = first_start([worker], [tally])
        warm = min(WARM_JOBS, lab.scale.kept_running // 10)
        while time.monotonic() < first + lab.scale.long_seconds:
            worker.check()
            if tally.began >= warm:
                sizes.append(worker.usage.memory_info().rss / MEGABYTE)
            if tally.began >= lab.scale.kept_running and not ask(f"select 1 {UNFINISHED} limit 1"):
                break
            time.sleep(SAMPLE_SECONDS)
    return sizes
