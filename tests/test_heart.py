"""What the heartbeat tells of an outage."""

import logging
import threading
from contextlib import contextmanager
from datetime import timedelta

from nodes import eventually
from staffa._heart import Heart
from staffa.errors import DatabaseUnavailable
from staffa.telemetry import Telemetry


class FlakyDatabase:
    """A database that is away until it is told to be back."""

    def __init__(self) -> None:
        self.tries, self.beats, self.back = 0, 0, threading.Event()

    @contextmanager
    def alone(self):
        self.tries += 1
        if not self.back.is_set():
            raise DatabaseUnavailable("nobody answers")
        yield self

    async def beat(self, producers):
        self.beats += 1
        return producers


async def test_an_outage_is_told_once_and_so_is_its_end(caplog):
    caplog.set_level(logging.INFO, "staffa")
    database = FlakyDatabase()
    heart = Heart(
        database,
        telemetry=Telemetry(),
        producers=lambda: ["mailers"],
        expired=lambda _: None,
        interval=timedelta(milliseconds=1),
        stuck_after=timedelta(minutes=1),
    )
    heart.start()
    try:
        await eventually(lambda: database.tries > 3)
        database.back.set()
        await eventually(lambda: database.beats > 3)
    finally:
        heart.stop()

    assert [record.getMessage() for record in caplog.records] == [
        "the heartbeat could not reach the database: nobody answers",
        "the heartbeat reaches the database again",
    ]
