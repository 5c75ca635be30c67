"""How much is measured: quick, as usual, or everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from bench.raw_postgres import BATCHES, EXCHANGES, INSERTS


@dataclass(frozen=True)
class Scale:
    """Sizes of measures. Each measure ends after `seconds` or `jobs`, whichever comes first.

    `rounds` is how often contenders take turns, `repeats` how often what takes a fixed time is measured.
    """

    name: str
    jobs: int
    seconds: float
    search_seconds: float
    rounds: int
    repeats: int
    search_jobs: int
    concurrencies: Mapping[str, tuple[int, ...]]
    threads: tuple[int, ...]
    raw_settings: tuple[tuple[str, int], ...]
    raw_inserts: tuple[tuple[str, int], ...]
    backlogs: tuple[int, ...]
    samples: int
    waiting: int
    watched: float
    under_load: float
    singles: float
    starts: int
    peers: tuple[str, ...]
    finished: int = 0
    pinned: int = 0
    kept_running: int = 0
    long_seconds: float = 120
    searches: bool = True

    @property
    def writes_page(self) -> bool:
        return self.name in ("default", "full")


MOST_PEERS = ("oban", "pgqueuer", "procrastinate", "chancy", "awa", "dbos", "huey")

QUICK = Scale(
    "quick",
    jobs=25_000,
    seconds=3,
    search_seconds=2,
    rounds=3,
    repeats=1,
    search_jobs=10_000,
    concurrencies={"postgres": (500,), "sqlite": (1000,)},
    threads=(200,),
    raw_settings=tuple(product(EXCHANGES, (1000,))),
    raw_inserts=(("unnest", 5_000), ("json", 5_000)),
    backlogs=(10_000, 50_000),
    samples=150,
    waiting=20_000,
    watched=5,
    under_load=4,
    singles=0.7,
    starts=3,
    peers=("pgqueuer", "huey"),
    searches=False,
)
DEFAULT = Scale(
    "default",
    jobs=100_000,
    seconds=8,
    search_seconds=4,
    rounds=3,
    repeats=3,
    search_jobs=30_000,
    concurrencies={"postgres": (100, 200, 500), "sqlite": (200, 500, 1000)},
    threads=(50, 100, 200),
    raw_settings=tuple(product(EXCHANGES, BATCHES)),
    raw_inserts=tuple(product(INSERTS, (1_000, 20_000))),
    backlogs=(10_000, 100_000),
    samples=500,
    waiting=100_000,
    watched=15,
    under_load=10,
    singles=3,
    starts=5,
    peers=MOST_PEERS,
)
FULL = Scale(
    "full",
    jobs=100_000,
    seconds=20,
    search_seconds=8,
    rounds=3,
    repeats=3,
    search_jobs=50_000,
    concurrencies={"postgres": (100, 200, 350, 500), "sqlite": (200, 500, 1000)},
    threads=(20, 50, 100, 200, 350),
    raw_settings=tuple(product(EXCHANGES, BATCHES)),
    raw_inserts=tuple(product(INSERTS, (1_000, 20_000))),
    backlogs=(10_000, 100_000, 1_000_000),
    samples=1_000,
    waiting=100_000,
    watched=60,
    under_load=15,
    singles=5,
    starts=10,
    peers=MOST_PEERS,
    finished=1_000_000,
    pinned=400_000,
    kept_running=1_000_000,
)
SCALES = {each.name: each for each in (QUICK, DEFAULT, FULL)}
