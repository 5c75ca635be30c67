"""How fast jobs are stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

from bench import raw_awaited, raw_postgres, raw_sqlite
from bench.contenders import CONTENDERS
from bench.databases import Site
from bench.filling import Filling
from bench.jobs import Noop
from bench.lab import Lab
from bench.results import Check, Figure, RowResult, at_least, ratios
from staffa import Job, Staffa, Unique

STAFFA, UNIQUE = "Staffa, insert_all", "Staffa, insert_all of unique jobs"
BUILDING, RAW = "Staffa, building the jobs and insert_all", "raw multi-row insert"
AENQUEUE, RAW_SINGLE = "Staffa, aenqueue", "raw single-row insert and pg_notify"
RAW_AWAITED = "the same, awaited"
SPEED = "rows/s"
BLOCK = 50


def bulk_postgres(lab: Lab, key: str, what: str) -> RowResult:
    form, chunk = lab.best(
        "raw multi-row insert",
        lab.scale.raw_inserts,
        lambda each: _on(lab, lab.postgres, partial(_raw_postgres, lab.scale.search_jobs, *each)),
    )
    found = lab.alternate(
        {
            STAFFA: lambda: _on(lab, lab.postgres, partial(_stored, lab.scale.jobs)),
            RAW: lambda: _on(lab, lab.postgres, partial(_raw_postgres, lab.scale.jobs, form, chunk)),
            UNIQUE: lambda: _on(lab, lab.postgres, partial(_stored, lab.scale.jobs, unique=True)),
            BUILDING: lambda: _on(lab, lab.postgres, partial(_built_and_stored, lab.scale.jobs)),
        }
    )
    checks = [
        at_least(0.6, "insert_all / raw multi-row insert", ratios(found[STAFFA], found[RAW])),
        at_least(0.2, "unique / raw multi-row insert", ratios(found[UNIQUE], found[RAW])),
    ]
    peers = {
        name: lab.inserts_of(name) for name in lab.scale.peers if CONTENDERS[name].database == "postgres"
    }
    found |= {name: [rate] for name, rate in peers.items() if rate}
    return _row(key, what, checks, found)


def bulk_sqlite(lab: Lab, key: str, what: str) -> RowResult:
    found = lab.alternate(
        {
            STAFFA: lambda: _on(lab, lab.sqlite, partial(_stored, lab.scale.jobs)),
            RAW: lambda: _on(lab, lab.sqlite, lambda url: raw_sqlite.insert_all(url, lab.scale.jobs)),
            UNIQUE: lambda: _on(lab, lab.sqlite, partial(_stored, lab.scale.jobs, unique=True)),
            BUILDING: lambda: _on(lab, lab.sqlite, partial(_built_and_stored, lab.scale.jobs)),
        }
    )
    checks = [
        at_least(100_000, "insert_all", found[STAFFA], SPEED),
        at_least(100_000 / 3, "unique", found[UNIQUE], SPEED),
    ]
    return _row(key, what, checks, found)


def single(lab: Lab, key: str, what: str) -> RowResult:
    """Take turns every few jobs, as commits are as fast as the disk is at that moment."""
    found: dict[str, list[float]] = {AENQUEUE: [], RAW_SINGLE: [], RAW_AWAITED: []}
    for number in range(lab.scale.rounds):
        lab.say(f"round {number + 1}: one at a time")
        with lab.filled(lab.postgres, Filling()) as url, asyncio.Runner() as runner:
            for name, speed in runner.run(_one_at_a_time(url, lab.scale.singles)).items():
                found[name].append(speed)
    checks = [at_least(0.8, "aenqueue / raw single-row insert", ratios(found[AENQUEUE], found[RAW_SINGLE]))]
    return _row(key, what, checks, found)


async def _one_at_a_time(url: str, seconds: float) -> dict[str, float]:
    raw = raw_postgres.Single(url)

    async def blocking() -> None:
        raw.one()

    async with Staffa(url, run_queues=False) as staffa, await raw_awaited.connected(url) as connection:
        speeds = await _in_turns(
            {
                AENQUEUE: Noop.using(instance=staffa).aenqueue,
                RAW_SINGLE: blocking,
                RAW_AWAITED: lambda: raw_awaited.insert(connection),
            },
            seconds,
        )
    raw.close()
    return speeds


async def _in_turns(inserts: dict[str, Callable[[], Awaitable[object]]], seconds: float) -> dict[str, float]:
    """Give how many a second each stores, of so many seconds each."""
    took = dict.fromkeys(inserts, 0.0)
    count = 0
    ends = time.monotonic() + len(inserts) * seconds
    while time.monotonic() < ends:
        for name, insert in inserts.items():
            began = time.perf_counter()
            for _ in range(BLOCK):
                await insert()
            took[name] += time.perf_counter() - began
        count += BLOCK
    return {name: count / each for name, each in took.items()}


def _on(lab: Lab, site: Site, measure: Callable[[str], float]) -> float:
    with lab.filled(site, Filling()) as url:
        return measure(url)


def _raw_postgres(jobs: int, form: str, chunk: int, url: str) -> float:
    return raw_postgres.insert_all(url, form, jobs, chunk)


def _stored(jobs: int, url: str, *, unique: bool = False) -> float:
    """Store jobs with one call; they are built before, as the rows of the raw insert are."""
    with _opened(url) as staffa:
        built = _built(jobs, unique=unique)
        began = time.perf_counter()
        staffa.insert_all(built)
        return jobs / (time.perf_counter() - began)


def _built_and_stored(jobs: int, url: str) -> float:
    """Build jobs and store them with one call, as users do."""
    with _opened(url) as staffa:
        began = time.perf_counter()
        staffa.insert_all(_built(jobs))
        return jobs / (time.perf_counter() - began)


@contextmanager
def _opened(url: str) -> Iterator[Staffa]:
    """Give an instance that has a connection already."""
    with closing(Staffa(url, run_queues=False)) as staffa:
        staffa.insert(Noop.new())
        yield staffa


def _built(jobs: int, *, unique: bool = False) -> list[Job]:
    make = Noop.using(unique=Unique()) if unique else Noop.using()
    return [make.new(number=number) for number in range(jobs)]


def _row(key: str, what: str, checks: list[Check], found: dict[str, list[float]]) -> RowResult:
    return RowResult(key, what, checks, [Figure(name, SPEED, values) for name, values in found.items()])
