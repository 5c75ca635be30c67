"""Logs that machines read: one JSON object a line, whatever is in it."""

import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from staffa import Job, State, telemetry
from staffa.json_log import JsonFormatter, log_json
from staffa.telemetry import (
    EngineCalled,
    Event,
    JobStopped,
    LeaderChanged,
    PluginTicked,
    QueuePaused,
    Telemetry,
)

SECOND = timedelta(seconds=1)


class Memory(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=pytest.fail) for line in self.lines]


@pytest.fixture
def memory() -> Iterator[Memory]:
    handler, root = Memory(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def instance() -> Any:
    return SimpleNamespace(telemetry=Telemetry("Orders", "web-1"))


def stopped(state: State = State.COMPLETED, error: BaseException | None = None, **job: Any) -> JobStopped:
    return JobStopped(
        Job(id=7, worker="w", args={"secret": 1}, state=state, **job), 2 * SECOND, SECOND / 4, error
    )


def test_an_event_is_one_object_with_where_it_happened_and_its_fields(instance, memory):
    log_json(instance)
    instance.telemetry.emit(stopped(tags=["a"]))

    [line] = memory.objects
    assert abs(datetime.fromisoformat(line.pop("time")) - datetime.now(UTC)) < timedelta(minutes=1)
    assert line == {
        "level": "info",
        "pid": os.getpid(),
        "event": "JobStopped",
        "instance": "Orders",
        "node": "web-1",
        "job": {
            "id": 7,
            "worker": "w",
            "queue": "default",
            "state": "completed",
            "priority": 0,
            "attempt": 0,
            "max_attempts": 20,
            "tags": ["a"],
        },
        "took": 2.0,
        "waited": 0.25,
        "error": None,
    }


def test_what_went_wrong_is_a_warning_at_least(instance, memory):
    log_json(instance, level=logging.DEBUG)
    instance.telemetry.emit(stopped(State.RETRYABLE, ValueError("no\nsuch thing")))
    instance.telemetry.emit(QueuePaused("a"))

    assert [line["level"] for line in memory.objects] == ["warning", "debug"]
    assert memory.objects[0]["error"] == {"type": "ValueError", "message": "no\nsuch thing"}
    assert all("\n" not in line for line in memory.lines)


def test_frequent_events_are_logged_only_when_they_are_asked_for(instance, memory):
    events = [
        EngineCalled("exchange", SECOND, 1, 2, None),
        PluginTicked("P", SECOND, {"a": 1}),
        QueuePaused("a"),
    ]
    stop = log_json(instance)
    for event in events:
        instance.telemetry.emit(event)
    stop()
    log_json(instance, events=[PluginTicked])
    for event in events:
        instance.telemetry.emit(event)

    assert [line["event"] for line in memory.objects] == ["QueuePaused", "PluginTicked"]


def test_fields_of_the_job_can_be_chosen_and_unknown_ones_are_refused(instance, memory):
    log_json(instance, job_fields=["id", "args"])
    instance.telemetry.emit(stopped())

    assert memory.objects[0]["job"] == {"id": 7, "args": {"secret": 1}}
    with pytest.raises(ValueError, match="a job has no arguments"):
        log_json(instance, job_fields=["arguments"])
    with pytest.raises(TypeError, match="is no type of events"):
        log_json(instance, events=["JobStopped"])


def test_whatever_a_report_holds_the_line_is_json(instance, memory):
    log_json(instance, events=[PluginTicked])
    endless: list[Any] = []
    endless.append(endless)
    report = {
        1: float("nan"),
        "o": object(),
        "s": {3},
        "\ud800": b"x",
        "at": datetime(2030, 1, 1, tzinfo=UTC),
    }
    instance.telemetry.emit(PluginTicked("P", SECOND, {**report, "endless": endless, "long": "x" * 9_000}))

    [line] = memory.objects
    assert (line["report"]["1"], line["report"]["s"]) == ("nan", [3])
    assert line["report"]["at"] == "2030-01-01T00:00:00.000000Z"
    assert line["report"]["long"].endswith("(9000 characters)")


def test_every_type_of_events_can_be_logged(instance, memory):
    log_json(instance, events=[Event])
    values = {
        "AnyJob": Job(id=1),
        "timedelta": SECOND,
        "int": 1,
        "bool": True,
        "str": "text",
        "tuple[int, ...]": (1, 2),
        "Exception": ValueError("x"),
        "BaseException | None": None,
        "Mapping[str, Any]": {"a": 1},
        "Mapping[str, int]": {"a": 1},
    }
    kinds = [kind for kind in vars(telemetry).values() if isinstance(kind, type) and issubclass(kind, Event)]
    for kind in kinds:
        instance.telemetry.emit(kind(*(values[field.type] for field in kind.__dataclass_fields__.values())))

    assert [line["event"] for line in memory.objects] == [kind.__name__ for kind in kinds]


def test_other_records_are_objects_with_their_error(memory):
    try:
        int("broken")
    except ValueError:
        logging.getLogger("app").exception("it is %s", "late")

    [line] = memory.objects
    assert (line["level"], line["logger"], line["message"]) == ("error", "app", "it is late")
    assert line["error"] == {
        "type": "ValueError",
        "message": "invalid literal for int() with base 10: 'broken'",
    }
    assert "test_json_log.py" in line["traceback"]


def test_a_level_that_nobody_logs_costs_nothing(instance, memory):
    logging.getLogger("staffa.events").setLevel(logging.ERROR)
    log_json(instance)
    instance.telemetry.emit(LeaderChanged(leads=True, lease="l", member="m"))
    logging.getLogger("staffa.events").setLevel(logging.NOTSET)

    assert memory.lines == []
