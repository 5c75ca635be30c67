"""When entries of the crontab are due, in every zone and whatever was missed."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staffa import Cron, Job
from staffa._cron import CronEntry, Known, Schedule, due, schedule
from staffa.errors import InvalidCron

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GRACE = 2 * MINUTE
AT_TEN = datetime(2030, 1, 1, 10, tzinfo=UTC)

# Zones, each with days in which its clocks are put forward or back.
CHANGES = [
    ("Etc/UTC", (2026, 3, 29)),
    ("Europe/Amsterdam", (2026, 3, 29)),
    ("Europe/Amsterdam", (2026, 10, 25)),
    ("America/New_York", (2026, 3, 8)),
    ("America/New_York", (2026, 11, 1)),
    ("Australia/Lord_Howe", (2026, 4, 5)),  # by half an hour
    ("Australia/Lord_Howe", (2026, 10, 4)),
    ("Pacific/Apia", (2011, 12, 30)),  # a day that never was
    ("America/Sao_Paulo", (2018, 11, 4)),  # a day without its midnight
    ("America/Sao_Paulo", (2018, 2, 17)),  # a midnight that came twice
    ("America/St_Johns", (2011, 3, 13)),  # one minute after midnight
    ("Asia/Kathmandu", (1985, 12, 31)),  # by a quarter of an hour, for good
    ("Africa/Casablanca", (2026, 2, 15)),
]
AT_GIVEN_TIMES = [
    ("0 0 * * *", [0], [0]),
    ("30 2 * * *", [30], [2]),
    ("15,45 1,2 * * *", [15, 45], [1, 2]),
    ("0 0-23 * * *", [0], range(24)),
    ("59 23 * * *", [59], [23]),
]
WHENEVER_SHOWN = [
    ("* * * * *", range(60), range(24)),
    ("*/15 * * * *", range(0, 60, 15), range(24)),
    ("@hourly", [0], range(24)),
    ("30 */2 * * *", [30], range(0, 24, 2)),
    ("*/20 1-2 * * *", range(0, 60, 20), [1, 2]),
    ("* 0 * * *", range(60), [0]),
]


@cache
def days_around(change):
    """All minutes of five days, each with what the wall clock shows then."""
    zone, day = change
    start = datetime(*day, tzinfo=UTC) - 2 * DAY
    minutes = [start + n * MINUTE for n in range(5 * 24 * 60)]
    return minutes, [minute.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) for minute in minutes]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize(("expression", "minutes", "hours"), WHENEVER_SHOWN)
def test_expressions_with_stars_tick_whenever_the_wall_clock_fits(change, expression, minutes, hours):
    instants, walls = days_around(change)
    expected = [
        instant
        for instant, wall in zip(instants, walls, strict=True)
        if wall.minute in minutes and wall.hour in hours
    ]

    found = Schedule(expression, change[0]).between(instants[0] - MINUTE, instants[-1])

    assert found == expected


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize(("expression", "minutes", "hours"), AT_GIVEN_TIMES)
def test_given_times_tick_once_the_skipped_ones_when_the_clock_jumps_and_the_doubled_ones_the_first_time(
    change, expression, minutes, hours
):
    instants, walls = days_around(change)
    first = dict(zip(reversed(walls), reversed(instants), strict=True))
    expected = set()
    days = [walls[0].replace(hour=0, minute=0) + n * DAY for n in range(7)]
    for day, hour, minute in product(days, hours, minutes):
        wall = day.replace(hour=hour, minute=minute)
        if walls[0] <= wall <= walls[-1]:
            expected.add(first.get(wall) or min(at for shown, at in first.items() if shown > wall))

    found = Schedule(expression, change[0]).between(instants[0] - MINUTE, instants[-1])

    assert found == sorted(expected)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_what_is_asked_step_by_step_is_what_is_asked_at_once(change):
    instants, _ = days_around(change)
    for expression in ("15,45 1,2 * * *", "*/20 1-2 * * *", "@hourly"):
        ticks = Schedule(expression, change[0])
        steps = range(0, len(instants) - 331, 331)
        apart = [tick for n in steps for tick in ticks.between(instants[n], instants[n + 331])]
        assert apart == ticks.between(instants[0], instants[steps[-1] + 331]), expression


@settings(deadline=None)
@given(
    zone=st.sampled_from([zone for zone, _ in CHANGES]),
    expression=st.sampled_from([each[0] for each in (*AT_GIVEN_TIMES, *WHENEVER_SHOWN)]),
    after=st.integers(0, 70 * 366 * 24 * 60).map(
        lambda minutes: datetime(1990, 1, 1, tzinfo=UTC) + minutes * MINUTE
    ),
)
def test_ticks_grow_and_come_after_what_was_asked(zone, expression, after):
    ticks = list(islice(Schedule(expression, zone).ticks(after), 30))
    assert [after, *ticks] == sorted({after, *ticks})
    assert len(ticks) == 30


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@yearly", "2031-01-01"),
        ("@annually", "2031-01-01"),
        ("@monthly", "2030-02-01"),
        ("@weekly", "2030-01-06"),
        ("@daily", "2030-01-02"),
        ("@midnight", "2030-01-02"),
        ("@hourly", "2030-01-01 11:00"),
        ("0 0 29 FEB *", "2032-02-29"),
        ("0 0 * jan-mar Mon", "2030-01-07"),
        ("0 0 13 * fri", "2030-01-04"),  # the 13th or a Friday, as in Vixie cron
        ("0 0 */2 * fri", "2030-01-11"),  # with a star, both
        ("0 0 * * 7", "2030-01-06"),
        ("5/20 10 * * *", "2030-01-01 10:05"),
        ("0 0 L * *", "2030-01-31"),
        ("0 0 * * MON#2", "2030-01-14"),
    ],
)
def test_an_expression_says_when(expression, expected):
    first = next(Schedule(expression, "Etc/UTC").ticks(AT_TEN))
    assert first == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("61 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * 32 * *", "bad day-of-month"),
        ("* * * 13 *", "bad month"),
        ("* * * * 8", "bad day-of-week"),
        ("* * * * FOO", "bad day-of-week"),
        ("30-10 * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 31 4 */2", "bad day-of-month"),
        ("* * * *", "4 fields"),
        ("0 * * * * *", "6 fields"),
        ("", "0 fields"),
        ("@dayly", "did you mean '@daily'"),
        ("@every 5m", "known are"),
        (5, "an expression is text"),
        (["@daily"], "an expression is text"),
    ],
)
def test_a_wrong_expression_is_refused_and_says_why(expression, said):
    with pytest.raises(InvalidCron, match=said):
        Cron(expression)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timezone": "Europe/Amsterdan"}, "timezone must be the name"),
        ({"timezone": "Europe"}, "timezone must be the name"),
        ({"timezone": "../etc/passwd"}, "timezone must be the name"),
        ({"timezone": 1}, "timezone must be the name"),
        ({"catch_up": "newest"}, '"none", "latest" or "all"'),
        ({"jitter": 30}, "jitter must be a timedelta"),
        ({"jitter": -MINUTE}, "jitter must be a timedelta"),
        ({"jitter": 2 * DAY}, "one day"),
        ({"args": [1]}, "args must be an object"),
        ({"name": ""}, "an entry's name"),
        ({"name": "a\0b"}, "an entry's name"),
        ({"name": "x" * 300}, "255"),
    ],
)
def test_a_wrong_option_is_refused_and_says_why(options, said):
    with pytest.raises(InvalidCron, match=said):
        Cron("@daily", **options)


# What is due


def entry(expression="*/10 * * * *", **options):
    cron = Cron(expression, **options)
    return CronEntry("e", cron, "Etc/UTC", Job(worker="w"), schedule(expression, "Etc/UTC"))


def judged(now, *, newest, since=AT_TEN - 9 * DAY, window=DAY, **options):
    ticks = due(entry(**options), Known(since, newest), now, grace=GRACE, window=window)
    return [f"{tick:%H:%M}" for tick in ticks]


@pytest.mark.parametrize("policy", ["none", "latest", "all"])
def test_what_comes_to_pass_in_time_is_due_whatever_the_policy(policy):
    for late in (timedelta(0), timedelta(seconds=1), GRACE - timedelta(seconds=1)):
        assert judged(AT_TEN + late, newest=AT_TEN - 10 * MINUTE, catch_up=policy) == ["10:00"]


def test_what_was_missed_is_due_as_the_policy_says():
    now, newest = AT_TEN + 5 * MINUTE, AT_TEN - 40 * MINUTE
    assert judged(now, newest=newest, catch_up="none") == []
    assert judged(now, newest=newest, catch_up="latest") == ["10:00"]
    assert judged(now, newest=newest, catch_up="all") == ["09:30", "09:40", "09:50", "10:00"]


def test_the_latest_is_one_even_where_another_is_in_time():
    assert judged(AT_TEN, newest=AT_TEN - HOUR, catch_up="latest") == ["10:00"]


def test_all_means_all_within_the_window():
    newest = AT_TEN - 30 * DAY
    assert judged(AT_TEN, newest=newest, catch_up="all", window=30 * MINUTE) == ["09:40", "09:50", "10:00"]
    assert len(judged(AT_TEN, newest=newest, catch_up="all")) == 6 * 24


def test_what_was_missed_before_the_window_is_gone_for_good():
    late = AT_TEN + 2 * DAY
    options = {"expression": "0 10 1 1 *", "newest": AT_TEN - 365 * DAY, "since": AT_TEN - 900 * DAY}
    assert judged(late, catch_up="latest", **options) == []
    assert judged(late, catch_up="latest", window=3 * DAY, **options) == ["10:00"]


@pytest.mark.parametrize("policy", ["none", "latest", "all"])
def test_an_entry_has_no_past_before_it_was_known(policy):
    since = AT_TEN + timedelta(seconds=30)
    assert judged(since, newest=since, since=since, catch_up=policy) == []
    assert judged(since + MINUTE, newest=since, since=since, catch_up=policy) == []
    assert judged(since + 10 * MINUTE, newest=since, since=since, catch_up=policy) == ["10:10"]


@pytest.mark.parametrize("policy", ["none", "latest", "all"])
def test_after_a_clock_was_set_back_ticks_come_again_which_were_recorded_already(policy):
    future = AT_TEN + 30 * DAY
    assert judged(AT_TEN, newest=future, catch_up=policy) == ["10:00"]
    assert judged(AT_TEN, newest=future, since=future, catch_up=policy) == ["10:00"]


@settings(deadline=None)
@given(
    looks=st.lists(st.integers(0, 60 * 60 * 3), min_size=1, max_size=30, unique=True).map(sorted),
    expression=st.sampled_from(["* * * * *", "*/7 * * * *", "3 * * * *"]),
)
def test_whenever_one_looks_policy_all_misses_nothing(looks, expression):
    known, seen = Known(AT_TEN, AT_TEN), []
    for seconds in looks:
        now = AT_TEN + timedelta(seconds=seconds)
        new = [
            tick
            for tick in due(entry(expression, catch_up="all"), known, now, grace=GRACE, window=DAY)
            if tick not in seen
        ]
        seen += new
        known = Known(AT_TEN, max([known.newest, *seen]))
    assert seen == schedule(expression, "Etc/UTC").between(AT_TEN, AT_TEN + timedelta(seconds=looks[-1]))


# What is inserted


def test_a_job_says_which_tick_of_which_entry_it_is():
    made = entry("0 6 * * *").job_at(AT_TEN)
    assert made.meta == {
        "cron": True,
        "cron_expr": "0 6 * * *",
        "cron_name": "e",
        "cron_tz": "Etc/UTC",
        "cron_at": "2030-01-01T10:00:00.000000Z",
    }
    assert made.scheduled_at is None


def test_jitter_is_the_same_on_every_node_spreads_and_stays_within_its_length():
    jittered = entry("* * * * *", jitter=HOUR)
    ticks = [AT_TEN + n * MINUTE for n in range(200)]
    delays = [jittered.job_at(tick).scheduled_at - tick for tick in ticks]

    assert [entry("* * * * *", jitter=HOUR).job_at(tick).scheduled_at - tick for tick in ticks] == delays
    assert all(timedelta(0) <= delay < HOUR for delay in delays)
    assert min(delays) < HOUR / 10 < HOUR * 9 / 10 < max(delays)
