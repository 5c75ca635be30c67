"""What happens, told as it happens: event types, and who listens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from staffa._job import AnyJob

logger = logging.getLogger("staffa")


@dataclass(frozen=True, slots=True)
class JobStarted:
    """An attempt begins."""

    job: AnyJob


@dataclass(frozen=True, slots=True)
class JobStopped:
    """An attempt ended; `job` is what the job became, `error` what was raised, if anything was."""

    job: AnyJob
    took: timedelta
    waited: timedelta
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class JobBounced:
    """The outcome of an attempt was not recorded, because the job was no longer its to decide."""

    job: AnyJob


@dataclass(frozen=True, slots=True)
class ExchangeFailed:
    """A queue could not reach the database; it tries again by itself."""

    queue: str
    error: Exception


@dataclass(frozen=True, slots=True)
class ProducerExpired:
    """Others took this queue's producer for dead and its jobs back; it goes on under a new id."""

    queue: str
    producer: str


@dataclass(frozen=True, slots=True)
class LoopStuck:
    """The event loop has not answered for so long; `stacks` shows every thread."""

    silent: timedelta
    stacks: str


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """This node began or ceased to lead."""

    leads: bool


@dataclass(frozen=True, slots=True)
class PluginTicked:
    """A plugin did its work; `report` holds what it counted."""

    plugin: str
    took: timedelta
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PluginFailed:
    """A plugin raised; it ticks again at its next turn."""

    plugin: str
    error: Exception


Event = (
    JobStarted
    | JobStopped
    | JobBounced
    | ExchangeFailed
    | ProducerExpired
    | LoopStuck
    | LeaderChanged
    | PluginTicked
    | PluginFailed
)
Listener = Callable[[Event], None]


class Telemetry:
    """Hands each event to every listener of one instance. A listener's error is logged, never raised."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()

    @property
    def heard(self) -> bool:
        """Tell whether anybody listens; events of every single job are made only then."""
        return bool(self._listeners)

    def attach(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; the answer detaches it."""
        self._listeners = (*self._listeners, listener)

        def detach() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return detach

    def emit(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                logger.exception("a telemetry listener failed on %s", type(event).__name__)
