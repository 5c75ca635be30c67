"""What a job becomes, and that nothing else does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from staffa import Job, State, _lifecycle
from staffa._job import FINAL, replace

NOW = datetime(2030, 1, 1, 12, 0, 0, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HELD = Job(
    worker="w",
    id=7,
    state=State.EXECUTING,
    args={"a": 1},
    meta={"kept": True},
    attempt=2,
    max_attempts=3,
    scheduled_at=NOW - MINUTE,
    attempted_at=NOW,
    attempted_by=["n", "p"],
    errors=[{"at": "2029-01-01T00:00:00.000000Z", "attempt": 1, "error": "first"}],
    take=4,
)
LAST = replace(HELD, attempt=3)


def rescued_before(times: object) -> Job:
    return replace(HELD, meta={"rescued": times})


@pytest.mark.parametrize(
    ("become", "states"),
    [
        (lambda: _lifecycle.completed(HELD, NOW), {"completed"}),
        (lambda: _lifecycle.failed(HELD, NOW, "no", MINUTE), {"retryable"}),
        (lambda: _lifecycle.failed(LAST, NOW, "no", MINUTE), {"discarded"}),
        (lambda: _lifecycle.cancelled(HELD, NOW, "no"), {"cancelled"}),
        (lambda: _lifecycle.snoozed(HELD, NOW, MINUTE), {"scheduled"}),
        (lambda: _lifecycle.handed_back(HELD), {"available"}),
        (lambda: _lifecycle.rescued(HELD, NOW), {"available"}),
        (lambda: _lifecycle.rescued(rescued_before(1), NOW), {"scheduled"}),
        (lambda: _lifecycle.rescued(rescued_before(4), NOW), {"discarded"}),
    ],
)
def test_an_executing_job_becomes_what_oban_says(become: Any, states: set[str]):
    after = become()
    assert {str(after.state)} == states
    kept = ("id", "worker", "args", "queue", "priority", "tags", "take", "attempted_by", "attempted_at")
    assert [getattr(after, name) for name in kept] == [getattr(HELD, name) for name in kept]


@pytest.mark.parametrize(
    ("become", "stamp"),
    [
        (lambda: _lifecycle.completed(HELD, NOW), "completed_at"),
        (lambda: _lifecycle.cancelled(HELD, NOW, "no"), "cancelled_at"),
        (lambda: _lifecycle.failed(LAST, NOW, "no", MINUTE), "discarded_at"),
        (lambda: _lifecycle.rescued(rescued_before(4), NOW), "discarded_at"),
    ],
)
def test_a_finished_job_says_when_and_only_in_the_column_of_its_state(become: Any, stamp: str):
    after = become()
    assert after.state in FINAL
    stamps = {name: getattr(after, name) for name in ("completed_at", "cancelled_at", "discarded_at")}
    assert stamps == {**dict.fromkeys(stamps), stamp: NOW}
    assert after.scheduled_at == HELD.scheduled_at


def test_a_failed_attempt_is_written_down_as_oban_does():
    after = _lifecycle.failed(HELD, NOW, "boom", MINUTE)
    assert after.errors == [
        *HELD.errors,
        {"at": "2030-01-01T12:00:00.000007Z", "attempt": 2, "error": "boom"},
    ]
    assert (after.attempt, after.scheduled_at) == (2, NOW + MINUTE)


@pytest.mark.parametrize(
    ("attempt", "state"), [(1, "retryable"), (2, "retryable"), (3, "discarded"), (4, "discarded")]
)
def test_a_job_is_retried_while_attempts_remain(attempt: int, state: str):
    assert _lifecycle.failed(replace(HELD, attempt=attempt), NOW, "no", MINUTE).state == state


def test_a_snooze_costs_no_attempt_and_is_counted():
    once = _lifecycle.snoozed(HELD, NOW, MINUTE)
    assert (once.attempt, once.max_attempts, once.scheduled_at) == (1, 3, NOW + MINUTE)
    assert once.meta == {"kept": True, "snoozed": 1}
    assert _lifecycle.snoozed(once, NOW, MINUTE).meta["snoozed"] == 2
    assert once.errors == HELD.errors


def test_completing_and_handing_back_add_no_error():
    assert _lifecycle.completed(HELD, NOW).errors == HELD.errors
    assert _lifecycle.handed_back(HELD).errors == HELD.errors


@pytest.mark.parametrize("become", [_lifecycle.handed_back, lambda job: _lifecycle.rescued(job, NOW)])
def test_an_attempt_that_was_cut_off_is_given_back_but_never_below_none(become: Any):
    assert become(HELD).attempt == 1
    assert become(replace(HELD, attempt=0)).attempt == 0


@pytest.mark.parametrize(("before", "least"), [(1, 5), (2, 10), (3, 20)])
def test_rescues_wait_at_least_twice_as_long_each_time_and_never_twice_that(before: int, least: int):
    for _ in range(50):
        after = _lifecycle.rescued(rescued_before(before), NOW)
        assert after.scheduled_at is not None
        assert timedelta(seconds=least) <= after.scheduled_at - NOW <= timedelta(seconds=2 * least)


def test_innocents_that_were_orphaned_together_come_back_apart():
    delays = {_lifecycle.rescued(rescued_before(2), NOW).scheduled_at for _ in range(20)}
    assert len(delays) > 1


def test_a_first_rescue_is_at_once():
    after = _lifecycle.rescued(HELD, NOW)
    assert (after.state, after.scheduled_at, after.meta["rescued"]) == (State.AVAILABLE, HELD.scheduled_at, 1)


def test_the_fifth_rescue_gives_up_and_says_why():
    after = _lifecycle.rescued(rescued_before(4), NOW)
    assert (after.state, after.attempt, after.meta["rescued"]) == (State.DISCARDED, HELD.attempt, 5)
    assert after.errors[-1]["error"].startswith("orphaned 5 times")
    assert after.errors[-1]["attempt"] == HELD.attempt


@pytest.mark.parametrize("count", ["often", None, 1.5, [], {}])
def test_a_count_that_is_none_starts_anew(count: object):
    assert _lifecycle.rescued(rescued_before(count), NOW).meta["rescued"] == 1
    assert _lifecycle.snoozed(replace(HELD, meta={"snoozed": count}), NOW, MINUTE).meta["snoozed"] == 1


@pytest.mark.parametrize(("attempt", "allowed"), [(0, 3), (2, 3), (3, 4), (5, 6)])
def test_a_retry_by_hand_leaves_an_attempt_to_run(attempt: int, allowed: int):
    finished = replace(
        HELD, state=State.DISCARDED, attempt=attempt, discarded_at=NOW, cancelled_at=NOW, completed_at=NOW
    )
    after = _lifecycle.retried(finished, NOW + MINUTE)
    assert (after.state, after.attempt, after.max_attempts) == (State.AVAILABLE, attempt, allowed)
    assert (after.scheduled_at, after.errors) == (NOW + MINUTE, HELD.errors)
    assert (after.completed_at, after.discarded_at, after.cancelled_at) == (None, None, None)


def test_nothing_changes_the_job_that_was_held():
    held = replace(HELD, meta={"kept": True}, errors=list(HELD.errors))
    for become in (
        lambda: _lifecycle.completed(held, NOW),
        lambda: _lifecycle.failed(held, NOW, "no", MINUTE),
        lambda: _lifecycle.snoozed(held, NOW, MINUTE),
        lambda: _lifecycle.rescued(held, NOW),
        lambda: _lifecycle.cancelled(held, NOW, "no"),
    ):
        become()
    assert held == HELD


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "2030-01-02T03:04:05.000000Z"),
        (datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2030-01-02T03:04:05.000006Z"),
        (datetime.min.replace(tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_instants_are_written_with_six_digits_so_that_their_order_is_that_of_time(
    moment: datetime, text: str
):
    assert _lifecycle.instant(moment) == text
