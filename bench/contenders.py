"""Who is measured beside Staffa: what to install, what to try, and how each one's table shows that work is left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """A peer. `settings` are tried, the best counts; the first is known to be good.

    `unfinished` is SQL from `from` on.
    """

    name: str
    requires: tuple[str, ...]
    database: str
    setting: str
    settings: tuple[int, ...]
    unfinished: str
    python: tuple[int, int] = (3, 11)
    remark: str = ""


CONTENDERS = {
    each.name: each
    for each in (
        Contender(
            "pgqueuer",
            ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
            "postgres",
            "batch size",
            (1000, 500, 250, 100),
            "from pgqueuer where status in ('queued', 'picked')",
            remark="asyncpg on uvloop; deletes what is done",
        ),
        Contender(
            "huey",
            ("huey==3.5.4",),
            "sqlite",
            "threads",
            (1, 4),
            "from task",
            remark="deletes a job before it runs; no bulk insert; its default durability",
        ),
    )
}
