"""How measures are taken: what is timed, what ends them, and what becomes of those that fail."""

import sys
import time
from contextlib import ExitStack

import pytest

from bench import environments, lab
from bench.environments import Unavailable, python_of
from bench.filling import Filling
from bench.lab import timed
from bench.processes import Failed, Program
from bench.raw_postgres import EXCHANGES, INSERTS
from bench.raw_postgres import drain as drain_raw
from bench.raw_postgres import insert_all as insert_raw
from bench.tally import Tally


@pytest.fixture
def program(tmp_path):
    with ExitStack() as around:

        def run(code):
            return around.enter_context(
                Program([sys.executable, "-c", code], log=tmp_path / "log", cwd=tmp_path)
            )

        yield run


def test_a_drain_lasts_from_the_first_start_until_the_database_shows_nothing_unfinished(program, tmp_path):
    sleeper, tally = program("import time; time.sleep(60)"), Tally(tmp_path / "tally")
    for _ in range(10):
        tally.one()
    shown = [[(1,)], [(1,)], []]

    found = timed([sleeper], [tally], lambda _: shown.pop(0), unfinished="from jobs", stored=10, seconds=20)

    assert shown == []
    assert found.per_second == pytest.approx(10 / (time.monotonic() - tally.first), rel=0.2)


def test_when_the_time_is_up_what_has_begun_counts(program, tmp_path):
    sleeper, tally = program("import time; time.sleep(60)"), Tally(tmp_path / "tally")
    for _ in range(40):
        tally.one()

    found = timed([sleeper], [tally], lambda _: [(1,)], unfinished="from jobs", stored=100, seconds=0.5)

    assert found.per_second == pytest.approx(40 / 0.5, rel=0.2)


def test_a_worker_that_dies_fails_its_measure_with_its_last_words(program, tmp_path):
    dying = program("raise SystemExit('no such table')")

    with pytest.raises(Failed, match="ended with 1: no such table"):
        timed([dying], [Tally(tmp_path / "tally")], lambda _: [], unfinished="", stored=10, seconds=20)


def test_workers_that_never_begin_fail_their_measure(program, tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "STARTING_SECONDS", 0.2)
    sleeper = program("import time; time.sleep(60)")

    with pytest.raises(Failed, match="no job began"):
        timed([sleeper], [Tally(tmp_path / "tally")], lambda _: [], unfinished="", stored=10, seconds=20)


def test_a_package_that_cannot_be_installed_is_unavailable_and_tried_again_next_time(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "CACHE", tmp_path)

    for _ in range(2):
        with pytest.raises(Unavailable, match="not installed"):
            python_of("nothing", [str(tmp_path / "missing.whl")])


def test_a_python_that_is_not_here_makes_a_peer_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "CACHE", tmp_path)

    with pytest.raises(Unavailable, match=r"needs Python 3\.99"):
        python_of("nothing", [], (3, 99))


@pytest.mark.parametrize("statement", EXCHANGES)
def test_each_raw_loop_completes_every_job(lab, statement):
    with lab.filled(lab.postgres, Filling(250)) as url, lab.postgres.asking(url) as ask:
        assert drain_raw(url, statement, 100) > 0
        assert ask("select state, attempt, take, count(*) from oban_jobs group by 1, 2, 3") == [
            ("completed", 1, 1, 250)
        ]


@pytest.mark.parametrize("form", INSERTS)
def test_each_raw_insert_stores_jobs_that_staffa_can_run(lab, form):
    with lab.filled(lab.postgres, Filling()) as url, lab.postgres.asking(url) as ask:
        assert insert_raw(url, form, 250, 100) > 0
        found = "select state, queue, worker, args, count(*) from oban_jobs group by 1, 2, 3, 4"
        assert ask(found) == [("available", "bench", "bench.noop", {}, 250)]


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_tables_are_filled_with_what_was_asked_for(lab, kind):
    site = getattr(lab, kind)
    with lab.filled(site, Filling(30, finished=20, scheduled=10)) as url, site.asking(url) as ask:
        found = dict(ask("select state, count(*) from oban_jobs group by state"))

    assert found == {"available": 30, "completed": 20, "scheduled": 10}
