"""Steps that programs, producers, plugins, people and bad luck take, in any order, on a database and on the model."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from properties.model import FINAL, RULES, Expected, Model
from staffa import Job, State, Unique, _lifecycle
from staffa._bridge import at_once
from staffa._cursor import Position, position_of
from staffa._filter import JobFilter
from staffa._job import replace
from staffa.engine import Ack, Beat, Engine, Exchanged, ProducerInfo

QUEUES = ("mail", "media")
MOST_JOBS = 60
MOST_PRODUCERS = 4
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
KINDS = ("completed", "completed", "completed", "recorded", "failed", "cancelled", "snoozed", "handed back")

UNIQUE = {
    key: Unique(states=rule.states, period=rule.period, timestamp=rule.since) for key, rule in RULES.items()
}
REPLACEMENTS: dict[str, Any] = {
    "": None,
    "priority": ("priority",),
    "time": {State.SCHEDULED: ("scheduled_at",)},
}

queues = st.sampled_from((*QUEUES[:1] * 3, *QUEUES[1:]))
few = st.integers(1, 4)
limits = st.sampled_from((1, 2, 100))
sometimes = st.sampled_from((False, False, False, True))


@dataclass(frozen=True)
class Wish:
    """A job to be stored; it may have cost some processes their lives already."""

    queue: str
    priority: int
    max_attempts: int
    wait: timedelta
    by_delay: bool
    rescues: int
    key: str | None
    replaces: str

    def job(self, now: datetime) -> Job:
        when: dict[str, Any] = {"scheduled_at": now + self.wait}
        if self.by_delay:
            when = {"schedule_in": self.wait}
        return Job(
            worker="w",
            queue=self.queue,
            priority=self.priority,
            max_attempts=self.max_attempts,
            meta={"rescued": self.rescues} if self.rescues else {},
            unique_key=self.key,
            unique=UNIQUE[self.key] if self.key else None,
            replace=REPLACEMENTS[self.replaces] if self.key else None,
            **when,
        )


wishes = st.builds(
    Wish,
    queue=queues,
    priority=st.integers(0, 2),
    max_attempts=st.integers(1, 3),
    wait=st.sampled_from((0 * SECOND, 0 * SECOND, 0 * SECOND, -SECOND, SECOND, HOUR)),
    by_delay=st.booleans(),
    rescues=st.sampled_from((0, 0, 4)),
    key=st.sampled_from((None, None, None, *RULES)),
    replaces=st.sampled_from(("", "", *REPLACEMENTS)),
)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ends."""

    kind: str
    delay: timedelta


outcomes = st.builds(Outcome, st.sampled_from(KINDS), st.sampled_from((0 * SECOND, SECOND, 60 * SECOND)))
some_outcomes = st.lists(outcomes, max_size=4)


class Finished(NamedTuple):
    """An attempt that ended, as its producer says it, and in the words of the model."""

    ack: Ack
    outcome: Outcome
    at: datetime


@dataclass(eq=False)
class Producer:
    """A queue of a process: what it runs, and what it has not handed in for sure."""

    info: ProducerInfo
    position: Position | None = None
    running: list[Job] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)

    def end(self, outcomes: list[Outcome], now: datetime) -> None:
        """Let the first of what runs end."""
        for job, outcome in zip(self.running, outcomes, strict=False):
            self.finished.append(Finished(Ack(job, became(job, outcome, now)), outcome, now))
        del self.running[: len(outcomes)]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Be short where hypothesis tells the steps of a failure."""
        printer.text(self.info.id)

    def held(self) -> list[Job]:
        return self.running + [each.ack.held for each in self.finished]


@dataclass(frozen=True)
class Ground:
    """A database: an engine's words, SQL as others write it, and a way to empty it."""

    engine: Engine
    sql: Callable[[str], list[tuple[Any, ...]]]
    clear: Callable[[], None]
    looks_behind: bool


busy_producer = st.runner().flatmap(lambda machine: st.sampled_from(machine.busy()))
unsure_producer = st.runner().flatmap(lambda machine: st.sampled_from(machine.unsure()))
some_jobs = st.runner().flatmap(lambda machine: some_of([*3 * machine.executing(), *machine.model.jobs]))
executing_jobs = st.runner().flatmap(lambda machine: some_of(machine.executing()))


def some_of(ids: list[int]) -> st.SearchStrategy[list[int]]:
    return st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True)


class Machine(RuleBasedStateMachine):
    """Does every step twice, on a database and on the model, and compares them after each."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground, self.model = ground, Model()
        self.takes: Counter[tuple[int, int]] = Counter()
        self.producers: list[Producer] = []
        ground.clear()

    def busy(self) -> list[Producer]:
        return [each for each in self.producers if each.running]

    def unsure(self) -> list[Producer]:
        """Those that run something or have something to hand in, else all."""
        return [each for each in self.producers if each.running or each.finished] or self.producers

    def executing(self) -> list[int]:
        return [job.id for job in self.model.executing()]

    def ask(self, word: str, *args: Any, **named: Any) -> Any:
        """Speak a word of the engine."""
        return at_once(getattr(self.ground.engine, word)(*args, **named))

    # Programs

    @initialize(given=st.lists(wishes, min_size=2, max_size=6))
    def two_processes_start_and_some_jobs_wait(self, given: list[Wish]) -> None:
        for queue in QUEUES:
            self._arrive(queue)
        self.insert(given)

    @rule(given=st.lists(wishes, min_size=1, max_size=4))
    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS)
    def insert(self, given: list[Wish]) -> None:
        now = self.model.now
        answers = self.ask("insert", [wish.job(now) for wish in given], now=now)
        note(f"  stored {', '.join(f'job {job.id}' + ' (conflict)' * job.conflict for job in answers)}")
        batch: set[int] = set()
        for wish, job in zip(given, answers, strict=True):
            due = now + wish.wait
            holder = self.model.in_the_way(wish.key, batch)
            assert job.conflict == (holder is not None)
            if holder is not None:
                assert job.id == holder.id, "the answer is the job that was there first"
                self.model.replace(holder, wish.replaces, priority=wish.priority, due=due)
            else:
                assert job.id not in self.model.jobs
                expected = Expected(
                    job.id, wish.queue, wish.priority, wish.max_attempts, due, meta=job.meta, key=wish.key
                )
                self.model.insert(expected)
                batch.add(job.id)

    # Producers

    def _arrive(self, queue: str) -> None:
        number = len(self.model.beats)
        producer = Producer(ProducerInfo(id=f"p{number}", node=f"n{number}", queue=queue, limit=9))
        self.ask("register", [producer.info])
        self.model.beats[producer.info.id] = 0
        self.producers.append(producer)

    @rule(demand=few)
    def everyone_takes(self, demand: int) -> None:
        for producer in self.producers:
            self._exchange(producer, [], demand)

    @rule(demand=few)
    def everyone_takes_what_comes_next(self, demand: int) -> None:
        """Look behind the job that was taken last; what comes before it may be passed over."""
        for producer in self.producers:
            self._exchange(producer, [], demand, after=producer.position)

    @rule(producer=unsure_producer, ended=some_outcomes, demand=few)
    def finish(self, producer: Producer, ended: list[Outcome], demand: int) -> None:
        """Let attempts end, hand in what is finished, take more."""
        self._exchange(producer, ended, demand)

    @rule(ended=some_outcomes, demand=few)
    def everyone_works(self, ended: list[Outcome], demand: int) -> None:
        for producer in self.producers:
            self._exchange(producer, ended, demand)

    @rule(producer=unsure_producer, ended=some_outcomes, demand=few)
    def finish_but_never_hear_the_answer(self, producer: Producer, ended: list[Outcome], demand: int) -> None:
        """Commit an exchange whose answer is lost: what was taken is not known, the rest is handed in again."""
        producer.end(ended, self.model.now)
        self._exchanged(producer, demand)

    def _exchange(
        self, producer: Producer, ended: list[Outcome], demand: int, *, after: Position | None = None
    ) -> None:
        producer.end(ended, self.model.now)
        exchanged = self._exchanged(producer, demand, after=after)
        producer.finished = []
        producer.running += exchanged.taken
        if exchanged.taken:
            producer.position = position_of(exchanged.taken[-1])

    def _exchanged(self, producer: Producer, demand: int, *, after: Position | None = None) -> Exchanged:
        me, queue = producer.info.id, producer.info.queue
        acks = [each.ack for each in producer.finished]
        held = {key(ack.held) for ack in acks if self.model.holds(*key(ack.held), me)}
        for ack, outcome, at in producer.finished:
            self.model.finish(*key(ack.held), me, outcome.kind, at=at, delay=outcome.delay)
        expected = self.model.take(me, queue, demand, after=after if self.ground.looks_behind else None)
        late = {
            key(ack.held)
            for ack in acks
            if key(ack.held) not in held and not self.model.shows(*key(ack.held), me, ack.after.state)
        }

        exchanged = self.ask("exchange", producer.info, acks, demand, after=after, now=self.model.now)

        note(f"  {me} handed in {takes(ack.held for ack in acks)}; late were {sorted(late)}")
        note(f"  {me} took {takes(exchanged.taken)}")
        assert [key(job) for job in exchanged.taken] == [(job.id, job.take) for job in expected]
        assert exchanged.again == []
        assert {key(ack.held) for ack in exchanged.bounced} == late
        self.takes.update(map(key, exchanged.taken))
        return exchanged

    @rule(producer=busy_producer, current=few)
    @precondition(lambda self: self.busy())
    def tell_progress(self, producer: Producer, current: int) -> None:
        self.ask("progress", producer.info, [(job, {"current": current}) for job in producer.running])
        for job in producer.running:
            self.model.progress(*key(job), producer.info.id, current)

    @rule(producer=unsure_producer)
    @precondition(lambda self: self.model.executing())
    def reconcile(self, producer: Producer) -> None:
        """Let a producer agree with the database on which jobs are its own."""
        me, held = producer.info.id, producer.held()
        lost = {key(job) for job in held if not self.model.holds(*key(job), me)}
        unheld = self.model.hand_back_unheld(me, [key(job) for job in held])

        reconciled = self.ask("reconcile", producer.info, held)

        note(f"  {me} handed back jobs {unheld}; it had lost {sorted(lost)}")
        assert sorted(ids(reconciled.handed_back)) == unheld
        assert {key(job) for job in reconciled.lost} == lost
        producer.running = [job for job in producer.running if key(job) not in lost]

    # Life and death

    @rule(queue=queues)
    @precondition(lambda self: len(self.producers) < MOST_PRODUCERS)
    def another_process_starts(self, queue: str) -> None:
        self._arrive(queue)

    @rule(producer=unsure_producer)
    @precondition(lambda self: self.model.executing())
    def crash(self, producer: Producer) -> None:
        """Kill a process; what it ran and had not handed in is forgotten. Another one starts."""
        self._take_for_dead(producer)
        self.producers.remove(producer)
        self._arrive(producer.info.queue)

    @rule(producer=unsure_producer, retires=sometimes)
    @precondition(lambda self: self.model.executing() and len(self.producers) < MOST_PRODUCERS)
    def lose_the_place(self, producer: Producer, retires: bool) -> None:
        """Let a process be taken for dead that lives, or retire; it goes on with what it runs. Another one starts."""
        if retires:
            self.ask("retire", [producer.info.id])
            self.model.dead.add(producer.info.id)
        else:
            self._take_for_dead(producer)
        self._arrive(producer.info.queue)

    def _take_for_dead(self, silent: Producer) -> None:
        """Look at all hearts; all but one beat; then judge by what was seen."""
        seen = {each.id: each.beat for each in self.ask("producers") if not each.expired}
        assert seen == self.model.living()

        beating = [each for each in self.model.beats if each != silent.info.id]
        assert set(self.ask("beat", beating)) == {each for each in beating if self.model.beat(each)}

        dead = set(self.ask("expire", [Beat(*each) for each in seen.items()]))
        assert dead == self.model.expire(seen)

    @rule(limit=limits)
    @precondition(lambda self: self.model.executing())
    def rescue(self, limit: int) -> None:
        orphans = self.model.orphans(limit)
        rescued = self.ask("rescue", limit, now=self.model.now)
        note(f"  brought back jobs {ids(rescued)}")
        assert ids(rescued) == orphans
        for job in rescued:
            self.model.rescue(job.id, job.scheduled_at)

    # Plugins

    @rule(time=st.sampled_from((SECOND, 60 * SECOND, 2 * HOUR)), limit=limits)
    def time_passes(self, time: timedelta, limit: int) -> None:
        self.model.now += time
        assert self.ask("stage", limit, now=self.model.now).queues == self.model.stage(limit)

    @rule(limit=limits, age=st.sampled_from((SECOND, HOUR)))
    @precondition(lambda self: any(job.ended_at for job in self.model.jobs.values()))
    def prune(self, limit: int, age: timedelta) -> None:
        old = {state: self.model.outlived(state, age) for state in FINAL}
        pruned = self.ask("prune", {State(state): age for state in FINAL}, limit, now=self.model.now)
        assert pruned == {state: min(len(jobs), limit) for state, jobs in old.items() if jobs}
        gone = set(self.model.jobs) - set(self._found())
        for jobs in old.values():
            went = [job.ended_at for job in jobs if job.id in gone]
            kept = [job.ended_at for job in jobs if job.id not in gone]
            assert len(went) == min(len(jobs), limit)
            assert not went or not kept or max(went) <= min(kept), "the oldest go first"
        self.model.delete(gone)
        note(f"  pruned jobs {sorted(gone)}")

    @rule(limit=limits)
    def prune_keys(self, limit: int) -> None:
        """Let go of all keys whose jobs are gone, some at a time."""
        after: str | None = ""
        while after is not None:
            after = self.ask("prune_keys", after, limit).last
        assert {key for (key,) in self.ground.sql("select key from staffa_keys")} == set(
            self.model.keys_held()
        )

    # People

    @rule(chosen=some_jobs)
    @precondition(lambda self: self.model.jobs)
    def cancel(self, chosen: list[int]) -> None:
        cancelled = self.ask("cancel", JobFilter(ids=chosen), now=self.model.now)
        assert [(each.job.id, each.was) for each in cancelled] == self.model.cancel(chosen)

    @rule(chosen=some_jobs)
    @precondition(lambda self: self.model.jobs)
    def retry(self, chosen: list[int]) -> None:
        retried = self.ask("retry", JobFilter(ids=chosen), now=self.model.now)
        found = [(each.id, each.job.id, each.job.conflict) for each in retried]
        note(f"  {found}")
        assert found == self.model.retry(chosen)

    @rule(chosen=some_jobs)
    @precondition(lambda self: self.model.jobs)
    def delete(self, chosen: list[int]) -> None:
        assert sorted(self.ask("delete", JobFilter(ids=chosen))) == self.model.delete(chosen)

    @rule(chosen=executing_jobs, ended=some_outcomes)
    @precondition(lambda self: self.model.executing())
    def put_back_by_hand(self, chosen: list[int], ended: list[Outcome]) -> None:
        """Do what an operator does in a shell, whatever a worker thinks: the jobs run twice at once, and end."""
        self.ground.sql(
            f"update oban_jobs set state = 'available' where id in ({', '.join(map(str, chosen))})"
        )
        self.model.put_back(chosen)
        self.everyone_takes(MOST_JOBS)
        self.everyone_works(ended, 1)

    # What must hold after every step

    @invariant()
    def all_agree(self) -> None:
        self._compare_jobs()
        self._compare_keys()
        assert all(times == 1 for times in self.takes.values()), "nothing is taken twice under one take"

    def _compare_jobs(self) -> None:
        found = self._found()
        assert sorted(found) == sorted(self.model.jobs), "no job is lost or doubled"
        wrong = [
            f"job {job.id}: {name} is {getattr(found[job.id], name)!r}, not {value!r}"
            for job in self.model.jobs.values()
            if found[job.id] != job
            for name, value in vars(job).items()
            if getattr(found[job.id], name) != value
        ]
        assert not wrong, "; ".join(wrong)
        assert all(0 <= job.attempt <= job.max_attempts for job in found.values())

    def _compare_keys(self) -> None:
        """Whoever claimed a key last holds it; for some rules that means one living job for each key."""
        held = {
            key: job_id
            for key, job_id in self.ground.sql("select key, job_id from staffa_keys")
            if job_id in self.model.jobs
        }
        assert held == self.model.keys_held()
        for key, unique in RULES.items():
            living = [
                job.id for job in self.model.jobs.values() if job.key == key and job.state in unique.states
            ]
            assert not unique.is_strict or len(living) <= 1, f"jobs {living} share the key {key!r}"

    def _found(self) -> dict[int, Expected]:
        return {job.id: seen(job) for job in self.ask("jobs", JobFilter(limit=10_000))}


def seen(job: Job) -> Expected:
    """Look at a stored job as the model looks at its own."""
    return Expected(
        id=job.id,
        queue=job.queue,
        priority=job.priority,
        max_attempts=job.max_attempts,
        due=job.scheduled_at,
        state=str(job.state),
        attempt=job.attempt,
        take=job.take,
        producer=job.attempted_by[1] if job.attempted_by else None,
        taken_at=job.attempted_at,
        ended_at=ended_at(job),
        failures=[(each["attempt"], each["error"].partition(" ")[0]) for each in job.errors],
        meta=job.meta,
        key=job.unique_key,
        inserted_at=job.inserted_at,
    )


def ended_at(job: Job) -> datetime | None:
    """Tell when a job ended: finished ones say so in the column of their state, others in none."""
    instants = {
        State.COMPLETED: job.completed_at,
        State.DISCARDED: job.discarded_at,
        State.CANCELLED: job.cancelled_at,
    }
    assert [state for state, instant in instants.items() if instant] == [job.state] * (
        str(job.state) in FINAL
    )
    return instants.get(job.state)


def became(job: Job, outcome: Outcome, now: datetime) -> Job:
    """Make of a job what a producer would make of it."""
    match outcome.kind:
        case "recorded":
            return replace(_lifecycle.completed(job, now), meta={**job.meta, "recorded": job.take})
        case "failed":
            return _lifecycle.failed(job, now, "boom", outcome.delay)
        case "cancelled":
            return _lifecycle.cancelled(job, now, "because")
        case "snoozed":
            return _lifecycle.snoozed(job, now, outcome.delay)
        case "handed back":
            return _lifecycle.handed_back(job)
        case _:
            return _lifecycle.completed(job, now)


def key(job: Job) -> tuple[int, int]:
    """Tell one attempt at a job from the next."""
    return job.id or 0, job.take


def ids(jobs: Iterable[Job]) -> list[int]:
    return [job.id or 0 for job in jobs]


def takes(jobs: Iterable[Job]) -> str:
    return ", ".join(f"job {job.id} (take {job.take})" for job in jobs) or "nothing"
