"""Another testing mode for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from staffa._enqueuer import withdraw
from staffa.config import Testing
from staffa.instance import Staffa
from staffa.testing._shared import runs_inline


@contextmanager
def mode(staffa: Staffa, testing: Testing) -> Iterator[Staffa]:
    """Let workers enqueue in another testing mode inside this block, and give the instance that takes the jobs.

    It holds for this context: this thread, tasks started from it, and the jobs it runs inline. Code that
    names its instance with `using(instance=...)` is not diverted.
    """
    if testing == "manual" and not runs_inline(staffa):
        with staffa.as_default():
            yield staffa
        return

    twin = Staffa(
        staffa.url,
        schema=staffa.schema,
        name=f"{staffa.name} ({testing})",
        node=staffa.node,
        queues=staffa.queues,
        testing=testing,
    )
    withdraw(twin)
    try:
        with twin.as_default():
            yield twin
    finally:
        twin.close()
