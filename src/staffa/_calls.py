"""How callers without and with an event loop reach an engine, in a transaction of their own or of the engine's."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Coroutine
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from staffa._bridge import WouldWait, at_once, refuse_inside_loop
from staffa.engine import Database, Engine
from staffa.errors import UnsupportedConnection

T = TypeVar("T")
Join = Callable[[Any, Database], Engine]
Word = Callable[[Engine], Coroutine[Any, Any, T]]

CONNECTIONS = "staffa.connections"


class Calls(ABC):
    """What every face of an instance is made of: a database, and two ways of calling its words."""

    _database: Database

    def _blocking(self, word: Word[T], called: str, connection: Any = None) -> T:
        """Call a word and wait for it, in the caller's transaction if given one."""
        if connection is not None:
            return self._inside(connection, word, called)
        refuse_inside_loop(called, f"a{called}(...)")
        return at_once(word(self._database.plain))

    async def _awaited(self, word: Word[T], connection: Any = None) -> T:
        """Await a word, in the caller's transaction if given one."""
        return await word(self._database.engine if connection is None else self._joined(connection))

    def _inside(self, connection: Any, word: Word[T], called: str) -> T:
        try:
            return at_once(word(self._joined(connection)))
        except WouldWait as error:
            raise UnsupportedConnection(
                f"this connection is awaited: use `await a{called}(...)` with it"
            ) from error

    def _joined(self, connection: Any) -> Engine:
        for kind in type(connection).__mro__:
            if (join := _joiner(kind.__module__.partition(".")[0])) is not None:
                return join(connection, self._database)
        return self._database.joined(connection)


@cache
def _joiner(library: str) -> Join | None:
    """Find what joins connections of a library, once: asking for entry points takes milliseconds.

    What asks for them is loaded as late, for it takes as long to load as a tenth of this package.
    """
    for found in import_module("importlib.metadata").entry_points(group=CONNECTIONS, name=library):
        join: Join = found.load()
        return join
    return None
