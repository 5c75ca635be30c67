"""Values from a file, the environment and the command line, in this order of growing weight."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from staffa._cron import DEFAULT_ZONE, Cron, Schedule, zone
from staffa._job import LONGEST_NAME
from staffa._spelling import unknown
from staffa.errors import ConfigError

Testing = Literal["manual", "inline"]
LogFormat = Literal["text", "json"]

FILE, PROJECT_FILE = "staffa.toml", "pyproject.toml"
PREFIX = "STAFFA_"
NOT_OURS = re.compile(
    r"STAFFA_(TEST_.*|SERVICE_.*|PORT(_.*)?)"
)  # tests; Kubernetes, of a service named staffa
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
PACKAGE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
APP = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
PASSWORD_IN_URL = re.compile(r"(://[^:/?#]*:)(?:.*)(@)|([?&](?:ssl)?password=)[^&]*", re.DOTALL)
LARGEST_INTEGER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """How many jobs of a queue run at once on one node, and what the queue is for."""

    limit: int
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be configured.

    Durations are written as "30s", "5m" or "1h30m"; queues as `name = 10` or `name = {limit = 10, purpose = "…"}`,
    in the environment as `STAFFA_QUEUES=default:10,mailers:20`; lists in the environment have commas.
    """

    database: str = "sqlite:///staffa.db"
    schema: str = "public"
    queues: Mapping[str, QueueConfig] = field(default_factory=lambda: {"default": QueueConfig(10)})
    modules: tuple[str, ...] = ()
    app: str | None = None
    name: str = "Staffa"
    node: str | None = None
    testing: Testing | None = None
    log_format: LogFormat = "text"
    grace: timedelta = timedelta(seconds=15)
    poll: timedelta = timedelta(seconds=1)
    heartbeat: timedelta = timedelta(seconds=5)
    stuck_after: timedelta = timedelta(minutes=10)
    processes: int = 1
    pruner: Mapping[str, Any] = field(default_factory=dict)
    stager: Mapping[str, Any] = field(default_factory=dict)
    lifeline: Mapping[str, Any] = field(default_factory=dict)
    reindexer: Mapping[str, Any] | None = None
    timezone: str = DEFAULT_ZONE
    cron: tuple[Cron, ...] = ()
    crontab: Mapping[str, Any] = field(default_factory=dict)
    generator: Mapping[str, str] = field(default_factory=dict)
    source: str = "the defaults"


def load(
    path: str | Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Read the configuration. Raises `ConfigError` naming the key, where it stands, and the nearest valid one.

    Without a path, `staffa.toml` in the working directory is read, else `[tool.staffa]` of its `pyproject.toml`.
    """
    table, source = _file(path)
    values = _checked(table, source)
    values |= _from_environment(os.environ if environment is None else environment)
    values |= _checked(
        {key: value for key, value in (flags or {}).items() if value is not None}, "the command line"
    )
    return Config(**values, source=source)


def config_file(path: str | Path | None = None) -> Path | None:
    """Find the file that `load` reads; None where there is none."""
    if path is not None:
        return Path(path)
    if (here := Path(FILE)).is_file():
        return here
    project = Path(PROJECT_FILE)
    return project if project.is_file() and _table(project) else None


def duration(value: object) -> timedelta:
    """Read "500ms", "30s", "5m", "1h30m", "7d" or "2w". Raises `ValueError`."""
    if isinstance(value, timedelta):
        return value
    text = value.replace(" ", "") if isinstance(value, str) else ""
    parts = DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(
            f'{value!r} is no duration: write it with a unit, as in "500ms", "30s", "5m", "1h30m" or "7d"'
        )
    try:
        return timedelta(seconds=sum(float(number) * UNITS[unit] for number, unit in parts))
    except OverflowError as error:
        raise ValueError(f"{value!r} is too long") from error


def queue_limits(text: str) -> dict[str, QueueConfig]:
    """Read `name:limit,name:limit`. Raises `ValueError`."""
    found: dict[str, QueueConfig] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, limit = part.rpartition(":")
        if not separator or not limit.isascii() or not limit.isdigit():
            raise ValueError(f"{part!r} is no queue with its limit: write name:limit, as in default:10")
        if name in found:
            raise ValueError(f"queue {name!r} is given twice")
        found |= _queues({name: int(limit)})
    return found


def queues_of(given: Mapping[str, Any]) -> dict[str, QueueConfig]:
    """Read queues as code gives them: a limit, or a mapping with `limit` and `purpose`. Raises `ConfigError`."""
    try:
        return _queues(given)
    except ValueError as error:
        raise ConfigError(f"queues: {error}") from error


def without_password(url: str) -> str:
    """Write a database URL so that it may be shown."""
    return PASSWORD_IN_URL.sub(
        lambda found: f"{found[3]}***" if found[3] else f"{found[1]}***{found[2]}", url
    )


# Where values come from


def _file(path: str | Path | None) -> tuple[dict[str, Any], str]:
    file = config_file(path)
    if file is None:
        return {}, "the defaults"
    in_project = path is None and file.name == PROJECT_FILE
    return _table(file, required=path is not None), f"{file} [tool.staffa]" if in_project else str(file)


def _table(path: Path, *, required: bool = False) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file; `staffa init` writes one") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if path.name != PROJECT_FILE:
        return table
    tools = table.get("tool")
    found = tools.get("staffa", {}) if isinstance(tools, dict) else {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: tool.staffa must be a table, not {found!r}")
    if required and not found:
        raise ConfigError(f"{path}: there is no table [tool.staffa]")
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    given = {
        key.removeprefix(PREFIX).lower(): text
        for key, text in environment.items()
        if key.startswith(PREFIX) and not NOT_OURS.fullmatch(key) and text
    }
    values: dict[str, Any] = {}
    for key, text in given.items():
        name = PREFIX + key.upper()
        if key not in IN_ENVIRONMENT:
            raise ConfigError(
                f"the environment: {unknown(name, [PREFIX + each.upper() for each in IN_ENVIRONMENT])}"
            )
        values[key] = _value(IN_ENVIRONMENT[key], text, f"the environment: {name}")
    return values


def _checked(table: Mapping[str, Any], source: str) -> dict[str, Any]:
    values = {}
    for key, value in table.items():
        if key not in IN_FILE:
            raise ConfigError(f"{source}: {unknown(key, IN_FILE)}")
        values[key] = _value(IN_FILE[key], value, f"{source}: {key}")
    return values


def _value(read: Callable[[Any], Any], value: object, where: str) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


# How values are read


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be text, not {value!r}")
    return value


def _app(value: object) -> str:
    if not APP.fullmatch(_text(value)):
        raise ValueError(f'must name a module and the Staffa in it, as in "pkg.jobs:staffa", not {value!r}')
    return str(value)


def _package(value: object) -> str:
    if not PACKAGE.fullmatch(_text(value)):
        raise ValueError(f'must name a package, as in "app.workers", not {value!r}')
    return str(value)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of texts, not {value!r}")
    return tuple(_text(each) for each in value)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def _one_of(first: str, second: str) -> Callable[[object], str]:
    """Make a reader of a word that must be one of two."""

    def read(value: object) -> str:
        if value not in (first, second):
            raise ValueError(f'must be "{first}" or "{second}", not {value!r}')
        return str(value)

    return read


def _positive(value: object) -> timedelta:
    found = duration(value)
    if found <= timedelta(0):
        raise ValueError(f"must be longer than nothing, not {value!r}")
    return found


def _age(value: object) -> timedelta | None:
    return None if value == "never" else duration(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"must be a whole number above 0, not {value!r}")
    if value > LARGEST_INTEGER:
        raise ValueError(f"must be at most {LARGEST_INTEGER}, which databases can hold, not {value!r}")
    return value


def _whole_in_text(text: str) -> int:
    return _whole(int(text) if text.isascii() and text.isdigit() else text)


def _queues(value: object) -> dict[str, QueueConfig]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a table of queues with their limits, as in default = 10, not {value!r}")
    return {_queue_name(name): _queue(name, each) for name, each in value.items()}


def _queue_name(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or "\0" in name:
        raise ValueError(f"a queue's name has 1 to {LONGEST_NAME} characters, not {name!r}")
    return name


def _queue(name: str, value: object) -> QueueConfig:
    if isinstance(value, QueueConfig):
        value = {"limit": value.limit, "purpose": value.purpose}
    table = value if isinstance(value, Mapping) else {"limit": value}
    for key in table:
        if key not in ("limit", "purpose"):
            raise ValueError(f"{name}: {unknown(key, ('limit', 'purpose'))}")
    if "limit" not in table:
        raise ValueError(f"{name} has no limit")
    if not isinstance(purpose := table.get("purpose", ""), str):
        raise ValueError(f"{name}: the purpose must be text, not {purpose!r}")
    try:
        return QueueConfig(_whole(table["limit"]), purpose)
    except ValueError as error:
        raise ValueError(f"{name}: the limit {error}") from error


def _options(known: Mapping[str, Callable[[Any], Any]]) -> Callable[[object], dict[str, Any]]:
    """Make a reader of a table with known keys."""

    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be a table, not {value!r}")
        values = {}
        for key, each in value.items():
            if key not in known:
                raise ValueError(unknown(key, known))
            try:
                values[key] = known[key](each)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from error
        return values

    return read


def _zone(value: object) -> str:
    zone(value)
    return str(value)


def _expression(value: object) -> str:
    Schedule(_text(value), DEFAULT_ZONE)
    return str(value)


def _crons(value: object) -> tuple[Cron, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of entries, each written as [[cron]], not {value!r}")
    return tuple(_cron(number, entry) for number, entry in enumerate(value, 1))


def _cron(number: int, value: object) -> Cron:
    if isinstance(value, Cron):
        return value
    named = value.get("name", value.get("worker")) if isinstance(value, Mapping) else None
    label = f"entry {number}" if named is None else f"entry {number} ({named!r})"
    try:
        return Cron(**_required(CRON(value), "worker", "expression"))
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _required(table: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        if key not in table:
            raise ValueError(f"it has no {key}")
    return table


def _as_given(value: object) -> object:
    return value


CRON = _options(
    {
        "worker": _text,
        "expression": _text,
        "args": _as_given,
        "timezone": _zone,
        "catch_up": _text,
        "jitter": duration,
        "name": _text,
        "queue": _queue_name,
        "priority": _as_given,
        "max_attempts": _whole,
        "tags": _texts,
        "meta": _as_given,
    }
)
IN_FILE: dict[str, Callable[[Any], Any]] = {
    "database": _text,
    "schema": _text,
    "queues": _queues,
    "modules": _texts,
    "app": _app,
    "name": _text,
    "node": _text,
    "testing": _one_of("manual", "inline"),
    "log_format": _one_of("text", "json"),
    "grace": duration,
    "poll": _positive,
    "heartbeat": _positive,
    "stuck_after": _positive,
    "processes": _whole,
    "pruner": _options(
        {
            "interval": _positive,
            "limit": _whole,
            "max_age": _age,
            "completed": _age,
            "cancelled": _age,
            "discarded": _age,
        }
    ),
    "stager": _options({"interval": _positive, "limit": _whole}),
    "lifeline": _options({"interval": _positive, "silence": _positive, "limit": _whole}),
    "reindexer": _options(
        {"schedule": _expression, "timezone": _zone, "indexes": _texts, "within": _positive}
    ),
    "timezone": _zone,
    "cron": _crons,
    "crontab": _options({"interval": _positive, "grace": duration, "window": duration}),
    "generator": _options({"package": _package, "tests": _text, "templates": _text}),
}
IN_ENVIRONMENT: dict[str, Callable[[str], Any]] = {
    **{
        key: read
        for key, read in IN_FILE.items()
        if key not in ("pruner", "stager", "lifeline", "reindexer", "cron", "crontab", "generator")
    },
    "queues": queue_limits,
    "modules": _listed,
    "processes": _whole_in_text,
}

assert {each.name for each in fields(Config)} - {"source"} == IN_FILE.keys()  # noqa: S101 - one list of keys
