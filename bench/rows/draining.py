"""How fast a backlog goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from statistics import median

from bench import raw_postgres, raw_sqlite
from bench.contenders import CONTENDERS
from bench.databases import Site
from bench.filling import Filling, Statistics
from bench.jobs import Plain
from bench.lab import SAMPLE_SECONDS, Drained, Lab
from bench.results import Figure, RowResult, at_least, at_most, ratios

STAFFA, RAW = "Staffa", "raw exchange loop"
SPEED = "jobs/s"
STATISTICS: tuple[Statistics, ...] = ("fresh", "stale")
SERIES_ENDS = 3


def one_process(lab: Lab, key: str, what: str) -> RowResult:
    filling = Filling(lab.scale.jobs)
    peers = [name for name in lab.scale.peers if CONTENDERS[name].database == "postgres"]
    concurrency = _concurrency(lab, lab.postgres, filling)
    found = lab.alternate(
        {
            STAFFA: partial(_speed, lab, lab.postgres, filling, concurrency),
            RAW: lambda: _raw(lab, filling),
            **{name: _peer(lab, name) for name in peers},
        }
    )
    checks = [at_least(0.6, "Staffa / raw exchange loop", ratios(found[STAFFA], found[RAW]))]
    if "pgqueuer" in found:
        checks.append(at_least(2, "Staffa / pgqueuer", ratios(found[STAFFA], found["pgqueuer"])))
    return RowResult(key, what, checks, _figures(found), _notes(lab, peers))


def two_processes(lab: Lab, key: str, what: str) -> RowResult:
    filling = Filling(lab.scale.jobs)
    concurrency = _concurrency(lab, lab.postgres, filling)
    found = lab.alternate(
        {
            "Staffa, two processes": lambda: (
                lab.drain(lab.postgres, filling, concurrency, processes=2).per_second
            ),
            "Staffa, one process": partial(_speed, lab, lab.postgres, filling, concurrency),
            "pgqueuer, two processes": _peer(lab, "pgqueuer", processes=2),
        }
    )
    ours = found["Staffa, two processes"]
    checks = [at_least(1.5, "two processes / one", ratios(ours, found["Staffa, one process"]))]
    if theirs := found.get("pgqueuer, two processes"):
        checks.append(at_least(1.8, "Staffa / pgqueuer, two each", ratios(ours, theirs)))
    return RowResult(key, what, checks, _figures(found))


def backlogs(lab: Lab, key: str, what: str) -> RowResult:
    concurrency = _concurrency(lab, lab.postgres, Filling(lab.scale.jobs))
    fillings = {
        f"{jobs:,} jobs, {statistics} statistics": Filling(
            jobs, finished=1000 if statistics == "stale" else 0, statistics=statistics
        )
        for jobs, statistics in product(lab.scale.backlogs, STATISTICS)
    }
    found = lab.alternate(
        {
            name: partial(_speed, lab, lab.postgres, filling, concurrency)
            for name, filling in fillings.items()
        },
        lab.scale.repeats,
    )
    medians = [median(values) for values in found.values()]
    checks = [at_most(1.5, "best / worst", [max(medians) / min(medians)])]
    return RowResult(key, what, checks, _figures(found))


def threads(lab: Lab, key: str, what: str) -> RowResult:
    filling, plain = Filling(lab.scale.jobs), Filling(lab.scale.jobs, Plain)
    limit = lab.best(
        "Staffa's threads",
        lab.scale.threads,
        lambda each: lab.drain(lab.postgres, _search(lab, plain), each).per_second,
    )
    found = lab.alternate(
        {
            STAFFA: partial(_speed, lab, lab.postgres, plain, limit),
            RAW: lambda: _raw(lab, filling),
        },
        lab.scale.repeats,
    )
    checks = [at_least(0.25, "Staffa / raw exchange loop", ratios(found[STAFFA], found[RAW]))]
    return RowResult(key, what, checks, _figures(found))


def sqlite(lab: Lab, key: str, what: str) -> RowResult:
    filling = Filling(lab.scale.jobs)
    concurrency = _concurrency(lab, lab.sqlite, filling)
    batch = lab.best(
        "raw batch, SQLite", raw_sqlite.BATCHES, lambda each: _raw_sqlite(lab, _search(lab, filling), each)
    )
    found = lab.alternate(
        {
            STAFFA: partial(_speed, lab, lab.sqlite, filling, concurrency),
            RAW: lambda: _raw_sqlite(lab, filling, batch),
            "huey": _peer(lab, "huey"),
        }
    )
    checks = [at_least(45_000, "Staffa", found[STAFFA], SPEED)]
    if "huey" in found:
        checks.append(at_least(10, "Staffa / huey", ratios(found[STAFFA], found["huey"])))
    return RowResult(key, what, checks, _figures(found), _notes(lab, ["huey"]))


def history(lab: Lab, key: str, what: str) -> RowResult:
    small = Filling(lab.scale.jobs, statistics="fresh")
    large = replace(small, finished=lab.scale.finished)
    found: dict[str, list[float]] = {}
    checks = []
    for site in (lab.postgres, lab.sqlite):
        concurrency = _concurrency(lab, site, small)
        names = {f"{site.kind}, {each.finished:,} finished": each for each in (small, large)}
        here = lab.alternate(
            {name: partial(_speed, lab, site, filling, concurrency) for name, filling in names.items()},
            lab.scale.repeats,
        )
        found |= here
        few, many = here.values()
        checks.append(at_least(0.85, f"many / none, {site.kind}", ratios(many, few)))
    return RowResult(key, what, checks, _figures(found))


def pinned(lab: Lab, key: str, what: str) -> RowResult:
    """Compare with and without; flat is the last third of the time beside the first."""
    filling = Filling(lab.scale.pinned)
    concurrency = _concurrency(lab, lab.postgres, Filling(lab.scale.jobs))
    with_it: list[Drained] = []
    without: list[Drained] = []
    for number in range(lab.scale.repeats):
        lab.say(f"round {number + 1}: without and with a transaction held open")
        without.append(lab.drain(lab.postgres, filling, concurrency, seconds=lab.scale.long_seconds))
        with_it.append(
            lab.drain(
                lab.postgres,
                filling,
                concurrency,
                seconds=lab.scale.long_seconds,
                beside=lambda url: _held_open(lab.postgres, url),
            )
        )
    found = {
        "with it": [each.per_second for each in with_it],
        "without": [each.per_second for each in without],
    }
    checks = [
        at_least(0.85, "with it / without", ratios(found["with it"], found["without"])),
        at_least(0.85, "last third / first third", [_flatness(each) for each in with_it]),
    ]
    series = {"with it": _rates(with_it[-1]), "without": _rates(without[-1])}
    return RowResult(key, what, checks, _figures(found), series=series)


@contextmanager
def _held_open(site: Site, url: str) -> Iterator[None]:
    """Keep every row version that is younger than this moment from being cleaned up."""
    with site.asking(url) as ask:
        ask("begin isolation level repeatable read")
        ask("select pg_current_xact_id()")
        yield
        ask("rollback")


def _rates(drained: Drained) -> list[float]:
    """Give jobs per second, from one look to the next."""
    return [(later - sooner) / SAMPLE_SECONDS for sooner, later in pairwise([0, *drained.began])]


def _flatness(drained: Drained) -> float:
    rates = [rate for rate in _rates(drained) if rate][:-1]  # within the last one the jobs ran out
    third = max(1, len(rates) // SERIES_ENDS)
    return sum(rates[-third:]) / sum(rates[:third]) if rates else 1.0


# Settings, and who is beside us


def _speed(lab: Lab, site: Site, filling: Filling, concurrency: int) -> float:
    return lab.drain(site, filling, concurrency).per_second


def _search(lab: Lab, filling: Filling) -> Filling:
    """Take less to try settings on."""
    return replace(filling, jobs=min(filling.jobs, lab.scale.search_jobs))


def _concurrency(lab: Lab, site: Site, filling: Filling) -> int:
    return lab.best(
        f"Staffa's concurrency, {site.kind}",
        lab.scale.concurrencies[site.kind],
        lambda each: lab.drain(site, _search(lab, filling), each).per_second,
        tries=2,  # as one may meet a slow moment of the machine
    )


def _raw(lab: Lab, filling: Filling) -> float:
    statement, batch = lab.best(
        "raw exchange loop",
        lab.scale.raw_settings,
        lambda each: _raw_postgres(lab, _search(lab, filling), *each),
    )
    return _raw_postgres(lab, filling, statement, batch)


def _raw_postgres(lab: Lab, filling: Filling, statement: str, batch: int) -> float:
    with lab.filled(lab.postgres, filling) as url:
        return raw_postgres.drain(url, statement, batch)


def _raw_sqlite(lab: Lab, filling: Filling, batch: int) -> float:
    with lab.filled(lab.sqlite, filling) as url:
        return raw_sqlite.drain(url, batch)


def _peer(lab: Lab, name: str, *, processes: int = 1) -> Callable[[], float]:
    def measure() -> float:
        setting = lab.best(
            f"{name}'s {CONTENDERS[name].setting}",
            CONTENDERS[name].settings if lab.scale.searches else CONTENDERS[name].settings[:1],
            lambda each: lab.drain_peer(name, each, search=True).per_second,
        )
        return lab.drain_peer(name, setting, processes=processes).per_second

    return measure


def _figures(found: dict[str, list[float]]) -> list[Figure]:
    return [Figure(name, SPEED, values) for name, values in found.items()]


def _notes(lab: Lab, peers: list[str]) -> list[str]:
    return [f"{name}: {CONTENDERS[name].remark}" for name in peers if name not in lab.missing]
