"""Statements, one per file: the database's own version where there is one, else the common one."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

ROOT = files("staffa.engines._sql")
OUR_NAMES = re.compile(
    r"(?<![\w.])(oban_jobs|oban_peers|oban_job_state"
    r"|staffa_(?:schema|producers|keys|queues|cron_ticks|notices))\b"
)
COMMENT_LINE = re.compile(r"^\s*--.*\n?", re.MULTILINE)


@cache
def statement(dialect: str, name: str, schema: str | None = None) -> str:
    """Read a statement, without its comments, its tables put into a schema where one is given."""
    own = ROOT / dialect / f"{name}.sql"
    text = (own if own.is_file() else ROOT / "common" / f"{name}.sql").read_text()
    return in_schema(COMMENT_LINE.sub("", text), schema)


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
