"""Where measures are taken: databases, workers of Staffa, peers, and how long a backlog takes them."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench import jobs
from bench.contenders import CONTENDERS, Contender
from bench.databases import Ask, Postgres, Site, Sqlite
from bench.environments import ROOT, Unavailable, python_of
from bench.filling import Filling
from bench.processes import Failed, Program
from bench.scale import Scale
from bench.tally import Tally

T = TypeVar("T")

UNFINISHED = "from oban_jobs where state not in ('completed', 'discarded', 'cancelled')"
STARTING_SECONDS = 30.0
PREPARING_SECONDS = 60.0
ANSWERING_SECONDS = 10
LOOK_SECONDS = 0.004
STILL_SECONDS = 0.1
SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class Drained:
    """How fast a backlog went, and how many jobs had begun after each quarter of a second."""

    per_second: float
    began: list[int]


@dataclass(frozen=True)
class Backlog:
    """A backlog that workers of Staffa have begun to run, each with a tally."""

    programs: Sequence[Program]
    tallies: Sequence[Tally]
    ask: Ask
    jobs: int

    def drained(self, seconds: float) -> Drained:
        """Wait until nothing is left of it, or so much time is up since its first job began."""
        return timed(
            self.programs, self.tallies, self.ask, unfinished=UNFINISHED, stored=self.jobs, seconds=seconds
        )


@dataclass
class Lab:
    """All that measures share."""

    scale: Scale
    folder: Path
    postgres: Postgres
    sqlite: Sqlite
    say: Callable[[str], None]
    missing: dict[str, str] = field(default_factory=dict)
    _chosen: dict[str, Any] = field(default_factory=dict)
    _stored: dict[str, int] = field(default_factory=dict)
    _inserts: dict[str, float] = field(default_factory=dict)
    _files: int = 0

    # Databases

    @contextmanager
    def filled(self, site: Site, filling: Filling) -> Iterator[str]:
        """Give the URL of a fresh database that holds what was asked for."""
        with site.copy(filling.name, lambda url: filling.make(site, url)) as url:
            gc.collect()
            yield url

    # Staffa

    @contextmanager
    def worker(
        self,
        url: str,
        tally: Tally,
        *,
        queues: str,
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Iterator[Program]:
        """Run `staffa run` in a process of its own, perhaps by another program."""
        with Program(
            [*prefix, sys.executable, "-m", "staffa", "run", "--log-level", "warning"],
            log=self.file("staffa.log"),
            cwd=ROOT,
            environment={
                "STAFFA_DATABASE": url,
                "STAFFA_QUEUES": queues,
                "STAFFA_MODULES": jobs.__name__,
                jobs.TALLY: str(tally.path),
                **(environment or {}),
            },
        ) as program:
            yield program

    def drain(
        self,
        site: Site,
        filling: Filling,
        concurrency: int,
        *,
        processes: int = 1,
        seconds: float | None = None,
        beside: Callable[[str], Any] | None = None,
    ) -> Drained:
        """Let Staffa run a backlog; `beside` gives a context that lasts as long."""
        with self.backlog(site, filling, concurrency, processes=processes, beside=beside) as backlog:
            return backlog.drained(seconds or self.scale.seconds)

    @contextmanager
    def backlog(
        self,
        site: Site,
        filling: Filling,
        concurrency: int,
        *,
        processes: int = 1,
        beside: Callable[[str], Any] | None = None,
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Iterator[Backlog]:
        """Have Staffa run a backlog, and give it when the first job has begun."""
        queues = f"{jobs.QUEUE}:{concurrency}"
        with self.filled(site, filling) as url, ExitStack() as around:
            if beside is not None:
                around.enter_context(beside(url))
            ask = around.enter_context(site.asking(url))
            tallies = [self.tally() for _ in range(processes)]
            programs = [
                around.enter_context(
                    self.worker(url, tally, queues=queues, environment=environment, prefix=prefix)
                )
                for tally in tallies
            ]
            first_start(programs, tallies)
            yield Backlog(programs, tallies, ask, filling.jobs)

    # Peers

    def drain_peer(self, name: str, setting: int, *, processes: int = 1, search: bool = False) -> Drained:
        """Let a peer run a backlog, a smaller one while settings are searched. Raises `Unavailable`."""
        jobs = min(self.scale.jobs, self.scale.search_jobs) if search else self.scale.jobs
        seconds = self.scale.search_seconds if search else self.scale.seconds
        peer = CONTENDERS[name]
        if name in self.missing:
            raise Unavailable(self.missing[name])
        site: Site = self.postgres if peer.database == "postgres" else self.sqlite
        template = f"{name}_{jobs}"
        try:
            with (
                site.copy(
                    template, lambda url: self._fill_peer(peer, site, url, jobs=jobs, seconds=seconds)
                ) as url,
                site.asking(url) as ask,
                ExitStack() as around,
            ):
                if site.kind == "postgres":
                    # Some tables take minutes to look at.
                    ask(f"set statement_timeout = '{ANSWERING_SECONDS}s'")
                tallies = [self.tally() for _ in range(processes)]
                programs = [
                    around.enter_context(
                        self._peer(peer, "work", url=url, tally=str(tally.path), setting=setting)
                    )
                    for tally in tallies
                ]
                return timed(
                    programs,
                    tallies,
                    ask,
                    unfinished=peer.unfinished,
                    stored=self._stored[template],
                    seconds=seconds,
                )
        except (Failed, Unavailable) as error:
            self.missing[name] = str(error)
            raise Unavailable(str(error)) from error

    def _fill_peer(self, peer: Contender, site: Site, url: str, *, jobs: int, seconds: float) -> None:
        self._ask_peer(peer, "prepare", url=url)
        found = self._ask_peer(peer, "fill", url=url, jobs=jobs, seconds=seconds)
        self._stored[f"{peer.name}_{jobs}"] = found["stored"]
        self._inserts[peer.name] = found["stored"] / found["seconds"]
        if peer.analyzed:
            with site.asking(url) as ask:
                ask("vacuum analyze")

    def _ask_peer(self, peer: Contender, verb: str, **given: Any) -> Any:
        with self._peer(peer, verb, **given) as program:
            return program.answer(PREPARING_SECONDS + self.scale.seconds)

    def _peer(self, peer: Contender, verb: str, **given: Any) -> Program:
        interpreter = python_of(peer.name, peer.requires, peer.python)
        return Program(
            [str(interpreter), "-m", "bench.peers", peer.name, verb, json.dumps(given)],
            log=self.file(f"{peer.name}.log"),
            cwd=ROOT,
            environment={"PYTHONPATH": None},
        )

    def inserts_of(self, name: str) -> float | None:
        """Give how many jobs a second a peer stored while its tables were filled."""
        return self._inserts.get(name)

    # Choosing and alternating

    def best(self, key: str, settings: Sequence[T], measure: Callable[[T], float], *, tries: int = 1) -> T:
        """Try settings in turns, so often each; remember the best for all rows that need it."""
        if key not in self._chosen:
            tried = [] if len(settings) == 1 else [*settings] * tries
            self._chosen[key] = max(tried, key=measure, default=settings[0])
            self.say(f"{key}: best with {self._chosen[key]}")
        chosen: T = self._chosen[key]
        return chosen

    @property
    def chosen(self) -> dict[str, str]:
        """Name the settings that were found best, as people read them."""
        return {
            key: ", ".join(map(str, found if isinstance(found, tuple) else (found,)))
            for key, found in self._chosen.items()
        }

    def alternate(
        self, measures: dict[str, Callable[[], float]], rounds: int | None = None
    ) -> dict[str, list[float]]:
        """Measure one after the other, round by round; what is not available is left out."""
        found: dict[str, list[float]] = {name: [] for name in measures}
        for number in range(rounds or self.scale.rounds):
            for name in [*found]:
                self.say(f"round {number + 1}: {name}")
                try:
                    found[name].append(measures[name]())
                except Unavailable as error:
                    self.say(f"not measured: {error}")
                    del found[name]
        return found

    # Files

    def tally(self, slots: int = 0) -> Tally:
        """Make a fresh tally."""
        return Tally(self.file("tally"), slots)

    def file(self, kind: str) -> Path:
        self._files += 1
        return self.folder / f"{self._files}-{kind}"


def timed(
    programs: Sequence[Program],
    tallies: Sequence[Tally],
    ask: Ask,
    *,
    unfinished: str,
    stored: int,
    seconds: float,
) -> Drained:
    """Wait from the first job's start until the database shows nothing unfinished, or the time is up.

    Then those jobs count that have begun: some tables take minutes to be counted while they are worked on.
    """
    began: list[int] = []
    first = first_start(programs, tallies)
    ends = first + seconds
    seen = 0
    moved = sampled = time.monotonic()
    while (now := time.monotonic()) < ends:
        count = sum(tally.began for tally in tallies)
        if count != seen:
            seen, moved = count, now
        if now - sampled >= SAMPLE_SECONDS:
            sampled = now
            began.append(count)
        if count >= stored or now - moved >= STILL_SECONDS:
            moved = now
            if not ask(f"select 1 {unfinished} limit 1"):
                return Drained(stored / (time.monotonic() - first), began)
        for program in programs:
            program.check()
        time.sleep(LOOK_SECONDS)
    count = sum(tally.began for tally in tallies)
    return Drained(count / (time.monotonic() - first), began)


def first_start(programs: Sequence[Program], tallies: Sequence[Tally]) -> float:
    """Wait until the first job begins; give when that was."""
    patience = time.monotonic() + STARTING_SECONDS
    while not any(tally.began for tally in tallies):
        for program in programs:
            program.check()
        if time.monotonic() > patience:
            raise Failed(f"no job began within {STARTING_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
    return min(tally.first for tally in tallies if tally.began)
