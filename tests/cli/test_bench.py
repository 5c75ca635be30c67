"""`staffa bench`: what it measures, and that it leaves nothing behind."""

import re
import signal
import time
from pathlib import Path

import psycopg
import pytest

from staffa import Job
from staffa.cli.bench.figures import Figures


def left_behind(url):
    """Find what measuring leaves: schemas of PostgreSQL, files beside a SQLite file."""
    if url.startswith("sqlite"):
        return [each.name for each in Path(url.removeprefix("sqlite:///")).parent.glob(".staffa-bench*")]
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select nspname from pg_namespace where nspname like 'staffa_bench%'"
        ).fetchall()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("staffa.cli.bench.LATENCY_SAMPLES", 20)
    monkeypatch.setattr("staffa.cli.bench.WARM_UP_JOBS", 100)


def test_it_tells_rates_and_latency_beside_the_raw_limit_and_cleans_up(project, staffa):
    with_jobs = project.instance()
    mine = with_jobs.insert(Job(worker="mine"))

    said = staffa("bench", "--jobs", "300", "--concurrency", "50", "--json")

    assert said.code == 0, said.err
    found = said.json
    for figures in (found, found["raw"]):
        assert figures["insert_per_s"] > 0
        assert figures["drain_per_s"] > 0
        assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"]
    assert found["ratio"]["drain"] == pytest.approx(
        found["drain_per_s"] / found["raw"]["drain_per_s"], abs=0.01
    )
    assert (found["jobs"], found["concurrency"]) == (300, 50)
    assert found["raw_batch"] in (100, 500, 1000)
    assert with_jobs.jobs() == [mine]
    assert left_behind(project.url) == []
    with_jobs.close()


LOOP_THROWN_AWAY = re.compile(
    r"Exception ignored in: <function BaseEventLoop\.__del__[^\n]*\nTraceback[^\n]*\n(?:  [^\n]*\n)+[^\n]*\n"
)
"""What Python itself says of an event loop that a signal met half-made; no other traceback is excused."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_cleans_up_when_it_is_stopped(project, number):
    process = project.start("bench", "--jobs", "200000")
    deadline = time.monotonic() + 60
    while not left_behind(project.url):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    process.send_signal(number)
    said = project.finish(process)

    assert said.code == 128 + number
    assert "Traceback" not in LOOP_THROWN_AWAY.sub("", said.err)
    assert left_behind(project.url) == []


def test_it_tells_people_in_a_table(sqlite_url, staffa):
    out = staffa("bench", "--jobs", "100", "--concurrency", "10", "--database", sqlite_url).out

    assert "jobs drained per second" in out
    assert "RAW LIMIT" in out
    assert "one process, best with 10 at once" in out


def test_a_folder_that_is_not_there_is_told_in_one_line(staffa, tmp_path):
    said = staffa("bench", "--database", f"sqlite:///{tmp_path}/missing/jobs.db")

    assert (said.code, said.err.count("\n")) == (2, 1)


def test_a_database_that_does_not_answer_is_told_in_one_line(staffa):
    said = staffa("bench", "--database", "postgresql://127.0.0.1:1/none")

    assert "connect" in said.err
    assert "schema" not in said.err
    assert (said.code, said.err.count("\n")) == (1, 1)


def test_percentiles_are_the_smallest_values_not_exceeded_by_so_many():
    figures = Figures.of(1.4, 2.6, [each / 1000 for each in range(1, 101)])

    assert figures.as_object() == {
        "insert_per_s": 1,
        "drain_per_s": 3,
        "latency_ms": {"p50": 50.0, "p99": 99.0},
    }
