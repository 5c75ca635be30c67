"""Where a queue looks for its next jobs: behind those it took, and now and then for all."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from staffa import Job
from staffa._cursor import LONGEST_REST, Cursor, Look, position_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def job(number: int, priority: int = 0) -> Job:
    return Job(worker="w", id=number, priority=priority, scheduled_at=NOON + timedelta(seconds=number))


class Queue:
    """A cursor, and a clock for it."""

    def __init__(self) -> None:
        self.cursor, self.now = Cursor(), 100.0

    def looks(self, *numbers: int, demand: int = 1, took: float = 0.0, priority: int = 0) -> Look:
        """Look for jobs, and find these."""
        look = self.cursor.look(self.now)
        self.now += took
        self.cursor.found(look, [job(each, priority) for each in numbers], demand, self.now)
        return look

    @property
    def looks_for_all(self) -> bool:
        return self.cursor.look(self.now).after is None

    @property
    def owes_in(self) -> float:
        return self.cursor.owed(self.now)


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_the_first_look_is_for_all(queue: Queue):
    assert queue.looks_for_all


def test_while_enough_is_found_the_next_look_begins_behind_the_last_job(queue: Queue):
    queue.looks(1, 2, demand=2)
    assert queue.looks(3, 4, demand=2).after == position_of(job(2))
    assert queue.looks(5, 6, demand=2).after == position_of(job(4))


@pytest.mark.parametrize(
    ("took", "rest"), [(0.001, 1.0), (0.05, 1.0), (0.1, 2.0), (0.4, 8.0), (60.0, LONGEST_REST)]
)
def test_under_load_a_look_for_all_comes_every_second_or_twenty_times_as_long_as_it_took(
    queue: Queue, took: float, rest: float
):
    queue.looks(1)
    queue.now += 1
    assert queue.looks(2, took=took).after is None
    ended = queue.now
    queue.now = ended + rest - 0.01
    assert not queue.looks_for_all
    queue.now = ended + rest + 0.01
    assert queue.looks_for_all


def test_how_long_a_look_takes_is_counted_beyond_the_quickest_one(queue: Queue):
    """The way to a distant database and back is no work for it."""
    queue.looks(1, took=0.5)
    queue.looks(2, took=0.5)
    queue.now += 1
    assert queue.looks_for_all


def test_a_queue_that_ran_dry_looks_for_all_whenever_it_is_asked_to(queue: Queue):
    queue.looks(1, demand=2)
    assert queue.looks_for_all
    assert queue.owes_in == math.inf


def test_a_queue_that_ran_dry_behind_a_position_owes_a_look_for_all(queue: Queue):
    queue.looks(1)
    queue.looks(demand=2)
    assert queue.owes_in == 0
    assert queue.looks_for_all


def test_a_queue_without_room_is_owed_nothing_but_looks_for_all_when_it_has_some(queue: Queue):
    queue.looks(1)
    queue.looks(demand=2)
    queue.looks(demand=0)
    assert queue.owes_in == math.inf
    assert queue.looks_for_all


def test_even_a_dry_queue_does_not_spend_its_time_on_looks_for_all(queue: Queue):
    queue.looks(1)
    queue.now += 1
    queue.looks(demand=2, took=0.1)
    assert not queue.looks_for_all
    queue.looks(demand=2)
    assert queue.owes_in == pytest.approx(2.0)
    queue.now += 2.01
    assert queue.looks_for_all


def test_a_full_queue_that_asks_for_nothing_has_not_run_dry(queue: Queue):
    queue.looks(1)
    queue.looks(demand=0)
    assert not queue.looks_for_all
    assert queue.owes_in == math.inf


def test_what_a_look_for_all_finds_is_gone_on_with_from_there(queue: Queue):
    queue.looks(1, priority=5)
    queue.looks(2, priority=5)
    queue.now += 1
    assert queue.looks(3, priority=0).after is None
    assert queue.looks(4, priority=0).after == position_of(job(3))


def test_a_look_that_began_before_one_for_all_does_not_lead_away_from_what_that_one_left(queue: Queue):
    queue.looks(1, priority=5)
    late = queue.cursor.look(queue.now)
    queue.now += 1
    queue.looks(2, priority=0)
    queue.cursor.found(late, [job(9, priority=5)], 1, queue.now)
    assert queue.looks(3).after == position_of(job(2))


def test_of_looks_at_once_the_farthest_counts(queue: Queue):
    queue.looks(1)
    looks = [queue.cursor.look(queue.now) for _ in range(2)]
    queue.cursor.found(looks[1], [job(5)], 1, queue.now)
    queue.cursor.found(looks[0], [job(3)], 1, queue.now)
    assert queue.looks(6).after == position_of(job(5))


def test_finding_nothing_leaves_the_position_as_it_was(queue: Queue):
    queue.looks(1)
    queue.now += 1
    queue.looks(took=0.1)
    assert queue.looks().after == position_of(job(1))
