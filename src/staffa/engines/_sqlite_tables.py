"""Moving SQLite's tables between versions, inside the transaction of whoever executes."""

from __future__ import annotations

from staffa._job import OBAN_COLUMNS
from staffa.engine import TablesStatus
from staffa.engines._sql.migrations import FOUNDATION, above, checked, lost_tables, pending, there, way_back
from staffa.engines._sql.statements import statement
from staffa.engines._sqlite_session import Execute
from staffa.errors import SchemaUnsupported

DIALECT = "sqlite"


def forward(execute: Execute, to: int | None = None) -> list[int]:
    """Apply missing versions; give them. Raises `SchemaUnsupported` for a table that is not Oban's."""
    wanted = checked(DIALECT, to)
    execute(
        statement(DIALECT, "make_version_table")
    )  # writing first: who only reads may not write after another
    done = applied(execute)
    missing = pending(DIALECT, done, wanted)
    if missing and not done and (why := _unusable(execute)):
        raise SchemaUnsupported(why)
    for version in missing:
        for sql in there(DIALECT, version):
            execute(sql)
    return missing


def back(execute: Execute, to: int) -> list[int]:
    """Take versions away, the newest first; give them."""
    kept, done = checked(DIALECT, to), applied(execute)
    for sql in way_back(DIALECT, done, kept) if done else []:
        execute(sql)
    return above(done, kept)


def losses(execute: Execute, to: int) -> dict[str, int]:
    """Count the rows that going back takes away, by table."""
    done = applied(execute)
    counted = {
        table: _rows(execute, table) for table in lost_tables(DIALECT, done, checked(DIALECT, to)) if done
    }
    return {table: rows for table, rows in counted.items() if rows}


def status(execute: Execute) -> TablesStatus:
    done = applied(execute)
    ours = FOUNDATION in done
    versions = [version for version in done if version != FOUNDATION]
    there_is_one = bool(_columns(execute))
    return TablesStatus(
        applied=versions,
        pending=pending(DIALECT, done),
        made_by=("staffa" if ours else "oban") if there_is_one else None,
        trouble=None if done else _unusable(execute),
    )


def applied(execute: Execute) -> list[int]:
    there_are = execute("select 1 from sqlite_master where type = 'table' and name = 'staffa_schema'")
    return [row[0] for row in execute(statement(DIALECT, "schema_versions"))] if list(there_are) else []


def _unusable(execute: Execute) -> str | None:
    """Say why a table that is there already cannot be Oban's."""
    found = _columns(execute)
    if not found or not (missing := sorted({*OBAN_COLUMNS} - found)):
        return None
    return (
        f"there is a table oban_jobs that lacks {', '.join(missing)}, so Oban did not make it:"
        " rename it, or keep the jobs in another file"
    )


def _columns(execute: Execute) -> set[str]:
    return {row[1] for row in execute("pragma table_info(oban_jobs)")}


def _rows(execute: Execute, table: str) -> int:
    [(count,)] = execute(f"select count(*) from {table}")  # noqa: S608 - a table of ours
    rows: int = count
    return rows
