"""What nodes tell each other to do, read from payloads that anybody may have written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from staffa._job import LONGEST_NAME
from staffa._pauses import EVERY
from staffa._printable import printable
from staffa.config import LARGEST_INTEGER
from staffa.notifier import Payload

logger = logging.getLogger("staffa")

EVERYONE = "any"
LONGEST_SHOWN = 200


class Action(StrEnum):
    """What is to be done, in Oban's words."""

    PAUSE = "pause"
    RESUME = "resume"
    SCALE = "scale"
    START = "start"
    STOP = "stop"
    KILL = "pkill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What is to be done here. `number` and `take` are ours alone; without them somebody else is speaking."""

    action: Action
    queue: str = EVERY
    limit: int = 0
    paused: bool = False
    job_id: int = 0
    take: int | None = None
    number: int | None = None
    to_everyone: bool = True


def ident(name: str, node: str) -> str:
    """Name a node of a system as Oban does."""
    return f"{name}.{node}"


def understood(payload: Payload, mine: str) -> Signal | None:
    """Read a signal to `mine` or to everyone; None for those to others, and, with a line in the log, for nonsense."""
    try:
        to = _optional(payload, "ident", EVERYONE, _text)
        return _read(payload, to) if to in (EVERYONE, mine) else None
    except ValueError as error:
        shown = printable(repr(dict(payload)))[:LONGEST_SHOWN]
        logger.warning("a signal was ignored, as %s: %s", error, shown)
        return None


def _read(payload: Payload, to: str) -> Signal:
    found: dict[str, Any] = {
        key: _optional(payload, key, default, read) for key, (default, read) in OPTIONAL.items()
    }
    action = _required(payload, "action", _action)
    found |= {key: _required(payload, key, read) for key, read in REQUIRED[action].items()}
    return Signal(action=action, to_everyone=to == EVERYONE, **found)


# What payloads hold


def _required(payload: Payload, key: str, read: Callable[[Any], Any]) -> Any:
    if key not in payload:
        raise ValueError(f"it has no {key}")
    try:
        return read(payload[key])
    except ValueError as error:
        raise ValueError(f"its {key} {error}") from error


def _optional(payload: Payload, key: str, default: Any, read: Callable[[Any], Any]) -> Any:
    return default if payload.get(key) is None else _required(payload, key, read)


def _action(value: object) -> Action:
    try:
        return Action(_text(value))
    except ValueError:
        raise ValueError("is unknown") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")
    return value


def _queue(value: object) -> str:
    if not 0 < len(name := _text(value)) <= LONGEST_NAME:
        raise ValueError(f"has not 1 to {LONGEST_NAME} characters")
    return name


def _one_queue(value: object) -> str:
    if value == EVERY:
        raise ValueError("must be one queue")
    return _queue(value)


def _limit(value: object) -> int:
    if not 0 < (limit := _whole(value)) <= LARGEST_INTEGER:
        raise ValueError(f"is not between 1 and {LARGEST_INTEGER}")
    return limit


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("is no whole number")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


REQUIRED: Mapping[Action, Mapping[str, Callable[[Any], Any]]] = {
    Action.PAUSE: {"queue": _queue},
    Action.RESUME: {"queue": _queue},
    Action.SCALE: {"queue": _one_queue, "limit": _limit},
    Action.START: {"queue": _one_queue, "limit": _limit},
    Action.STOP: {"queue": _one_queue},
    Action.KILL: {"job_id": _whole},
}
OPTIONAL: Mapping[str, tuple[Any, Callable[[Any], Any]]] = {
    "paused": (False, _flag),
    "take": (None, _whole),
    "number": (None, _whole),
}
