"""The Reindexer: at its time, once, and only on the leader."""

from datetime import UTC, datetime, timedelta

import pytest

from staffa import Job, Reindexer, Staffa
from staffa.config import load
from staffa.errors import ConfigError, InvalidCron

MIDNIGHT = datetime(2030, 1, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def ticks(staffa: Staffa, reindexer: Reindexer, *instants: datetime) -> list[bool]:
    """Say at which of the looks it rebuilt."""
    return [bool(await reindexer.tick(staffa.engine, now=now)) for now in instants]


@pytest.fixture
async def staffa(make) -> Staffa:
    staffa = make()
    await staffa.ainsert(Job(worker="w"))
    return staffa


async def test_it_rebuilds_once_when_its_time_comes(staffa):
    looks = [MIDNIGHT - MINUTE, MIDNIGHT - MINUTE / 2, MIDNIGHT, MIDNIGHT + MINUTE / 2, MIDNIGHT + MINUTE]

    assert await ticks(staffa, Reindexer(), *looks) == [False, False, True, False, False]


async def test_a_time_between_two_looks_counts(staffa):
    assert await ticks(staffa, Reindexer(), MIDNIGHT - MINUTE / 4, MIDNIGHT + MINUTE / 4) == [False, True]


async def test_one_who_begins_to_lead_long_after_does_not_catch_up(staffa):
    reindexer = Reindexer()

    assert await ticks(staffa, reindexer, MIDNIGHT - timedelta(hours=5), MIDNIGHT + timedelta(hours=5)) == [
        False,
        False,
    ]


async def test_its_schedule_is_read_in_its_zone(staffa):
    reindexer = Reindexer(schedule="0 3 * * *", timezone="Europe/Amsterdam")

    assert await ticks(staffa, reindexer, MIDNIGHT + 2 * 60 * MINUTE, MIDNIGHT + 3 * 60 * MINUTE) == [
        True,
        False,
    ]


async def test_it_rebuilds_what_it_is_told_to_and_says_so(staffa):
    report = await Reindexer(indexes=["staffa_jobs_due_index", "none"]).tick(staffa.engine, now=MIDNIGHT)

    assert report["rebuilt"] == ["staffa_jobs_due_index"]
    assert list(report["failed"]) == ["none"]


def test_a_bad_schedule_is_refused_at_once():
    with pytest.raises(InvalidCron, match="25"):
        Reindexer(schedule="0 25 * * *")


def test_a_table_in_the_configuration_turns_it_on(tmp_path):
    file = tmp_path / "staffa.toml"
    file.write_text('timezone = "Europe/Amsterdam"\n[reindexer]\nschedule = "@weekly"\nwithin = "1m"\n')

    found = load(file)

    assert found.reindexer == {"schedule": "@weekly", "within": MINUTE}
    Staffa.from_config(found)


def test_a_bad_schedule_in_the_configuration_names_its_key(tmp_path):
    file = tmp_path / "staffa.toml"
    file.write_text('[reindexer]\nschedule = "0 25 * * *"\n')

    with pytest.raises(ConfigError, match=r"reindexer: schedule: .*0 25"):
        load(file)
