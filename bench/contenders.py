"""Who is measured beside Staffa: what to install, what to try, and how each one's table shows that work is left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """A peer. `settings` are tried, the best counts; the first is known to be good.

    `unfinished` is SQL from `from` on; `analyzed` ones have fresh statistics, because they are faster with them.
    """

    name: str
    requires: tuple[str, ...]
    database: str
    setting: str
    settings: tuple[int, ...]
    unfinished: str
    python: tuple[int, int] = (3, 11)
    remark: str = ""
    analyzed: bool = False


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
            "oban",
            ("oban==0.7.0",),
            "postgres",
            "limit",
            (200, 500, 50, 100, 20),
            "from oban_jobs where state not in ('completed', 'discarded', 'cancelled')",
            python=(3, 12),
            remark="uvloop; keeps what is done",
        ),
        Contender(
            "procrastinate",
            ("procrastinate==3.10.0",),
            "postgres",
            "concurrency",
            (20, 10, 50),
            "from procrastinate_jobs where status in ('todo', 'doing')",
            remark="keeps what is done; its table is analyzed before it is drained",
            analyzed=True,
        ),
        Contender(
            "chancy",
            ("chancy==0.26.0",),
            "postgres",
            "concurrency",
            (1000, 500, 100),
            "from chancy_jobs where state in ('pending', 'running', 'retrying')",
            remark="async executor, eager polling; records what is done once a second",
        ),
        Contender(
            "awa",
            ("awa-pg==0.6.9",),
            "postgres",
            "workers",
            (200, 50, 500),
            "from awa.ready_entries"
            " having count(*) > (select coalesce(sum(completed_count), 0) from awa.receipt_completion_batches)",
            analyzed=True,
            remark="its core is Rust, its handlers are async Python; its tables are counted, as its view takes minutes",
        ),
        Contender(
            "dbos",
            ("dbos==3.4.0",),
            "postgres",
            "concurrency",
            (100, 20, 500),
            "from dbos.workflow_status where status in ('ENQUEUED', 'PENDING', 'DELAYED')",
            remark="workflows without steps, polled every 50 ms",
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
