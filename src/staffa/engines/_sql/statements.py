"""Statements, one per file: the database's own version where there is one, else the common one."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

ROOT = files("staffa.engines._sql")
OUR_NAMES = re.compile(
    r"(?<![\w.])(oban_jobs|oban_peers|oban_job_state"
    r"|staffa_(?:schema|producers|keys|queues|cron_ticks|notices))\b"
)
COMMENT_LINE = re.compile(r"^\s*--.*\n?", re.MULTILINE)
CONDITION = re.compile(r"^  and (.*:([a-z_]+)\b.*)$", re.MULTILINE)
PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
ANYTHING = "where true"


class Filtered(NamedTuple):
    """A statement about the jobs that are wanted, by those fields of a filter that ask for something."""

    name: str
    fields: tuple[str, ...]
    states: tuple[str, ...]


Statement = str | Filtered


@cache
def statement(dialect: str, wanted: Statement, schema: str | None = None) -> str:
    """Read a statement, without its comments, its tables put into a schema where one is given."""
    if isinstance(wanted, Filtered):
        return _filtered(dialect, wanted, schema)
    own = ROOT / dialect / f"{wanted}.sql"
    text = (own if own.is_file() else ROOT / "common" / f"{wanted}.sql").read_text()
    return in_schema(COMMENT_LINE.sub("", text), schema)


def _filtered(dialect: str, wanted: Filtered, schema: str | None) -> str:
    """Put the conditions of a filter where a statement takes anything."""
    conditions = conditions_of(dialect)
    asked = [conditions[field] for field in wanted.fields]
    states = ", ".join(f"'{state}'" for state in wanted.states)
    what = " and ".join(asked or ["true"]).replace(":states", states)
    return statement(dialect, wanted.name, schema).replace(ANYTHING, f"where {what}", 1)


@cache
def conditions_of(dialect: str) -> dict[str, str]:
    """Read what each field of a filter asks for."""
    return {field: condition for condition, field in CONDITION.findall(statement(dialect, "wanted_jobs"))}


def split(script: str) -> tuple[str, ...]:
    """Part a script at semicolons that end a line, outside of bodies between `$$`."""
    parts, begun = [], ""
    for line in script.splitlines(keepends=True):
        begun += line
        if line.rstrip().endswith(";") and begun.count("$$") % 2 == 0:
            parts.append(begun.strip().removesuffix(";"))
            begun = ""
    return tuple(part for part in [*parts, begun.strip()] if part)


def in_schema(sql: str, schema: str | None) -> str:
    """Qualify our tables and types, so that no search path is needed."""
    if schema is None:
        return sql
    quoted = quoted_name(schema)
    return OUR_NAMES.sub(lambda name: f"{quoted}.{name[1]}", sql)


def quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
