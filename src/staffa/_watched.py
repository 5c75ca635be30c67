"""Which jobs somebody waits for somewhere, as those know who run jobs here."""

from __future__ import annotations

import time

from staffa.notifier import Payload, naming

REMEMBERED_SECONDS = 30.0  # whoever still waits says so more often
RECENT = 5_000


class Watched:
    """Remembers who is waited for, and what has just ended: the two may come in either order."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._recent: set[int | None] = set()
        self._before: set[int | None] = set()
        self._owed: set[int] = set()

    def watch(self, payload: Payload) -> bool:
        """Hear that somebody waits for jobs; tell whether some of them have ended here already."""
        until = time.monotonic() + REMEMBERED_SECONDS
        for job_id in named(payload):
            self._until[job_id] = until
            if job_id in self._recent or job_id in self._before:
                self._owed.add(job_id)
        return bool(self._owed)

    def ended(self, ids: set[int | None]) -> None:
        """Hear that outcomes were written; nobody asks the database for it."""
        if len(self._recent) > RECENT:
            self._before, self._recent = self._recent, set()
        self._recent |= ids
        self._owed |= self._until.keys() & ids

    def owed(self) -> list[Payload]:
        """Return what is to be told to those who wait, once."""
        if not self._owed:
            return []
        owed, self._owed = self._owed, set()
        now = time.monotonic()
        self._until = {
            job_id: until for job_id, until in self._until.items() if until > now and job_id not in owed
        }
        return naming(owed)


def named(payload: Payload) -> list[int]:
    """Read the jobs that a payload names; whatever else it holds is ignored."""
    ids = payload.get("job_ids")
    return [each for each in ids if type(each) is int] if isinstance(ids, list) else []
