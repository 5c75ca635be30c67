"""Staffa's tables, made and filled with jobs quickly: one is stored by Staffa, the database multiplies it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from bench.databases import Ask, Site
from bench.jobs import Noop
from staffa import Staffa, Worker

COLUMNS = {
    "postgres": "select column_name from information_schema.columns"
    " where table_name = 'oban_jobs' and table_schema = 'public' and is_generated = 'NEVER'",
    "sqlite": "select name from pragma_table_info('oban_jobs')",
}
NUMBERS = {
    "postgres": "generate_series(1, {count}) as number",
    "sqlite": "(with recursive numbers(number) as"
    " (select 1 union all select number + 1 from numbers where number < {count}) select number from numbers)",
}
FINISHED = (
    "update oban_jobs set state = 'completed', completed_at = scheduled_at, attempted_at = scheduled_at,"
    " attempt = 1, take = 1"
)
ANALYZE = {"postgres": "vacuum analyze oban_jobs", "sqlite": "analyze oban_jobs"}
LONG_FROM_NOW = timedelta(days=30)

Statistics = Literal["none", "fresh", "stale"]


@dataclass(frozen=True)
class Filling:
    """What tables hold before a measure; stale statistics know finished jobs only, and none that waits."""

    jobs: int = 0
    worker: type[Worker] = Noop
    finished: int = 0
    scheduled: int = 0
    statistics: Statistics = "none"

    @property
    def name(self) -> str:
        """Tell one filling from another."""
        return (
            f"staffa_{self.worker.__name__.lower()}_{self.jobs}_{self.finished}_{self.scheduled}"
            f"_{self.statistics}"
        )

    def make(self, site: Site, url: str) -> None:
        """Make the tables and fill them."""
        staffa = Staffa(url, run_queues=False)
        staffa.migrate()
        with site.asking(url) as ask:
            if self.finished:
                staffa.insert(self.worker.new())
                ask(FINISHED)
                _multiply(ask, site.kind, "completed", self.finished)
            if self.scheduled:
                staffa.insert(self.worker.using(schedule_in=LONG_FROM_NOW).new())
                _multiply(ask, site.kind, "scheduled", self.scheduled)
            if self.statistics == "stale":
                ask(ANALYZE[site.kind])
            if self.jobs:
                staffa.insert(self.worker.new())
                _multiply(ask, site.kind, "available", self.jobs)
            if self.statistics == "fresh":
                ask(ANALYZE[site.kind])
        staffa.close()


def _multiply(ask: Ask, kind: str, state: str, wanted: int) -> None:
    """Copy the one job of a state until there are as many as wanted."""
    columns = ", ".join(name for (name,) in ask(COLUMNS[kind]) if name != "id")
    ask(
        f"insert into oban_jobs ({columns})"
        f" select {columns} from (select * from oban_jobs where state = '{state}' limit 1) as seed"
        f" cross join {NUMBERS[kind].format(count=wanted - 1)} where number < {wanted}"
    )
