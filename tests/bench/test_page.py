"""The page about benchmarks says what was measured, and nothing else."""

import msgspec
import pytest

from bench import __main__ as program
from bench import page, profile
from bench.profile import Profile
from bench.results import Figure, Pace, Results, RowResult, at_least, at_most, quantiles


def results(*rows, **changes):
    facts = {"scale": "tiny", "date": "2026-01-02", "took_minutes": 3.2}
    about = {"machine": {"cores": "2"}, "versions": {"Python": "3.11"}, "settings": {"fsync": "on"}}
    return Results(**{**facts, **about, "rows": [*rows], **changes})


MET = RowResult(
    "drain",
    "draining",
    [at_least(0.5, "ours / raw", [0.6, 0.7, 0.4])],
    [Figure("ours", "jobs/s", [12_345.6])],
)
MISSED = RowResult("idle", "idle", [at_most(1, "of a core", [2.0], "%")], [])


def test_it_shows_each_row_with_target_median_spread_and_verdict(tmp_path):
    page.keep(results(MET, MISSED), tmp_path)

    text = page.write(tmp_path).read_text("utf-8")

    assert "| draining | ours / raw | ≥ 0.5 | 0.6 | 0.4 to 0.7 | yes |" in text
    assert "|  | ours |  | 12,346 jobs/s |  |  |" in text
    assert "| idle | of a core | ≤ 1 % | 2 % |  | no |" in text
    assert "1 of 2 rows met their targets" in text
    assert "cores 2" in text
    assert "fsync on" in text


def test_it_tells_how_fast_the_machine_was_beside_each_row(tmp_path):
    paces = [Pace(turns=31.4e6, sync=0.00012), Pace(turns=18.2e6, sync=0.0031)]

    page.keep(results(msgspec.structs.replace(MET, paces=paces), MISSED), tmp_path)

    assert "| draining | 31 and 18 million turns/s | 120 and 3100 µs |" in page.write(tmp_path).read_text(
        "utf-8"
    )


def test_what_could_not_be_measured_is_named_and_meets_nothing(tmp_path):
    page.keep(
        results(RowResult("bulk", "bulk insert", [], []), missing={"huey": "no such package"}), tmp_path
    )

    text = page.write(tmp_path).read_text("utf-8")

    assert "| bulk insert | not measured |  |  |  | no |" in text
    assert "- huey was not measured: no such package" in text
    assert "0 of 1 rows met" in text


def test_rows_that_are_not_measured_again_stay(tmp_path):
    page.keep(results(MISSED, MET, chosen={"batch": "100"}), tmp_path)
    again = RowResult("idle", "idle", [at_most(1, "of a core", [0.5], "%")], [])

    page.keep(results(again, date="2026-02-03", chosen={"threads": "5"}), tmp_path)

    kept = page.read(tmp_path)
    assert kept.chosen == {"batch": "100", "threads": "5"}
    assert [row.key for row in kept.rows] == ["drain", "idle"]
    assert kept.rows == [MET, again]
    assert kept.date == "2026-02-03"


def test_the_page_in_the_documentation_says_what_its_results_say(tmp_path):
    for file in page.DOCS.glob("benchmarks*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())

    assert page.write(tmp_path).read_text("utf-8") == (page.DOCS / "benchmarks.md").read_text("utf-8")


def test_plots_are_shown_where_they_were_drawn(tmp_path):
    page.keep(results(MET), tmp_path)
    (tmp_path / "benchmarks-peers.svg").write_text("<svg/>")

    text = page.write(tmp_path).read_text("utf-8")

    assert "](benchmarks-peers.svg)" in text
    assert "](benchmarks-latency.svg)" not in text


def test_the_page_shows_profiles_of_versions_beside_each_other(tmp_path):
    parts = {profile.WALL: 20.0, profile.LOOP: 10.0, "the job itself": 0.26}
    profile.keep(
        [Profile("before", {"sqlite": {profile.WALL: 40.0}}), Profile("now", {"sqlite": parts})], tmp_path
    )
    page.keep(results(MET), tmp_path)

    text = page.write(tmp_path).read_text("utf-8")

    assert "| µs a job | sqlite, before | sqlite, now |" in text
    assert "| from one job to the next | 40.0 | 20.0 |" in text
    assert "| … the job itself |  | 0.3 |" in text


def test_quantiles_go_from_the_least_to_the_most():
    assert quantiles([float(each) for each in range(400, -1, -1)]) == [2.0 * each for each in range(201)]


def test_a_quick_run_leaves_the_page_alone(monkeypatch, capsys):
    monkeypatch.setattr(program, "measured", lambda *_: results(MET))

    def never(*_):
        raise AssertionError

    for name in ("keep", "draw", "write"):
        monkeypatch.setattr(page, name, never)

    assert program.main(["--scale", "quick"]) == 0
    assert "draining" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--scale", "full"], ["--only", "drain", "--write"]])
def test_a_whole_run_writes_it_and_part_of_one_where_asked(monkeypatch, arguments):
    done = []
    monkeypatch.setattr(program, "measured", lambda *_: results(MET))
    monkeypatch.setattr(page, "keep", done.append)
    monkeypatch.setattr(page, "draw", lambda: done.append("drawn"))
    monkeypatch.setattr(page, "write", lambda: done.append("written") or page.ROOT / "docs")

    assert program.main(arguments) == 0
    assert done == [results(MET), "drawn", "written"]
