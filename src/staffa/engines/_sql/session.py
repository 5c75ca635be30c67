"""What a statement needs of the connection it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from staffa._job import AnyJob
from staffa.engines._sql.rows import Row
from staffa.engines._sql.statements import Statement
from staffa.notifier import Payload


class Session(Protocol):
    """One caller's turn at a database: it runs statements, together if asked."""

    @property
    def patience(self) -> str | None:
        """How long PostgreSQL may wait for a lock on a key; None where that is the caller's business."""

    async def run(self, name: Statement, **params: Any) -> list[Row]:
        """Run a statement by its file's name."""

    def together(self) -> AbstractAsyncContextManager[Any]:
        """Make the statements inside one transaction."""

    async def tell(self, channel: str, payloads: Sequence[Payload]) -> None:
        """Tell everyone who listens."""

    def job(self, row: Row) -> AnyJob:
        """Read a job from the columns that every statement lists in the same order."""

    async def exchanged(self, rows: Sequence[Row]) -> tuple[int, list[AnyJob]]:
        """Read what an exchange gave, as its statement gives it here: how many acks were applied, and the jobs.

        Jobs come in the order in which they are to run.
        """
