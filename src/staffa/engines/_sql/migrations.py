"""The ways between versions of the tables, as statements to execute one by one.

A version is two files, `003_name.sql` and its way back `003_name.down.sql`. On PostgreSQL the way there can be
gone twice, as an interrupted migration begins a version again. `000_oban` makes Oban's own tables where there
are none; version 0 is recorded only then, so that going back takes no table away that Oban made.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import NamedTuple

from staffa.engines._sql.statements import COMMENT_LINE, ROOT, in_schema, quoted_name, split, statement
from staffa.errors import ConfigError

FOUNDATION = 0
DOWN = ".down.sql"
RECORD, FORGET = (
    "insert into staffa_schema (version) values ({})",
    "delete from staffa_schema where version = {}",
)
DROPPED_TABLE = re.compile(r"^\s*drop table if exists (\w+)", re.MULTILINE)
DROPPED_INDEX = re.compile(r"(drop index (?:concurrently )?if exists )(\w+)")
JOB_INDEX = re.compile(r"create (unique )?index if not exists (\w+)\s+on oban_jobs\b")


class Version(NamedTuple):
    """One version's ways there and back."""

    up: tuple[str, ...]
    down: tuple[str, ...]


@cache
def migrations(dialect: str) -> dict[int, Version]:
    """Read all versions in order, without the foundation."""
    return {number: found for number, found in _all(dialect).items() if number != FOUNDATION}


@cache
def _all(dialect: str) -> dict[int, Version]:
    folder = ROOT / dialect / "migrations"
    texts = {entry.name: COMMENT_LINE.sub("", entry.read_text()) for entry in folder.iterdir()}
    names = sorted(name for name in texts if name.endswith(".sql") and not name.endswith(DOWN))
    return {
        int(name[:3]): Version(split(texts[name]), split(texts.get(name.removesuffix(".sql") + DOWN, "")))
        for name in names
    }


def newest(dialect: str) -> int:
    return max(migrations(dialect))


def checked(dialect: str, version: int | None) -> int:
    """Return the version to go to, the newest by default. Raises `ConfigError` for one that is not known."""
    known = [FOUNDATION, *migrations(dialect)]
    if version is None:
        return known[-1]
    if version not in known:
        raise ConfigError(
            f"there is no version {version} of the tables: give one of {known[0]} to {known[-1]}"
        )
    return version


def pending(dialect: str, applied: Collection[int], to: int | None = None) -> list[int]:
    """List the versions that are missing up to one, or all."""
    wanted = checked(dialect, to)
    return [version for version in migrations(dialect) if version not in applied and version <= wanted]


def above(applied: Collection[int], to: int) -> list[int]:
    """List the versions that going back to one takes away, the newest first."""
    return sorted((version for version in applied if version > to), reverse=True)


# The way there


def there(dialect: str, version: int) -> list[str]:
    """List the statements that bring the tables to a version from the one before; the last records it."""
    found = _all(dialect)
    ground = (
        [statement(dialect, "make_version_table"), *found[FOUNDATION].up]
        if version == min(migrations(dialect))
        else []
    )
    return [*ground, *found[version].up, RECORD.format(version)]


def indexes_jobs(sql: str) -> bool:
    """Tell whether a statement makes an index on the jobs, which takes long where there are many."""
    return JOB_INDEX.match(sql) is not None


# The way back


def back(dialect: str, version: int) -> list[str]:
    """List the statements that take a version away; the last forgets it."""
    return [*_all(dialect)[version].down, FORGET.format(version)]


def leave(dialect: str, applied: Collection[int]) -> list[str]:
    """List the statements that take away what is left when no version is."""
    looks_itself = dialect == "postgres"
    ours = _all(dialect)[FOUNDATION].down if looks_itself or FOUNDATION in applied else ()
    return [*ours, "drop table if exists staffa_schema"]


def way_back(dialect: str, applied: Collection[int], to: int) -> list[str]:
    """List the statements that take all versions above one away. Raises `ConfigError` where one is not known."""
    going = above(applied, to)
    for version in going:
        if version not in migrations(dialect):
            raise ConfigError(
                f"version {version} of the tables is of a newer Staffa: go back with that one's `staffa migrate`"
            )
    statements = [sql for version in going for sql in back(dialect, version)]
    return [*statements, *leave(dialect, applied)] if to == FOUNDATION else statements


def lost_tables(dialect: str, applied: Collection[int], to: int) -> list[str]:
    """Name the tables that going back takes away with what people put into them."""
    names = [name for sql in way_back(dialect, applied, to) for name in DROPPED_TABLE.findall(sql)]
    kept = [
        "staffa_schema",
        "oban_peers",
        "staffa_notices",
        *([] if FOUNDATION in applied else ["oban_jobs"]),
    ]
    return [name for name in names if name not in kept]


# For people who apply migrations by another tool


def script(dialect: str, schema: str | None, since: int, to: int) -> list[str]:
    """List the statements that lead from one version to another, there or back.

    Whether Oban made its tables itself is not known here. PostgreSQL looks by itself; on SQLite they stay.
    """
    known = migrations(dialect)
    if to >= since:
        own = schema not in (None, "public") and since == FOUNDATION
        place = [f"create schema if not exists {quoted_name(schema or '')}"] if own else []
        statements = place + [sql for each in known if since < each <= to for sql in there(dialect, each)]
    else:
        statements = way_back(dialect, [each for each in known if each <= since], to)
    return [qualified(sql, schema) for sql in statements]


def qualified(sql: str, schema: str | None) -> str:
    """Put everything that a migration names into a schema, so that no search path is needed."""
    if schema is None:
        return sql
    place = quoted_name(schema)
    return DROPPED_INDEX.sub(lambda found: f"{found[1]}{place}.{found[2]}", in_schema(sql, schema))
