"""See what queues hold and who runs them, and say what they shall do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from staffa._bridge import at_once
from staffa._clock import utc_now
from staffa._examination import is_silent
from staffa._job import State
from staffa._pauses import ANYWHERE, EVERY, newest
from staffa._peer import lease_of
from staffa._printable import printable
from staffa.cli.printing import AsJson, counted, moment, span, tell_json, tell_table, with_instants
from staffa.cli.settings import DONE_WRONGLY, Settings, configured
from staffa.config import QueueConfig, queue_limits
from staffa.engine import ProducerInfo, QueueCheck
from staffa.errors import ConfigError
from staffa.instance import Staffa

commands = typer.Typer(
    help="See what queues hold and who runs them, and say what they shall do.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")]
Limits = Annotated[list[str], typer.Argument(metavar="NAME:LIMIT...")]
All = Annotated[bool, typer.Option("--all", help="Every queue, those that are yet to come too.")]
Node = Annotated[str | None, typer.Option(metavar="NAME", help="Only on this node.")]

PATIENCE_SECONDS = 8.0  # longer than a heartbeat, by which a lost hint is made good
LOOK_SECONDS = 0.05
FIELDS_OF_A_PRODUCER = ("id", "node", "limit", "paused", "started_at", "beat_at", "expired")
ALWAYS_SHOWN = (State.AVAILABLE, State.EXECUTING)


@commands.command("list")
@configured
def show_list(settings: Settings, *, json: AsJson = False) -> None:
    """List queues and who runs them.

    Each with its limit, its purpose, its jobs by state and the nodes that run it now.

    JSON: {"leader": node or null, "queues": [{"queue", "limit", "purpose", "paused", "jobs": {state: number},
    "producers": [{"id", "node", "limit", "paused", "started_at", "beat_at", "expired"}]}]}; limit is null where no
    configuration here names the queue, paused is what was said to all nodes.
    """
    with settings.instance(looks=True) as staffa:
        configured_queues, counts = staffa.queues, staffa.counts()
        producers = staffa.producers()
        leader = at_once(staffa.plain_engine.leader(lease_of(staffa.name)))
        pauses = at_once(staffa.plain_engine.pauses())
    said = {each.queue for each in pauses} - {EVERY}
    names = sorted({*configured_queues, *counts, *(each.queue for each in producers), *said})
    words = {name: newest(pauses, name, ANYWHERE) for name in names}
    paused = {name: word is not None and word.paused for name, word in words.items()}
    running = {name: [each for each in producers if each.queue == name] for name in names}

    if json:
        found = [
            {**_object(name, configured_queues.get(name), counts, running[name]), "paused": paused[name]}
            for name in names
        ]
        tell_json({"leader": leader, "queues": found})
        return
    headers = ["QUEUE", "LIMIT", *(state.upper() for state in _states(counts)), "RUNNING ON", "PURPOSE"]
    nowhere = {name: "nowhere, paused" if paused[name] else "nowhere" for name in names}
    tell_table(
        headers,
        [
            _row(name, configured_queues.get(name), counts, running[name], nowhere=nowhere[name])
            for name in names
        ],
    )
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
    *,
    nowhere: str,
) -> list[str]:
    jobs = counts.get(name, {})
    return [
        name,
        "-" if configuration is None else str(configuration.limit),
        *(str(jobs.get(state, 0)) for state in _states(counts)),
        ", ".join(_places(producers, executing=jobs.get(State.EXECUTING, 0))) or nowhere,
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
    if producer.paused:
        where = f"{producer.node} ({producer.limit}, paused)"
    now = utc_now()
    if producer.beat_at is None or not is_silent(producer.beat_at, now):
        return where
    return f"{where} silent for {span(now - producer.beat_at)}"


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
            with_instants({field: getattr(each, field) for field in FIELDS_OF_A_PRODUCER})
            for each in producers
        ],
    }


# What queues are told


@commands.command()
@configured
def pause(
    settings: Settings, *, name: Names = None, all: All = False, node: Node = None, json: AsJson = False
) -> None:
    """Let queues take no more jobs; those that run go on.

    This is kept: nodes that start later, or again, begin paused. JSON: {"queues": [{"queue", "nodes":
    [{"queue", "node", "producer", "limit", "paused", "running", "started_at", "beat_at"}], "unanswered": [nodes]}]}.
    """
    _tell_pause(settings, _names(name, all=all), node, json=json, paused=True)


@commands.command()
@configured
def resume(
    settings: Settings, *, name: Names = None, all: All = False, node: Node = None, json: AsJson = False
) -> None:
    """Let paused queues take jobs again. JSON: as for `pause`."""
    _tell_pause(settings, _names(name, all=all), node, json=json, paused=False)


@commands.command()
@configured
def scale(settings: Settings, *, name: Limits, node: Node = None, json: AsJson = False) -> None:
    """Change how many jobs of queues run at once on each node, until it restarts. JSON: as for `pause`.

    Exit code 1 where no node runs a queue, so that nothing was changed.
    """
    limits = _limits(name)
    with settings.instance(looks=True) as staffa:
        _refuse_unknown(staffa, limits)
        for queue, each in limits.items():
            staffa.scale_queue(queue, each.limit, node=node)
        answers = _answers(staffa, limits, node, lambda check: check.limit == limits[check.queue].limit)
    _tell(answers, "up to {limit} at once", "no node runs it, so nothing was changed", json=json)
    _fail_unless(answer.nodes for answer in answers)


@commands.command()
@configured
def start(
    settings: Settings,
    *,
    name: Limits,
    node: Node = None,
    paused: Annotated[bool, typer.Option("--paused", help="Pause them first.")] = False,
    json: AsJson = False,
) -> None:
    """Run queues on all nodes, or on one, until it restarts. JSON: as for `pause`.

    Exit code 1 where no node answers.
    """
    limits = _limits(name)
    with settings.instance(looks=True) as staffa:
        for queue, each in limits.items():
            staffa.start_queue(queue, each.limit, node=node, paused=paused)
        answers = _answers(staffa, limits, node, lambda _: True, must_run=True)
    _tell(answers, "runs", "no node has answered, so it runs nowhere", json=json)
    _fail_unless(answer.nodes for answer in answers)


@commands.command()
@configured
def stop(
    settings: Settings,
    *,
    name: Annotated[list[str], typer.Argument(metavar="NAME...")],
    node: Node = None,
    json: AsJson = False,
) -> None:
    """Stop running queues, as at shutdown, until their nodes restart. JSON: as for `pause`.

    Running jobs have the grace period, and are then put back; the nodes on which they still run are named.
    """
    with settings.instance(looks=True) as staffa:
        _refuse_unknown(staffa, name)
        for queue in name:
            staffa.stop_queue(queue, node=node)
        answers = _answers(staffa, name, node, lambda check: check.paused and bool(check.running))
    _tell(answers, "is stopping", "runs nowhere" if node is None else f"does not run on {node}", json=json)


@commands.command()
@configured
def check(settings: Settings, *, name: Names = None, json: AsJson = False) -> None:
    """Show how queues, or all of them, run on each node: limit, paused, running jobs.

    JSON: [{"queue", "node", "producer", "limit", "paused", "running": [ids], "started_at", "beat_at"}].
    """
    with settings.instance(looks=True) as staffa:
        if name:
            found = [each for queue in dict.fromkeys(name) for each in staffa.check_queue(queue)]
        else:
            found = staffa.check_all_queues()
    if json:
        tell_json([_check_object(each) for each in found])
    elif not found:
        typer.echo("No node runs them." if name else "No node runs any queue.")
    else:
        tell_table(
            ["QUEUE", "NODE", "LIMIT", "PAUSED", "RUNNING", "STARTED"], [_check_row(each) for each in found]
        )


class Answer(NamedTuple):
    """What became of a word to one queue: where it was obeyed, and who has not answered yet."""

    queue: str
    nodes: list[QueueCheck]
    unanswered: list[str]


def _names(names: list[str] | None, *, all: bool) -> list[str]:
    if bool(names) == all:
        raise ConfigError("name the queues, or say --all" + (", not both" if all else ""))
    return list(dict.fromkeys(names or [EVERY]))


def _limits(texts: Sequence[str]) -> dict[str, QueueConfig]:
    try:
        return queue_limits(",".join(texts))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _refuse_unknown(staffa: Staffa, names: Iterable[str]) -> None:
    """Refuse all names together, so that nothing is said to some of them only."""
    for queue in names:
        if queue != EVERY:
            staffa.check_queue(queue)


def _tell_pause(settings: Settings, names: list[str], node: str | None, *, json: bool, paused: bool) -> None:
    with settings.instance(looks=True) as staffa:
        _refuse_unknown(staffa, names)
        for queue in names:
            (staffa.pause_queue if paused else staffa.resume_queue)(queue, node=node)
        if names == [EVERY]:
            names = sorted({each.queue for each in _living(staffa, node)})
        answers = _answers(staffa, names, node, lambda check: check.paused is paused)
    if paused:
        _tell(answers, "paused", "paused; no node runs it now, and those that start begin paused", json=json)
    else:
        _tell(answers, "takes jobs", "may take jobs, but no node runs it now", json=json)
    if not answers and not json:
        typer.echo(f"Every queue is {'paused' if paused else 'resumed'}; no node runs any now.")


def _answers(
    staffa: Staffa,
    queues: Iterable[str],
    node: str | None,
    obeyed: Callable[[QueueCheck], bool],
    *,
    must_run: bool = False,
) -> list[Answer]:
    """Look until every node that runs the queues obeys, but not for ever."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        living = _living(staffa, node)
        found = []
        for queue in queues:
            checks = [each for each in living if each.queue == queue]
            found.append(
                Answer(
                    queue,
                    [each for each in checks if obeyed(each)],
                    sorted({each.node for each in checks if not obeyed(each)}),
                )
            )
        answered = not any(each.unanswered for each in found) and all(
            each.nodes or not must_run for each in found
        )
        if answered or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_SECONDS)


def _living(staffa: Staffa, node: str | None) -> list[QueueCheck]:
    now = utc_now()
    return [
        each
        for each in staffa.check_all_queues()
        if node in (None, each.node) and not is_silent(each.beat_at, now)
    ]


def _tell(answers: Sequence[Answer], obeyed: str, nowhere: str, *, json: bool) -> None:
    if json:
        tell_json({"queues": [_answer_object(each) for each in answers]})
        return
    for each in answers:
        for line in _lines(each, obeyed, nowhere):
            typer.echo(f"{printable(each.queue)}: {line}")


def _lines(answer: Answer, obeyed: str, nowhere: str) -> list[str]:
    lines = []
    if answer.nodes:
        places = Counter(each.node for each in answer.nodes)
        named = ", ".join(
            f"{node} ({many} processes)" if many > 1 else node for node, many in sorted(places.items())
        )
        running = sum(len(each.running) for each in answer.nodes)
        still = f"; {counted(running, 'job')} running" if running else ""
        what = obeyed.format(limit=answer.nodes[0].limit)
        lines.append(f"{what} on {counted(len(places), 'node')}: {named}{still}")
    elif not answer.unanswered:
        lines.append(nowhere)
    if answer.unanswered:
        lines.append(f"not answered yet by {', '.join(answer.unanswered)}")
    return lines


def _fail_unless(done: Iterable[object]) -> None:
    if not all(done):
        raise typer.Exit(DONE_WRONGLY)


def _check_row(check: QueueCheck) -> list[str]:
    return [
        check.queue,
        check.node,
        str(check.limit),
        "yes" if check.paused else "no",
        ", ".join(map(str, check.running)) or "-",
        moment(check.started_at),
    ]


def _check_object(check: QueueCheck) -> dict[str, Any]:
    return with_instants({name: getattr(check, name) for name in QueueCheck.__struct_fields__})


def _answer_object(answer: Answer) -> dict[str, Any]:
    return {
        "queue": answer.queue,
        "nodes": [_check_object(each) for each in answer.nodes],
        "unanswered": answer.unanswered,
    }
