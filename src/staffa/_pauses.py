"""Which queues pause where: the newest word about a queue and a node counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

EVERY = "*"
ANYWHERE = ""


class Pause(NamedTuple):
    """A word about a queue, or `EVERY` one, on a node, or `ANYWHERE`. Words are numbered as they were said."""

    number: int
    queue: str
    node: str
    paused: bool


def newest(pauses: Iterable[Pause], queue: str, node: str) -> Pause | None:
    """Find the newest word that speaks of a queue on a node."""
    about = [each for each in pauses if each.queue in (queue, EVERY) and each.node in (node, ANYWHERE)]
    return max(about, default=None)
