"""A place to measure in, small enough for a test."""

import pytest

from bench.databases import Postgres, Sqlite
from bench.environments import Unavailable
from bench.lab import Lab
from bench.scale import Scale

TINY = Scale(
    "tiny",
    jobs=200,
    seconds=20,
    search_seconds=20,
    rounds=1,
    repeats=1,
    search_jobs=100,
    concurrencies={"postgres": (50,), "sqlite": (50,)},
    threads=(5,),
    raw_settings=(("lean, by id", 100),),
    raw_inserts=(("unnest", 100),),
    backlogs=(100, 200),
    samples=10,
    waiting=100,
    watched=0.5,
    under_load=0.5,
    singles=0.05,
    starts=1,
    peers=("pgqueuer", "huey"),
    finished=100,
    pinned=200,
    kept_running=200,
)


@pytest.fixture
def lab(postgres, tmp_path, monkeypatch):
    """Measure on the server that tests have; no peer is installed."""

    def nothing(name, *_):
        raise Unavailable(f"{name} is not here")

    monkeypatch.setattr("bench.lab.python_of", nothing)
    monkeypatch.setattr("bench.rows.living.WARM_UP_SECONDS", 0.1)
    monkeypatch.setattr("bench.rows.living.SETTLING_SECONDS", 0.5)
    monkeypatch.setattr("bench.rows.waiting.WARM_UP", 2)
    return Lab(TINY, tmp_path, Postgres(postgres), Sqlite(tmp_path), lambda _: None)
