"""Which instance takes the jobs that workers enqueue."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from staffa._job import AnyJob
from staffa.errors import NoInstance


class Enqueuer(Protocol):
    """What takes jobs: an instance, as workers see it."""

    @property
    def name(self) -> str: ...

    @property
    def default(self) -> bool: ...

    def insert(self, job: AnyJob, /, *, connection: Any = None) -> AnyJob: ...

    async def ainsert(self, job: AnyJob, /, *, connection: Any = None) -> AnyJob: ...


_instances: list[weakref.ref[Enqueuer]] = []
_preferred: list[Enqueuer] = []
_override: ContextVar[Enqueuer | None] = ContextVar("staffa_instance", default=None)


def offer(instance: Enqueuer) -> None:
    """Let workers enqueue through an instance where no other is named."""
    _instances.append(weakref.ref(instance, _instances.remove))


def withdraw(instance: Enqueuer) -> None:
    """Let workers enqueue through an instance no longer, unless it is named."""
    _instances[:] = [reference for reference in _instances if reference() is not instance]


def prefer(instance: Enqueuer) -> None:
    """Make an instance the default of this whole process."""
    _preferred[:] = [instance]


@contextmanager
def overridden(instance: Enqueuer) -> Iterator[None]:
    """Make an instance the default in this context."""
    token = _override.set(instance)
    try:
        yield
    finally:
        _override.reset(token)


def is_default(instance: Enqueuer) -> bool:
    """Tell whether an instance is the default; where several could be, each is taken for it."""
    try:
        return default_instance() is instance
    except NoInstance:
        return True


def default_instance() -> Enqueuer:
    """Find the instance that takes jobs where none is named. Raises `NoInstance`."""
    for chosen in (_override.get(), *_preferred):
        if chosen is not None:
            return chosen
    living = [instance for reference in tuple(_instances) if (instance := reference()) is not None]
    chosen_ones = [instance for instance in living if instance.default] or living
    if len(chosen_ones) == 1:
        return chosen_ones[0]
    if not living:
        raise NoInstance(
            "there is no Staffa instance to take this job: make one, as in staffa = Staffa('sqlite:///app.db')"
        )
    names = ", ".join(sorted(instance.name for instance in chosen_ones))
    raise NoInstance(
        f"several instances could take this job ({names}): "
        "make one with default=True, or choose with using(instance=...)"
    )
