"""See what queues hold, and who runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

import typer

from staffa._bridge import at_once
from staffa._clock import utc_now
from staffa._job import State
from staffa._lifecycle import instant
from staffa.cli.printing import span, tell_json, tell_table
from staffa.cli.settings import Settings, configured
from staffa.config import QueueConfig
from staffa.engine import ProducerInfo

commands = typer.Typer(
    help="See what queues hold, and who runs them.", no_args_is_help=True, rich_markup_mode=None
)

SILENT = timedelta(seconds=30)
ALWAYS_SHOWN = (State.AVAILABLE, State.EXECUTING)


@commands.command("list")
@configured
def show_list(
    settings: Settings, *, json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False
) -> None:
    """List queues and who runs them.

    Each with its limit, its purpose, its jobs by state and the nodes that run it now.

    JSON: {"leader": node or null, "queues": [{"queue", "limit", "purpose", "jobs": {state: number}, "producers":
    [{"id", "node", "limit", "started_at", "beat_at", "expired"}]}]}; limit is null where no configuration here
    names the queue.
    """
    with settings.instance(looks=True) as staffa:
        configured_queues, counts = staffa.queues, staffa.counts()
        producers = staffa.producers()
        leader = at_once(staffa.plain_engine.leader(f"staffa:{staffa.name}"))
    names = sorted({*configured_queues, *counts, *(each.queue for each in producers)})
    running = {name: [each for each in producers if each.queue == name] for name in names}

    if json:
        found = [_object(name, configured_queues.get(name), counts, running[name]) for name in names]
        tell_json({"leader": leader, "queues": found})
        return
    headers = ["QUEUE", "LIMIT", *(state.upper() for state in _states(counts)), "RUNNING ON", "PURPOSE"]
    tell_table(headers, [_row(name, configured_queues.get(name), counts, running[name]) for name in names])
    typer.echo(f"\nLeader: {leader or 'none; nobody runs queues, or a new one is being chosen'}")


def _states(counts: Mapping[str, Mapping[State, int]]) -> list[State]:
    """Choose the columns, so that they fit: states in which there are jobs, and those people ask for."""
    return [
        state for state in State if state in ALWAYS_SHOWN or any(jobs.get(state) for jobs in counts.values())
    ]


def _row(
    name: str,
    configuration: QueueConfig | None,
    counts: Mapping[str, Mapping[State, int]],
    producers: Sequence[ProducerInfo],
) -> list[str]:
    jobs = counts.get(name, {})
    return [
        name,
        "-" if configuration is None else str(configuration.limit),
        *(str(jobs.get(state, 0)) for state in _states(counts)),
        ", ".join(_places(producers, executing=jobs.get(State.EXECUTING, 0))) or "nowhere",
        "" if configuration is None else configuration.purpose,
    ]


def _places(producers: Sequence[ProducerInfo], *, executing: int) -> list[str]:
    """Name nodes; those that stopped only while jobs may still have to come back from them."""
    living = [_place(each) for each in producers if not each.expired]
    stopped = dict.fromkeys(_place(each) for each in producers if each.expired)
    return [*living, *stopped] if executing else living


def _place(producer: ProducerInfo) -> str:
    """Name the node and its limit; warn where it looks dead."""
    where = f"{producer.node} ({producer.limit})"
    if producer.expired:
        return f"{where} has stopped"
    silent = utc_now() - producer.beat_at if producer.beat_at else timedelta(0)
    return f"{where} silent for {span(silent)}" if silent > SILENT else where


def _object(
    name: str,
    configuration: QueueConfig | None,
    counts: Mapping[str, Mapping[State, int]],
    producers: Sequence[ProducerInfo],
) -> dict[str, Any]:
    return {
        "queue": name,
        "limit": None if configuration is None else configuration.limit,
        "purpose": "" if configuration is None else configuration.purpose,
        "jobs": {str(state): counts.get(name, {}).get(state, 0) for state in State},
        "producers": [
            {
                "id": each.id,
                "node": each.node,
                "limit": each.limit,
                "started_at": None if each.started_at is None else instant(each.started_at),
                "beat_at": None if each.beat_at is None else instant(each.beat_at),
                "expired": each.expired,
            }
            for each in producers
        ],
    }
