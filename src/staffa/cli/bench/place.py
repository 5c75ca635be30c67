"""Where to measure without touching anybody's jobs."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Protocol

from staffa.instance import Staffa

QUEUE = "bench"


class Raw(Protocol):
    """The bare statements on a room's tables."""

    def insert(self, jobs: Mapping[str, str]) -> None:
        """Run the insert statement once, with what it takes, written before."""

    def exchange(self, fences: Sequence[int], demand: int) -> list[tuple[int, int]]:
        """Run the exchange statement once; give id and take of each job taken."""

    def arrival(self, job: Mapping[str, str]) -> tuple[int, int]:
        """Insert one job, hear of it as a worker would, and take it."""


class Room(Protocol):
    """Fresh tables of one measurement."""

    def staffa(self, limit: int, *, runs: bool = True) -> Staffa:
        """Make an instance on these tables."""

    def raw(self) -> AbstractContextManager[Raw]:
        """Open a bare connection to these tables."""


class Bench(Protocol):
    """A database on which rooms can be made."""

    @property
    def hears_across_processes(self) -> bool:
        """Tell whether workers hear at once of jobs that another process stored."""

    def room(self) -> AbstractContextManager[Room]:
        """Make fresh tables; they are gone afterwards."""

    def clear(self) -> None:
        """Drop what an interruption at an odd moment has left of the rooms."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Collect garbage beforehand; end as by Ctrl-C on SIGTERM too, so that rooms are cleared."""
    ended_by: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        ended_by.append(number)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, end)
    try:
        gc.collect()
        yield
    except KeyboardInterrupt:
        raise SystemExit(128 + (ended_by or [signal.SIGINT])[0]) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def in_peace(clear: Callable[[], None]) -> None:
    """Clear up although the person presses Ctrl-C again."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        clear()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
