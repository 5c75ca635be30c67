"""What the SQL engine needs of a database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from staffa.engine import Reindexed
from staffa.engines._sql.session import Session
from staffa.errors import UnsupportedConnection

T = TypeVar("T")


class Connection(Protocol):
    """A database, as narrow as the engine needs it: it gives each word a session."""

    looks_first: bool = False
    """Whether a look costs less than a word that finds nothing to write."""

    def write(self, body: Callable[[Session], Coroutine[Any, Any, T]]) -> Awaitable[T]: ...

    def exchange(self, body: Callable[[Session], Coroutine[Any, Any, T]], acks: int) -> Awaitable[T]:  # noqa: ARG002 - for who minds
        """Write what hands in so many acks and takes jobs, whose statements may each stand alone."""
        return self.write(body)

    def read(self, body: Callable[[Session], Coroutine[Any, Any, T]]) -> Awaitable[T]: ...

    def reindex(self, indexes: Sequence[str], within: timedelta) -> Awaitable[Reindexed]: ...


class InsideTransaction(Connection):
    """What a connection cannot do that is in a caller's transaction."""

    async def reindex(self, *_: object) -> Reindexed:
        raise UnsupportedConnection("indexes cannot be rebuilt inside a transaction")
