"""A profile tells where a job's microseconds go, one version beside another."""

import pytest

from bench import profile

SAMPLES = """\
_run_once (asyncio/base_events.py:1) 3
_run_once (asyncio/base_events.py:1);_work (staffa/_producer.py:7);execute (staffa/_executor.py:9) 4
_run_once (asyncio/base_events.py:1);_work (staffa/_producer.py:7);one (bench/jobs.py:2);dumps (json/encoder.py:3) 2
Writer._run (staffa/engines/_sqlite_writer.py:5) 50
"""


def test_samples_of_the_event_loop_count_for_the_innermost_part_that_is_known():
    counts = profile.counted(SAMPLES)

    assert {part: count for part, count in counts.items() if count} == {
        "asyncio: its task and the event loop": 3,
        "its attempt: worker, context, outcome, events": 4,
        "the job itself": 2,
    }


@pytest.mark.parametrize(("site", "last"), [("postgres", profile.SERVER), ("sqlite", profile.OTHERS)])
def test_parts_of_the_event_loop_add_up_to_its_time(lab, monkeypatch, site, last):
    monkeypatch.setattr(profile, "_sampled", lambda *_: {"the job itself": 0.25, profile.REST: 0.75})

    [found] = profile.profiled(lab, {"now": None}, rounds=1, jobs=2_000)
    parts = found.parts[site]

    assert [*parts] == [profile.WALL, profile.LOOP, "the job itself", profile.REST, last]
    assert parts[profile.LOOP] > 0
    assert parts["the job itself"] + parts[profile.REST] == pytest.approx(parts[profile.LOOP])


def test_another_version_runs_from_its_own_checkout(lab, monkeypatch, tmp_path):
    (tmp_path / "src" / "staffa").mkdir(parents=True)
    (tmp_path / "src" / "staffa" / "__init__.py").write_text("raise SystemExit('the other one')")

    with (
        pytest.raises(profile.Failed, match="the other one"),
        profile._backlog(lab, lab.sqlite, tmp_path, 10),
    ):
        pass
