"""What happens, told as it happens: event types, and who listens."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, overload

from staffa._job import AnyJob

logger = logging.getLogger("staffa")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in one instance. Durations are measured on a clock that nobody sets."""


E = TypeVar("E", bound=Event)
Listener = Callable[[Any], object]


# Instances


@dataclass(frozen=True, slots=True)
class InstanceStarted(Event):
    """An instance runs: its queues take jobs, if it has any."""

    queues: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class InstanceStopped(Event):
    """An instance has stopped; `took` is how long stopping lasted."""

    took: timedelta


# Jobs


@dataclass(frozen=True, slots=True)
class JobStarted(Event):
    """An attempt begins."""

    job: AnyJob


@dataclass(frozen=True, slots=True)
class JobStopped(Event):
    """An attempt ended; `job` is what the job became, `waited` how long it was due before, `error` what was raised."""

    job: AnyJob
    took: timedelta
    waited: timedelta
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class JobBounced(Event):
    """The outcome of an attempt was not recorded, because the job was no longer its to decide."""

    job: AnyJob


# Queues


@dataclass(frozen=True, slots=True)
class QueueStarted(Event):
    """A queue runs on this node."""

    queue: str
    limit: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class QueuePaused(Event):
    """A queue takes no more jobs on this node until it is resumed."""

    queue: str


@dataclass(frozen=True, slots=True)
class QueueResumed(Event):
    """A paused queue takes jobs again on this node."""

    queue: str


@dataclass(frozen=True, slots=True)
class QueueScaled(Event):
    """A queue has another limit on this node."""

    queue: str
    limit: int
    was: int


@dataclass(frozen=True, slots=True)
class QueueStopped(Event):
    """A queue runs on this node no longer; `took` is how long stopping lasted, `orphaned` names jobs still running."""

    queue: str
    took: timedelta
    orphaned: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExchangeFailed(Event):
    """A queue could not reach the database; it tries again by itself."""

    queue: str
    error: Exception


@dataclass(frozen=True, slots=True)
class ProducerExpired(Event):
    """Others took this queue's producer for dead and its jobs back; it goes on under a new id."""

    queue: str
    producer: str


# The engine


@dataclass(frozen=True, slots=True)
class EngineCalled(Event):
    """A word of the engine was called; `given` and `answered` count jobs (or producers, for their words)."""

    word: str
    took: timedelta
    given: int
    answered: int
    error: BaseException | None


# Plugins


@dataclass(frozen=True, slots=True)
class PluginStarted(Event):
    """A plugin begins to tick, on the leader alone if it is the leader's duty."""

    plugin: str
    interval: timedelta


@dataclass(frozen=True, slots=True)
class PluginTicked(Event):
    """A plugin did its work; `report` holds what it counted."""

    plugin: str
    took: timedelta
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PluginFailed(Event):
    """A plugin raised; it ticks again at its next turn."""

    plugin: str
    took: timedelta
    error: Exception


# Leading


@dataclass(frozen=True, slots=True)
class LeaderChanged(Event):
    """This node began or ceased to lead; `member` is its name in the lease."""

    leads: bool
    lease: str
    member: str


@dataclass(frozen=True, slots=True)
class ElectionFailed(Event):
    """This node could not ask for the lease; it asks again by itself, and leads no longer than its lease lasts."""

    lease: str
    member: str
    error: Exception


# Notifications


@dataclass(frozen=True, slots=True)
class NotifierListening(Event):
    """Notifications are heard, for the first time or again."""


@dataclass(frozen=True, slots=True)
class NotifierLost(Event):
    """Notifications are not heard until `NotifierListening` comes; everything goes on, but slower."""

    error: Exception


@dataclass(frozen=True, slots=True)
class NotificationMalformed(Event):
    """A notification could not be read and was ignored."""

    channel: str
    payload: str


# The process


@dataclass(frozen=True, slots=True)
class LoopStuck(Event):
    """The event loop has not answered for so long; `stacks` shows every thread."""

    silent: timedelta
    stacks: str


# Who listens


class Telemetry:
    """Hands events of one instance to those who listen to them. A listener's error is logged, never raised."""

    def __init__(self, instance: str = "Staffa", node: str = "") -> None:
        self.instance, self.node = instance, node
        self._lock = threading.Lock()
        self._audience = _Audience(())

    @overload
    def attach(self, listener: Callable[[Event], object], /) -> Callable[[], None]: ...

    @overload
    def attach(
        self, listener: Callable[[E], object], kind: type[E], /, *types: type[E]
    ) -> Callable[[], None]: ...

    def attach(self, listener: Listener, /, *types: type[Event]) -> Callable[[], None]:
        """Call `listener` with every event of these types, or of all, from now on; the answer detaches it.

        It is called where the event happens, most often on the event loop, so it must not wait. Attaching
        and detaching may be done from any thread. Raises `TypeError` for what is no type of events.
        """
        if not callable(listener):
            raise TypeError(f"a listener is called with each event; {listener!r} cannot be called")
        for kind in types:
            if not (inspect.isclass(kind) and issubclass(kind, Event)):
                raise TypeError(f"{kind!r} is no type of events; staffa.telemetry has them")
        seat = (listener, types or (Event,))
        with self._lock:
            self._audience = _Audience((*self._audience.seats, seat))

        def detach() -> None:
            with self._lock:
                self._audience = _Audience(tuple(each for each in self._audience.seats if each is not seat))

        return detach

    def hears(self, kind: type[Event]) -> bool:
        """Tell whether anybody listens to a type of events; frequent ones are made only then."""
        return bool(self._audience[kind])

    def emit(self, event: Event) -> None:
        """Hand an event to those who listen to its type."""
        for listener in self._audience[type(event)]:
            try:
                listener(event)
            except KeyboardInterrupt:  # which is for the program, not for us
                raise
            except BaseException:
                logger.exception("a telemetry listener failed on %s", type(event).__name__)


class _Audience(dict[type[Event], tuple[Listener, ...]]):
    """Who listens at one moment, by type of event as it is first asked for.

    Replaced when somebody comes or goes, so that nobody is kept waiting by a lock.
    """

    def __init__(self, seats: tuple[tuple[Listener, tuple[type[Event], ...]], ...]) -> None:
        super().__init__()
        self.seats = seats

    def __missing__(self, kind: type[Event]) -> tuple[Listener, ...]:
        heard = self[kind] = tuple(listener for listener, wanted in self.seats if issubclass(kind, wanted))
        return heard


# Words of engines


async def told(telemetry: Telemetry, word: str, given: Sequence[Any], called: Awaitable[T]) -> T:
    """Await a word of an engine; where somebody listens, tell how long it took and how many jobs it was about."""
    if not telemetry.hears(EngineCalled):
        return await called
    began = time.monotonic()
    answer, error = None, None
    try:
        answer = await called
    except BaseException as raised:
        error = raised
        raise
    else:
        return answer
    finally:
        took = timedelta(seconds=time.monotonic() - began)
        sizes = sum(_size(each) for each in given if isinstance(each, list | tuple))
        telemetry.emit(EngineCalled(word, took, sizes, _size(answer), error))


def _size(answer: object) -> int:
    """Count what a word gave back: a list of jobs, jobs counted by state or queue, lists side by side."""
    match answer:
        case bool():
            return 0
        case int():
            return answer
        case Mapping():
            return sum(map(_size, answer.values()))
        case tuple() if hasattr(answer, "_fields"):
            return sum(map(_size, answer))
        case list() | tuple():
            return len(answer)
    return 0
