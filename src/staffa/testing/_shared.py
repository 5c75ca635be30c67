"""What several of the tools for tests do: read what they are given, and list jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from staffa._filter import JobFilter
from staffa._job import AnyJob
from staffa._job_functions import AnyWorker, class_of
from staffa._spelling import hint
from staffa.engine import Engine
from staffa.engines.inline import InlineEngine
from staffa.instance import Staffa
from staffa.worker import Worker

PAGE = 500


def kind_of(worker: AnyWorker) -> type[Worker]:
    """Read a worker that is given by its class or its job function."""
    if (kind := class_of(worker)) is not None:
        return kind
    raise TypeError(f"give a Worker class or a @job function, not {worker!r}")


def runs_inline(staffa: Staffa) -> bool:
    return isinstance(staffa.engine, InlineEngine)


def check_options(called: str, given: Mapping[str, object], known: Any) -> None:
    """Refuse keywords that do not exist, which would otherwise match everything in silence."""
    names = sorted(known.__annotations__)
    for option in given:
        if option not in names:
            raise TypeError(f"{called}() has no option {option!r}; {hint(option, names)}")


async def listed(engine: Engine, wanted: JobFilter) -> list[AnyJob]:
    """List all jobs that pass a filter, page by page."""
    jobs: list[AnyJob] = []
    while page := await engine.jobs(wanted):
        jobs += page
        if len(page) < PAGE:
            break
        wanted = msgspec.structs.replace(wanted, before=page[-1].id)
    return jobs
