"""What should become of jobs, as a few plain rules to hold engines against; it knows no database."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
FINAL = ("completed", "discarded", "cancelled")
RESCUES_ALLOWED = 5
UNFINISHED = ("suspended", "available", "scheduled", "executing", "retryable")


@dataclass(frozen=True)
class Rule:
    """When a job keeps others with its key out: in which states, and for how long since when."""

    states: tuple[str, ...]
    period: timedelta | None = None
    since: Literal["inserted_at", "scheduled_at"] = "inserted_at"
    is_strict: bool = True


MINUTE = timedelta(minutes=1)
RULES = {
    "never again": Rule((*UNFINISHED, "completed")),
    "until it ends": Rule(UNFINISHED),
    "once a minute": Rule((*UNFINISHED, "completed"), MINUTE, is_strict=False),
    "near in time": Rule(UNFINISHED, MINUTE, "scheduled_at", is_strict=False),
    "until it starts": Rule(("scheduled",), is_strict=False),
}


@dataclass
class Expected:
    """A job as it should be."""

    id: int
    queue: str
    priority: int
    max_attempts: int
    due: datetime
    state: str = "available"
    attempt: int = 0
    take: int = 0
    producer: str | None = None
    taken_at: datetime | None = None
    ended_at: datetime | None = None
    failures: list[tuple[int, str]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    inserted_at: datetime | None = None

    @property
    def position(self) -> tuple[int, datetime, int]:
        """Where it stands in the order in which jobs are taken."""
        return self.priority, self.due, self.id

    def is_held(self, producer: str, take: int) -> bool:
        """Whether this is still the running attempt of that producer, the only one that may say a word."""
        return self.state == "executing" and self.producer == producer and self.take == take

    def end(self, state: str, now: datetime) -> None:
        self.state, self.ended_at = state, now

    def give_attempt_back(self) -> None:
        self.attempt = max(self.attempt - 1, 0)

    def count(self, what: str) -> int:
        self.meta[what] = self.meta.get(what, 0) + 1
        return int(self.meta[what])


class Model:
    """Jobs by id, producers with their heartbeats, and what the time is."""

    def __init__(self) -> None:
        self.now = NOON
        self.jobs: dict[int, Expected] = {}
        self.beats: dict[str, int] = {}
        self.dead: set[str] = set()
        self.claims: dict[str, int] = {}

    def among(self, ids: Iterable[int]) -> list[Expected]:
        """Those of the jobs that are still there, by id."""
        return [self.jobs[each] for each in sorted(set(ids)) if each in self.jobs]

    def executing(self) -> list[Expected]:
        return [job for job in self.jobs.values() if job.state == "executing"]

    # What enters and waits

    def insert(self, job: Expected) -> None:
        job.state = "scheduled" if job.due > self.now else "available"
        job.inserted_at = self.now
        self.jobs[job.id] = job
        self.claim(job)

    def claim(self, job: Expected) -> None:
        if job.key is not None:
            self.claims[job.key] = job.id

    def keys_held(self) -> dict[str, int]:
        return {key: job_id for key, job_id in self.claims.items() if job_id in self.jobs}

    def in_the_way(self, key: str | None, batch: set[int]) -> Expected | None:
        """Find the job that keeps another one with its key out; one of the same batch always does."""
        if key is None or key not in self.keys_held():
            return None
        holder, rule = self.jobs[self.claims[key]], RULES[key]
        since = holder.inserted_at if rule.since == "inserted_at" else holder.due
        is_recent = rule.period is None or (since is not None and since >= self.now - rule.period)
        return holder if holder.id in batch or (holder.state in rule.states and is_recent) else None

    def replace(self, holder: Expected, what: str, *, priority: int, due: datetime) -> None:
        if what == "priority":
            holder.priority = priority
        elif what == "time" and holder.state == "scheduled":
            holder.due = due

    def stage(self, limit: int) -> dict[str, int]:
        waiting = [job for job in self.jobs.values() if job.state in ("scheduled", "retryable")]
        due = sorted((job for job in waiting if job.due <= self.now), key=lambda job: (job.due, job.id))
        for job in due[:limit]:
            job.state = "available"
        return Counter(job.queue for job in due[:limit])

    # What runs

    def take(
        self, producer: str, queue: str, demand: int, *, after: tuple[int, datetime, int] | None = None
    ) -> list[Expected]:
        if producer in self.dead:
            return []
        waiting = [job for job in self.jobs.values() if (job.state, job.queue) == ("available", queue)]
        waiting = [job for job in waiting if after is None or job.position > after]
        waiting.sort(key=lambda job: job.position)
        for job in waiting[:demand]:
            job.take += 1
            job.producer, job.taken_at = producer, self.now
            if job.attempt == job.max_attempts:
                job.end("discarded", self.now)
            else:
                job.attempt += 1
                job.state = "executing"
        return [job for job in waiting[:demand] if job.state == "executing"]

    def finish(
        self, id: int, take: int, producer: str, outcome: str, *, at: datetime, delay: timedelta
    ) -> None:
        """Write what became of an attempt, if that is still its to say; a plain success counts from now."""
        if not self.holds(id, take, producer):
            return
        job = self.jobs[id]
        match outcome:
            case "completed":
                job.end("completed", self.now)
            case "recorded":
                job.end("completed", at)
                job.meta["recorded"] = take
            case "cancelled":
                job.end("cancelled", at)
                job.failures.append((job.attempt, "because"))
            case "failed":
                job.failures.append((job.attempt, "boom"))
                if job.attempt == job.max_attempts:
                    job.end("discarded", at)
                else:
                    job.state, job.due = "retryable", at + delay
            case "snoozed":
                job.state, job.due = "scheduled", at + delay
                job.give_attempt_back()
                job.count("snoozed")
            case "handed back":
                job.state = "available"
                job.give_attempt_back()

    def holds(self, id: int, take: int, producer: str) -> bool:
        return id in self.jobs and self.jobs[id].is_held(producer, take)

    def progress(self, id: int, take: int, producer: str, current: int) -> None:
        if self.holds(id, take, producer):
            self.jobs[id].meta["progress"] = {"current": current}

    def shows(self, id: int, take: int, producer: str, state: str) -> bool:
        """Whether a job stands as an attempt has left it, so that its outcome was written before."""
        job = self.jobs.get(id)
        return job is not None and (job.state, job.take, job.producer) == (state, take, producer)

    def hand_back_unheld(self, producer: str, held: Sequence[tuple[int, int]]) -> list[int]:
        unheld = [
            job
            for job in self.jobs.values()
            if job.is_held(producer, job.take) and (job.id, job.take) not in held
        ]
        for job in unheld:
            job.state = "available"
            job.give_attempt_back()
        return [job.id for job in unheld]

    # Who lives

    def beat(self, producer: str) -> bool:
        if producer in self.dead:
            return False
        self.beats[producer] += 1
        return True

    def living(self) -> dict[str, int]:
        return {each: beat for each, beat in self.beats.items() if each not in self.dead}

    def expire(self, looked: dict[str, int]) -> set[str]:
        """Take those for dead who have not beaten since somebody looked."""
        silent = {each for each, beat in looked.items() if self.beats[each] == beat} - self.dead
        self.dead |= silent
        return silent

    def orphans(self, limit: int) -> list[int]:
        return sorted(job.id for job in self.executing() if job.producer in self.dead)[:limit]

    def rescue(self, id: int, due: datetime) -> None:
        """Bring an orphan back, to a time that chance has chosen within bounds."""
        job = self.jobs[id]
        rescues = job.count("rescued")
        if rescues >= RESCUES_ALLOWED:
            job.end("discarded", self.now)
            job.failures.append((job.attempt, "orphaned"))
            return
        job.give_attempt_back()
        if rescues == 1:
            job.state = "available"
        else:
            delay = timedelta(seconds=5 * 2 ** (rescues - 2))
            assert delay <= due - self.now <= 2 * delay, (
                f"job {id} comes back {due - self.now} after rescue {rescues}"
            )
            job.state, job.due = "scheduled", due

    # What people do

    def cancel(self, ids: Sequence[int]) -> list[tuple[int, str]]:
        unfinished = [(job, job.state) for job in self.among(ids) if job.state not in FINAL]
        for job, _ in unfinished:
            job.end("cancelled", self.now)
        return [(job.id, was) for job, was in unfinished]

    def retry(self, ids: Sequence[int]) -> list[tuple[int, int, bool]]:
        """Make jobs available unless another one is in the way; answer each with itself or with that one."""
        answers = []
        for job in self.among(ids):
            if job.state in ("available", "executing"):
                continue
            holder = self.in_the_way(job.key, set())
            is_kept_out = holder is not None and holder is not job
            if not is_kept_out:
                job.state, job.due, job.ended_at = "available", self.now, None
                job.max_attempts = max(job.max_attempts, job.attempt + 1)
                self.claim(job)
            answers.append((job.id, holder.id if is_kept_out else job.id, is_kept_out))
        return answers

    def delete(self, ids: Iterable[int]) -> list[int]:
        deleted = [job.id for job in self.among(ids) if job.state != "executing"]
        for each in deleted:
            del self.jobs[each]
        return deleted

    def put_back(self, ids: Sequence[int]) -> None:
        """Do what an operator does in a shell, whatever a worker thinks."""
        for job in self.among(ids):
            job.state = "available"

    def outlived(self, state: str, age: timedelta) -> list[Expected]:
        """List finished jobs older than an age, the oldest first."""
        finished = [job for job in self.jobs.values() if job.state == state and job.ended_at is not None]
        old = [job for job in finished if job.ended_at < self.now - age]
        return sorted(old, key=lambda job: job.ended_at)
