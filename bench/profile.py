"""Where a job's microseconds go: `python -m bench.profile`, if wanted beside an earlier version of Staffa."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from bench.databases import Ask, Site, Sqlite, own_server
from bench.environments import DOCS, ROOT, python_of
from bench.filling import Filling
from bench.lab import LOOK_SECONDS, Backlog, Lab
from bench.processes import Failed, Program
from bench.scale import DEFAULT

NAME = "benchmarks-profile.json"
SAMPLER = ("py-spy==0.4.3",)
SAMPLES_PER_SECOND = 500
WRITING_SECONDS = 30.0
CONCURRENCY = 500
ON_THE_LOOP = "_run_once (asyncio/"
PARTS: dict[str, tuple[str, ...]] = {
    "the job itself": ("bench/",),
    "its attempt: worker, context, outcome, events": (
        "staffa/_executor.py",
        "staffa/_lifecycle.py",
        "staffa/_clock.py",
        "staffa/_arguments.py",
        "staffa/_hands.py",
        "staffa/_running.py",
        "staffa/_job.py",
        "staffa/telemetry.py",
        "staffa/worker.py",
        "staffa/_worker_names.py",
        "staffa/_job_functions.py",
    ),
    "its place in the queue": ("staffa/_producer.py", "staffa/_cursor.py", "staffa/_watched.py"),
    "asyncio: its task and the event loop": ("asyncio/", "selectors.py", "_weakrefset.py"),
    "engine and driver: outcomes written, jobs read": (
        "staffa/engines/",
        "staffa/engine.py",
        "staffa/_bridge.py",
        "psycopg",
        "concurrent/futures/",
    ),
}
REST = "the rest"
WALL = "from one job to the next"
LOOP = "the worker's event loop"
OTHERS = "its other threads, as SQLite's writer"
SERVER = "the database server"


class Profile(msgspec.Struct, frozen=True):
    """Microseconds a job, by part, on each kind of database; of one version of Staffa."""

    version: str
    parts: dict[str, dict[str, float]]


def profiled(lab: Lab, sources: Mapping[str, Path | None], rounds: int, jobs: int) -> list[Profile]:
    """Drain a backlog with each version in turn, once to see the time it takes and once to see where it goes."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(rounds):
        for site in (lab.postgres, lab.sqlite):
            for version, source in sources.items():
                lab.say(f"round {number + 1}: {version}, {site.kind}")
                found.setdefault((version, site.kind), []).append(_parts(lab, site, source, jobs))
    return [
        Profile(version, {kind: _medians(found[version, kind]) for name, kind in found if name == version})
        for version in sources
    ]


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: median(each[part] for each in rounds) for part in rounds[0]}


def _parts(lab: Lab, site: Site, source: Path | None, jobs: int) -> dict[str, float]:
    """Give microseconds a job: the operating system tells for how long threads work, samples at what."""
    shares = _sampled(lab, site, source, jobs)
    wall, loop, others, server = _timed(lab, site, source, jobs)
    parts = {WALL: wall, LOOP: loop, **{part: share * loop for part, share in shares.items()}}
    return {**parts, OTHERS: others} if site.kind == "sqlite" else {**parts, SERVER: server}


def _timed(lab: Lab, site: Site, source: Path | None, jobs: int) -> list[float]:
    """Give microseconds a job: by the clock, then of the loop's, other threads' and the server's processor time."""
    with _backlog(lab, site, source, jobs) as backlog:
        [program] = backlog.programs
        server = _server(backlog.ask) if site.kind == "postgres" else []
        before = [*_busy_threads(program), _busy(server)]
        drained = backlog.drained(lab.scale.seconds)
        after = [*_busy_threads(program), _busy(server)]
    spent = (later - sooner for sooner, later in zip(before, after, strict=True))
    return [1e6 / drained.per_second, *(seconds / jobs * 1e6 for seconds in spent)]


def _sampled(lab: Lab, site: Site, source: Path | None, jobs: int) -> dict[str, float]:
    """Give the share of each part in what the event loop's thread does in Python."""
    raw = lab.file("samples")
    sampler = python_of("py-spy", SAMPLER).with_name("py-spy")
    command = [
        str(sampler),
        "record",
        "--gil",
        "--format",
        "raw",
        "--rate",
        str(SAMPLES_PER_SECOND),
    ]

    with _backlog(lab, site, source, jobs, [*command, "--output", str(raw), "--"]) as backlog:
        backlog.drained(lab.scale.seconds)
        [program] = backlog.programs
        program.usage.send_signal(signal.SIGINT)  # then it writes what it saw
        _wait_for(raw)
    counts = counted(raw.read_text("utf-8"))
    return {part: count / max(counts.total(), 1) for part, count in counts.items()}


def counted(raw: str) -> Counter[str]:
    """Count the samples of the event loop's thread by the innermost part that they were in."""
    counts: Counter[str] = Counter(dict.fromkeys((*PARTS, REST), 0))
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if ON_THE_LOOP in stack:
            counts[_part(stack.split(";"))] += int(count)
    return counts


def _part(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        place = frame.rpartition("(")[2]
        for part, places in PARTS.items():
            if place.startswith(places):
                return part
    return REST


# One drain


def _backlog(
    lab: Lab, site: Site, source: Path | None, jobs: int, prefix: Sequence[str] = ()
) -> AbstractContextManager[Backlog]:
    """Have a version run a backlog, perhaps by another program."""
    environment = {"PYTHONPATH": f"{source / 'src'}{os.pathsep}{ROOT}"} if source else {}
    return lab.backlog(site, Filling(jobs), CONCURRENCY, environment=environment, prefix=prefix)


def _server(ask: Ask) -> list[psutil.Process]:
    """Give the processes of a server: the one that begat the one that answers, and all its children."""
    [(backend,)] = ask("select pg_backend_pid()")
    postmaster = psutil.Process(backend).parent()
    return [] if postmaster is None else [postmaster, *postmaster.children()]


def _busy_threads(program: Program) -> tuple[float, float]:
    """Give the seconds that a process's first thread has worked so far, and all others."""
    took = {each.id: each.user_time + each.system_time for each in program.usage.threads()}
    first = float(took.pop(program.usage.pid))
    return first, float(sum(took.values()))


def _busy(processes: Sequence[psutil.Process]) -> float:
    """Give the seconds that processes have worked so far."""
    times = [each.cpu_times() for each in processes if each.is_running()]
    return float(sum(each.user + each.system for each in times))


def _wait_for(file: Path) -> None:
    """Wait until a file is whole, as far as one can see."""
    ends = time.monotonic() + WRITING_SECONDS
    size = -1
    while time.monotonic() < ends:
        time.sleep(LOOK_SECONDS)
        if file.exists() and file.stat().st_size == size:
            return
        size = file.stat().st_size if file.exists() else -1
    raise Failed(f"{file.name} was not written within {WRITING_SECONDS:.0f} s")


# What people see


def rows(profiles: Sequence[Profile]) -> list[tuple[str, ...]]:
    """Give a table, heading first: parts below each other, versions beside each other."""
    kinds = [*profiles[0].parts]
    columns = [(kind, profile) for kind in kinds for profile in profiles]
    parts = dict.fromkeys(part for each in profiles for kind in kinds for part in each.parts[kind])
    return [
        ("µs a job", *(f"{kind}, {profile.version}" for kind, profile in columns)),
        *(
            (_named(part), *(_shown(profile.parts[kind].get(part)) for kind, profile in columns))
            for part in parts
        ),
    ]


def _named(part: str) -> str:
    return f"… {part}" if part in PARTS or part == REST else part


def _shown(microseconds: float | None) -> str:
    return "" if microseconds is None else f"{microseconds:.1f}"


def keep(profiles: Sequence[Profile], folder: Path = DOCS) -> None:
    """Keep profiles for the page about benchmarks."""
    (folder / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(profiles), indent=1))


def read(folder: Path = DOCS) -> list[Profile]:
    """Read the profiles that were kept last; none if there are none."""
    file = folder / NAME
    return msgspec.json.decode(file.read_bytes(), type=list[Profile]) if file.exists() else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    given = _parser().parse_args(arguments)
    sources: dict[str, Path | None] = {"before": given.before.resolve()} if given.before else {}
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="staffa-bench-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        with own_server(place) as postgres:
            lab = Lab(DEFAULT, place, postgres, Sqlite(place), lambda what: console.print(what, style="dim"))
            profiles = profiled(lab, {**sources, "now": None}, given.rounds, given.jobs)
    heading, *lines = rows(profiles)
    table = Table(*heading)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    if given.write:
        keep(profiles)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=DEFAULT.jobs)
    parser.add_argument("--write", action="store_true", help="keep it for the page about benchmarks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
