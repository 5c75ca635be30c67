"""How long is waited before trying again."""

from datetime import timedelta

import pytest

from staffa import _backoff
from staffa._backoff import lengthened, reconnect_delay, rescue_delay, restart_delay, retry_delay

DAY = timedelta(days=1)


@pytest.fixture(params=[0.0, 1.0], ids=["shortest", "longest"])
def chance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Let chance fall to one end of its range."""
    monkeypatch.setattr(_backoff.random, "uniform", lambda low, high: low + (high - low) * request.param)
    return request.param


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [
        (1, 17),
        (2, 19),
        (3, 23),
        (4, 31),
        (5, 47),
        (6, 79),
        (8, 271),
        (10, 1039),
        (15, 32_783),
        (20, 1_048_591),
    ],
)
def test_a_retry_waits_as_long_as_oban_s_and_at_most_a_tenth_longer(
    attempt: int, seconds: int, chance: float
):
    assert retry_delay(attempt, 20) == timedelta(seconds=seconds * (1 + 0.1 * chance))


@pytest.mark.parametrize("max_attempts", [21, 25, 100, 10_000])
def test_many_attempts_are_scaled_so_that_no_delay_exceeds_the_longest(max_attempts: int, chance: float):
    longest = timedelta(seconds=15 + 2**20) * 1.1
    assert retry_delay(max_attempts, max_attempts) <= longest
    assert retry_delay(max_attempts // 2, max_attempts) < DAY
    assert longest < 13.4 * DAY


def test_scaled_attempts_round_to_the_nearest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_backoff.random, "uniform", lambda low, high: low)
    assert retry_delay(10, 100) == timedelta(seconds=15 + 2**2)
    assert retry_delay(13, 100) == timedelta(seconds=15 + 2**3)


def test_an_attempt_beyond_its_maximum_still_has_a_delay():
    assert retry_delay(50, 20) <= timedelta(seconds=15 + 2**20) * 1.1


def test_delays_grow_with_every_failure():
    delays = [retry_delay(attempt, 20) for attempt in range(1, 21)]
    assert delays == sorted(delays)


def test_chance_spreads_delays():
    assert len({retry_delay(10, 20) for _ in range(20)}) > 1


def test_a_lost_database_is_asked_soon_and_then_every_few_seconds(chance: float):
    waits = [reconnect_delay(failures).total_seconds() for failures in (0, 1, 2, 3, 5, 10, 10_000)]
    share = 0.5 + 0.5 * chance
    assert waits == pytest.approx([0.1 * share, 0.2 * share, 0.4 * share, 0.8 * share, *[3 * share] * 3])


def test_the_first_rescue_brings_a_job_back_at_once():
    assert rescue_delay(0) == rescue_delay(1) == timedelta(0)


def test_further_rescues_wait_longer_and_apart_from_each_other(chance: float):
    waits = [rescue_delay(rescues).total_seconds() for rescues in (2, 3, 4)]
    assert waits == [5 * (1 + chance), 10 * (1 + chance), 20 * (1 + chance)]
    assert rescue_delay(1000) == rescue_delay(12)


def test_a_delay_is_lengthened_by_a_share_of_it(chance: float):
    assert lengthened(timedelta(seconds=10)) == timedelta(seconds=10 + chance)
    assert lengthened(timedelta(seconds=10), share=0.5) == timedelta(seconds=10 + 5 * chance)
    assert lengthened(timedelta(0)) == timedelta(0)


def test_a_process_that_keeps_dying_is_started_again_ever_later():
    waits = [restart_delay(failures).total_seconds() for failures in (1, 2, 3, 6, 7, 10_000)]

    assert waits == [0.5, 1, 2, 16, 30, 30]
