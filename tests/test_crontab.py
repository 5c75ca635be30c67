"""The crontab of an instance: which entries it has, and that each tick inserts one job."""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from nodes import eventually, finished, quick
from staffa import Cron, Crontab, Job, Staffa, Worker, job
from staffa._bridge import at_once
from staffa.engine import CronTick
from staffa.errors import ConfigError, InvalidCron, InvalidWorker

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Keep the workers of one test from the next."""
    monkeypatch.setattr("staffa.worker._registry._workers", {})


class Clock:
    """A crontab whose time a test tells."""

    def __init__(self, staffa, **options):
        self.staffa, self.crontab = staffa, Crontab(**options)
        self.crontab.begin(staffa.crontab)

    async def at(self, now):
        """Tick, and give the ticks whose jobs were inserted."""
        before = await self.inserted()
        report = await self.crontab.tick(self.staffa.engine, now=now)
        after = (await self.inserted())[len(before) :]
        assert report["inserted"] == len(after)
        return after

    async def inserted(self):
        jobs = await self.staffa.ajobs(limit=10_000)
        return [each.meta["cron_at"][11:19] for each in reversed(jobs)]


@pytest.fixture
def clock(make):
    def clock_of(*entries, **options):
        class W(Worker, cron=list(entries)):
            pass

        return Clock(make(), **options)

    return clock_of


# Ticks


async def test_an_entry_ticks_at_its_minutes_and_not_between(clock):
    every_five = clock("*/5 * * * *")
    assert await every_five.at(NOON) == [], "it becomes known"
    assert await every_five.at(NOON + 4 * MINUTE) == []
    assert await every_five.at(NOON + 5 * MINUTE + SECOND) == ["12:05:00"]
    assert await every_five.at(NOON + 5 * MINUTE + 2 * SECOND) == []
    assert await every_five.at(NOON + 10 * MINUTE) == ["12:10:00"]


async def test_a_job_bears_the_entry_and_its_options(make):
    @job(
        queue="mail",
        cron=Cron("0 13 * * *", args={"to": "a"}, name="mails", priority=3, tags=["x"], max_attempts=2),
    )
    def send(to: str) -> None: ...

    clock = Clock(make(timezone="Europe/Amsterdam"))
    await clock.at(NOON - HOUR)
    assert await clock.at(NOON) == ["12:00:00"]

    [sent] = await clock.staffa.ajobs()
    assert (sent.queue, sent.priority, sent.tags, sent.max_attempts) == ("mail", 3, ["x"], 2)
    assert sent.args == {"to": "a"}
    assert sent.meta == {
        "cron": True,
        "cron_expr": "0 13 * * *",
        "cron_name": "mails",
        "cron_tz": "Europe/Amsterdam",
        "cron_at": "2030-01-01T12:00:00.000000Z",
    }


async def test_a_leader_that_comes_within_two_minutes_loses_no_tick(make, clock):
    first = clock(Cron("* * * * *", catch_up="none"))
    await first.at(NOON + SECOND)
    second = Clock(first.staffa)
    assert await second.at(NOON + 2 * MINUTE + 59 * SECOND) == ["12:01:00", "12:02:00"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("none", []), ("latest", ["15:00:00"]), ("all", ["13:00:00", "14:00:00", "15:00:00"])],
)
async def test_after_a_downtime_the_policy_decides(clock, policy, expected):
    before = clock(Cron("@hourly", catch_up=policy))
    await before.at(NOON)
    after = Clock(before.staffa)
    assert await after.at(NOON + 3 * HOUR + 30 * MINUTE) == expected
    assert await after.at(NOON + 3 * HOUR + 31 * MINUTE) == []
    assert await after.at(NOON + 4 * HOUR) == ["16:00:00"]


async def test_a_process_that_was_blocked_catches_up_as_after_a_downtime(clock):
    blocked = clock(Cron("@hourly", catch_up="all"))
    await blocked.at(NOON)
    assert await blocked.at(NOON + 150 * MINUTE) == ["13:00:00", "14:00:00"]


async def test_a_new_entry_begins_with_its_next_tick(make):
    class Old(Worker, cron="@hourly"):
        pass

    clock = Clock(make())
    await clock.at(NOON - HOUR)

    class New(Worker, cron=Cron("@hourly", catch_up="all", name="new")):
        pass

    clock = Clock(clock.staffa)
    await clock.at(NOON + 30 * SECOND)
    names = [each.meta["cron_name"] for each in await clock.staffa.ajobs()]
    assert "new" not in names
    assert await clock.at(NOON + HOUR) == ["13:00:00", "13:00:00"]


async def test_a_clock_that_is_set_back_inserts_nothing_twice_and_goes_on(clock):
    minutely = clock(Cron("* * * * *", catch_up="all"))
    await minutely.at(NOON - MINUTE)
    assert len(await minutely.at(NOON + 10 * MINUTE)) == 11

    for minute in range(11):
        assert await minutely.at(NOON + minute * MINUTE) == []
    assert await minutely.at(NOON + 11 * MINUTE) == ["12:11:00"]


async def test_a_clock_that_was_far_ahead_for_a_while_does_not_silence_an_entry(clock):
    minutely = clock("* * * * *")
    await minutely.at(NOON)
    await minutely.at(NOON + timedelta(days=400))
    assert await minutely.at(NOON + 3 * MINUTE) == ["12:02:00", "12:03:00"]


class WithClock:
    """An engine whose database has a clock of its own."""

    def __init__(self, engine, now):
        self._engine, self.now = engine, now

    def __getattr__(self, word):
        return getattr(self._engine, word)

    async def clock(self):
        return self.now


async def test_the_time_is_the_databases_whatever_the_clock_of_a_node_says(clock):
    hourly = clock("@hourly")
    database = WithClock(hourly.staffa.engine, NOON - MINUTE)
    await hourly.crontab.tick(database)
    database.now = NOON + SECOND
    assert await hourly.crontab.tick(database) == {"inserted": 1}
    assert await hourly.inserted() == ["12:00:00"]


async def test_ticks_are_remembered_when_their_jobs_are_pruned(clock):
    hourly = clock(Cron("@hourly", catch_up="all"))
    await hourly.at(NOON - HOUR)
    await hourly.at(NOON)
    await hourly.staffa.adelete(*[each.id for each in await hourly.staffa.ajobs()])

    assert await Clock(hourly.staffa).at(NOON + MINUTE) == []


async def test_jittered_jobs_wait_scheduled(clock):
    jittered = clock(Cron("@hourly", jitter=10 * MINUTE))
    await jittered.at(NOON - MINUTE)
    await jittered.at(NOON)

    [waiting] = await jittered.staffa.ajobs()
    assert NOON < waiting.scheduled_at < NOON + 10 * MINUTE
    assert waiting.state == "scheduled"


async def test_an_entry_whose_jobs_the_database_refuses_keeps_no_other_from_its_turn(clock, caplog):
    both = clock(Cron("@hourly", name="bad"), Cron("@hourly", name="good"))
    await both.at(NOON - HOUR)
    bad, good = both.staffa.crontab
    unstorable = Job(worker="w" * 200 if both.staffa.url.startswith("postgres") else None)
    both.crontab.begin([replace(bad, job=unstorable), good])

    assert await both.at(NOON) == ["12:00:00"]
    assert "the jobs of cron entry bad cannot be stored" in caplog.text


async def test_a_unique_worker_does_not_repeat_a_job_that_waits_and_its_ticks_go_on(make):
    class W(Worker, unique=True, cron=Cron("@hourly", name="hourly", catch_up="all")):
        pass

    clock = Clock(make())
    assert await clock.at(NOON - HOUR) == []
    assert await clock.at(NOON) == ["12:00:00"]
    assert await clock.at(NOON + 20 * SECOND) == []
    assert await clock.at(NOON + HOUR) == []
    assert await Clock(clock.staffa).at(NOON + 3 * HOUR + MINUTE) == []

    [waiting] = await clock.staffa.ajobs()
    [mark] = await clock.staffa.engine.cron_marks(["hourly"])
    assert (mark.newest, mark.job_id) == (NOON + 3 * HOUR, waiting.id)

    await clock.staffa.adelete(waiting.id)
    assert await clock.at(NOON + 4 * HOUR) == ["16:00:00"]


# Several leaders


async def test_two_leaders_at_once_insert_each_tick_once(make):
    class W(Worker, cron=[Cron("* * * * *", catch_up="all", name=f"entry {n}") for n in range(4)]):
        pass

    one, other = make(node="one"), make(node="other")
    clocks = [Clock(one), Clock(other), Clock(one), Clock(other)]
    async with one, other:
        for minute in range(15):
            now = NOON + minute * MINUTE + 7 * SECOND
            await asyncio.gather(*(clock.crontab.tick(clock.staffa.engine, now=now) for clock in clocks))
        jobs = [each for each in await one.ajobs(limit=1000) if each.meta["cron_at"].startswith("2030")]

    counted = Counter((each.meta["cron_name"], each.meta["cron_at"]) for each in jobs)
    assert set(counted.values()) == {1}
    assert len(counted) == 4 * 14


async def test_two_leaders_that_come_back_insert_what_was_missed_once(make):
    class W(Worker, cron=[Cron("*/2 * * * *", catch_up="all", name=f"entry {n}") for n in range(4)]):
        pass

    one, other = make(node="one"), make(node="other")
    await Clock(one).at(NOON)
    later = NOON + 2 * HOUR
    clocks = [Clock(each) for each in (one, other, one, other)]
    reports = await asyncio.gather(*(each.crontab.tick(each.staffa.engine, now=later) for each in clocks))

    assert sum(report["inserted"] for report in reports) == 4 * 60
    jobs = await one.ajobs(limit=1000)
    assert len({(each.meta["cron_name"], each.meta["cron_at"]) for each in jobs}) == len(jobs) == 4 * 60


# @reboot


@pytest.fixture
def passing(monkeypatch):
    """Let time pass for processes that run."""
    gone = [1_000.0]
    monkeypatch.setattr("staffa.plugins.cron.time.monotonic", lambda: gone[0])

    def passed(length):
        gone[0] += length.total_seconds()
        return NOON + timedelta(seconds=gone[0] - 1_000)

    return passed


async def test_an_entry_of_reboot_that_cannot_be_stored_keeps_no_other_from_its_turn(clock, passing, caplog):
    all_three = clock(
        Cron("@reboot", name="bad"), Cron("@reboot", name="good"), Cron("@hourly", name="timed")
    )
    bad, good, timed = all_three.staffa.crontab
    unstorable = Job(worker="w" * 200 if all_three.staffa.url.startswith("postgres") else None)
    all_three.crontab.begin([replace(bad, job=unstorable), good, timed])

    assert await all_three.at(passing(SECOND)) == ["12:00:01"]
    assert "the jobs of cron entry bad cannot be stored" in caplog.text
    assert [mark.entry for mark in await all_three.staffa.engine.cron_marks(["timed"])] == ["timed"]


async def test_reboot_inserts_one_job_for_two_leaders_that_start_together(clock, passing):
    one = clock("@reboot")
    clocks = [one, *(Clock(one.staffa) for _ in range(5))]
    now = passing(SECOND)
    await asyncio.gather(*(each.crontab.tick(each.staffa.engine, now=now) for each in clocks))

    assert await one.inserted() == ["12:00:01"]


async def test_reboot_inserts_nothing_when_the_lead_passes_on(clock, passing):
    first = clock("@reboot")
    assert await first.at(passing(SECOND)) == ["12:00:01"]
    second = Clock(first.staffa)
    assert await first.at(passing(HOUR)) == []
    assert await second.at(passing(MINUTE)) == [], "a leader was seen after it had started"


async def test_reboot_inserts_again_when_what_leads_started_after_all_that_led(clock, passing):
    first = clock("@reboot")
    await first.at(passing(SECOND))
    await first.at(passing(HOUR))

    passing(SECOND)
    restarted = Clock(first.staffa)
    assert await restarted.at(passing(10 * SECOND)) == ["13:00:12"]
    assert await restarted.at(passing(10 * SECOND)) == []


# Which entries there are


async def test_entries_of_workers_and_of_the_instance_are_listed(make):
    @job(cron=["0 6 * * *", Cron("@weekly", name="weekly", timezone="Asia/Kolkata")])
    def report() -> None: ...

    class Cleanup(Worker, name="app.Cleanup"):
        pass

    @job(name="app.mail")
    def mail(to: str) -> None: ...

    configured = [
        Cron("@daily", worker="app.Cleanup"),
        Cron("@hourly", worker=mail, args={"to": "a"}),
        Cron("@daily", worker=Cleanup, args={"deep": True}, timezone="Europe/Amsterdam"),
    ]
    found = make(cron=configured, timezone="Europe/Paris").crontab

    name = report.worker.options.name
    assert [(each.name, each.timezone) for each in found] == [
        (f"{name} 0 6 * * * Europe/Paris", "Europe/Paris"),
        ("weekly", "Asia/Kolkata"),
        ("app.Cleanup @daily Europe/Paris", "Europe/Paris"),
        ('app.mail @hourly Europe/Paris {"to":"a"}', "Europe/Paris"),
        ('app.Cleanup @daily Europe/Amsterdam {"deep":true}', "Europe/Amsterdam"),
    ]
    assert found[0].next_runs(2, NOON) == [NOON + 17 * HOUR, NOON + 41 * HOUR]


def test_a_subclass_does_not_repeat_the_entries_of_its_base(make):
    class Base(Worker, cron="@daily"):
        pass

    class Sub(Base):
        pass

    assert [each.job.worker for each in make().crontab] == [Base.options.name]


def test_a_worker_with_aliases_has_its_entries_once(make):
    class W(Worker, cron="@daily", aliases=["old.W"]):
        pass

    assert len(make().crontab) == 1


def test_entries_of_workers_belong_to_the_default_instance(make):
    class W(Worker, cron="@daily"):
        pass

    chosen, other = make(default=True), make(cron=[Cron("@hourly", worker=W)])
    assert [each.cron.expression for each in chosen.crontab] == ["@daily"]
    assert [each.cron.expression for each in other.crontab] == ["@hourly"]


@dataclass
class Args:
    id: int


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        (Cron("@daily", name="n"), "entry 'n' has no worker"),
        (Cron("@daily", worker=5), "has no worker"),
        (Cron("@daily", worker="app.Typd"), "unknown worker 'app.Typd'; did you mean 'app.Typed'"),
        (Cron("@daily", worker="app.Typed"), "entry '@daily' of app.Typed: .*id"),
        (Cron("@daily", worker="app.Typed", args={"id": "x"}), "of app.Typed: .*int"),
        (Cron("@daily", worker="app.Typed", args={"id": 1, "no": 1}), "it has no no"),
        (Cron("@daily", worker="app.plain", args={"other": 1}), "of app.plain: .*other"),
        (Cron("@daily", worker="app.plain", priority=77), "of app.plain: priority"),
        (Cron("@daily", worker="app.plain", queue=""), "of app.plain: queue"),
        (Cron("@daily", worker="app.plain", tags="urgent"), "of app.plain: tags"),
        (Cron("@daily", worker="app.Any", args={"x": "y" * 300}), "too long to be part of its name"),
    ],
)
async def test_a_wrong_entry_is_refused_at_start_by_name(make, cron, said):
    class Typed(Worker, name="app.Typed", args=Args):
        pass

    class Any(Worker, name="app.Any"):
        pass

    @job(name="app.plain")
    def plain() -> None: ...

    staffa = make(cron=[cron])
    with pytest.raises(InvalidCron, match=said):
        await staffa.start()
    assert not staffa.leads


async def test_two_entries_of_one_name_are_refused(make):
    class W(Worker, cron=["@daily", "@daily"]):
        pass

    with pytest.raises(InvalidCron, match="two cron entries are named"):
        await make().start()


@pytest.mark.parametrize("cron", ["0 25 * * *", ["@daily", "nonsense"], 5, Cron("@daily", worker="other")])
def test_a_worker_with_a_wrong_entry_is_refused_where_it_is_declared(cron):
    with pytest.raises(InvalidWorker, match="W: cron: "):

        class W(Worker, cron=cron):
            pass


def test_wrong_options_of_the_instance_are_refused(make):
    with pytest.raises(ConfigError, match="timezone"):
        make(timezone="Mars/Phobos")
    with pytest.raises(ConfigError, match="grace"):
        Crontab(grace=-SECOND)
    with pytest.raises(ConfigError, match="window"):
        Crontab(window=5)


def test_an_instance_that_runs_nothing_does_not_mind_entries_of_workers_it_does_not_know(url):
    with_unknown = Staffa(url, run_queues=False, cron=[Cron("@daily", worker="elsewhere.W")])

    async def starts():
        async with with_unknown:
            pass

    asyncio.run(starts())
    with_unknown.close()


# All together


async def test_a_running_instance_inserts_and_runs_what_is_due(url):
    ran = []

    @job(cron=Cron("* * * * *", catch_up="all", name="minutely"))
    async def note() -> None:
        ran.append(1)

    staffa = quick(url, plugins=[Crontab(interval=timedelta(seconds=0.05))])
    now = await staffa.engine.clock()
    await staffa.engine.record_ticks([CronTick("minutely", now - 10 * MINUTE, None)])
    async with staffa:
        await eventually(lambda: len(ran) >= 9)
        jobs = await finished(staffa, await staffa.ajobs())
    assert {each.state for each in jobs} == {"completed"}
    assert len({each.meta["cron_at"] for each in jobs}) == len(jobs) in (10, 11)
    staffa.close()


def test_inline_instances_tick_nothing(url):
    class W(Worker, cron=["@daily", "@reboot"]):
        pass

    staffa = Staffa(url, testing="inline")
    crontab = Crontab()
    crontab.begin(staffa.crontab)
    assert at_once(crontab.tick(staffa.plain_engine)) == {"inserted": 0}
    staffa.close()
