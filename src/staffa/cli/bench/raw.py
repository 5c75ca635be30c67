"""What the database could do: the statements that Staffa uses, in bare loops without Python work per job."""

from __future__ import annotations

import time
from collections.abc import Mapping

from staffa._job import Job
from staffa.cli.bench.place import QUEUE, Bench, Raw
from staffa.engines._sql.rows import fenced, new_rows
from staffa.errors import StaffaError

PAUSE_SECONDS = 0.005
WARM_UP_SAMPLES = 20


def raw_throughput(place: Bench, jobs: int, *, batch: int) -> tuple[float, float]:
    """Store and take jobs; give both rates per second."""
    payloads = [_payload(first, min(batch, jobs - first)) for first in range(0, jobs, batch)]
    with place.room() as room, room.raw() as raw:
        began = time.perf_counter()
        for payload in payloads:
            raw.insert(payload)
        inserted = time.perf_counter() - began

        began = time.perf_counter()
        drained_jobs = _drain(raw, batch)
        drained = time.perf_counter() - began
    if drained_jobs != jobs:
        raise StaffaError(f"the measurement went wrong: of {jobs} jobs, {drained_jobs} were taken")
    return jobs / inserted, jobs / drained


def raw_latencies(place: Bench, samples: int) -> list[float]:
    """Give the seconds from inserting to taking of single jobs."""
    found = []
    with place.room() as room, room.raw() as raw:
        for number in range(WARM_UP_SAMPLES + samples):
            payload = _payload(number, 1)
            began = time.perf_counter()
            job_id, take = raw.arrival(payload)
            found.append(time.perf_counter() - began)
            raw.exchange([fenced(job_id, take)], 0)
            time.sleep(PAUSE_SECONDS)
    return found[WARM_UP_SAMPLES:]


def _drain(raw: Raw, batch: int) -> int:
    """Record the batch before and take the next in one statement, until nothing is left."""
    total = 0
    fences: list[int] = []
    while taken := raw.exchange(fences, batch):
        total += len(taken)
        fences = [fenced(each, take) for each, take in taken]
    return total


def _payload(first: int, size: int) -> Mapping[str, str]:
    """Write jobs as the insert statement takes them."""
    given, _ = new_rows(
        [
            Job(args={"number": number}, queue=QUEUE, worker="staffa.bench.noop")
            for number in range(first, first + size)
        ]
    )
    return given
