"""Oban's own tables as its migrations leave them, and what else stands in a database's catalogue."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

SAMPLE = json.loads((Path(__file__).parent / "engines" / "oban_v14.json").read_text())
V13_INDEXES = {"oban_jobs_state_cancelled_at_index", "oban_jobs_state_discarded_at_index"}
OBAN_ITSELF = """
    create type oban_job_state as enum ({states});
    create table oban_jobs (id bigserial primary key);
    alter table oban_jobs {columns};
    alter table oban_jobs {checks};
    {indexes};
    create unlogged table oban_peers (
      name text primary key, node text not null, started_at timestamp not null, expires_at timestamp not null)
"""
BEFORE_V12 = """
    alter table oban_jobs drop constraint non_negative_priority;
    alter table oban_jobs add constraint priority_range check (priority between 0 and 3);
    create function oban_jobs_notify() returns trigger as $$
      begin perform pg_notify('public.oban_insert', json_build_object('queue', new.queue)::text); return null; end
    $$ language plpgsql;
    create trigger oban_notify after insert on oban_jobs for each row execute procedure oban_jobs_notify()
"""
OBAN_FOR_PYTHON = """
    create type oban_job_state as enum ('available', 'scheduled', 'suspended', 'executing', 'retryable',
      'completed', 'discarded', 'cancelled');
    create table oban_jobs (
      id bigint generated always as identity primary key, state oban_job_state not null default 'available',
      queue text not null default 'default', worker text not null, attempt smallint not null default 0,
      max_attempts smallint not null default 20, priority smallint not null default 0,
      args jsonb not null default '{}', meta jsonb not null default '{}', tags jsonb not null default '[]',
      errors jsonb not null default '[]', attempted_by text[] not null default '{}',
      inserted_at timestamp not null default timezone('UTC', now()),
      scheduled_at timestamp not null default timezone('UTC', now()),
      attempted_at timestamp, cancelled_at timestamp, completed_at timestamp, discarded_at timestamp)
"""
OBAN_ON_SQLITE = """
    create table oban_jobs (
      id integer primary key autoincrement, state text not null default 'available',
      queue text not null default 'default', worker text not null, args json not null default '{}',
      meta json not null default '{}', tags json not null default '[]', errors json not null default '[]',
      attempt integer not null default 0, max_attempts integer not null default 20,
      priority integer not null default 0,
      inserted_at text not null default (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
      scheduled_at text not null default (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
      attempted_at text, attempted_by json not null default '[]',
      cancelled_at text, completed_at text, discarded_at text);
    create index oban_jobs_state_queue_priority_scheduled_at_id_index
      on oban_jobs (state, queue, priority, scheduled_at, id);
    insert into oban_jobs (worker) values ('w')
"""

CATALOGUE = """
select relname, relkind::text, relpersistence::text, obj_description(oid, 'pg_class')
from pg_class
where relnamespace = %s::regnamespace
order by 1

select attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
from pg_attribute join pg_class on pg_class.oid = attrelid
left join pg_attrdef on adrelid = attrelid and adnum = attnum
where relnamespace = %s::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
order by 1, attnum

select indexname, indexdef
from pg_indexes
where quote_ident(schemaname)::regnamespace = %s::regnamespace
order by 1

select conname, pg_get_constraintdef(oid)
from pg_constraint
where connamespace = %s::regnamespace
order by 1

select typname, enumlabel
from pg_enum join pg_type on pg_type.oid = enumtypid
where typnamespace = %s::regnamespace
order by 1, enumsortorder

select proname, prosrc
from pg_proc
where pronamespace = %s::regnamespace
order by 1

select tgname
from pg_trigger join pg_class on pg_class.oid = tgrelid
where relnamespace = %s::regnamespace and not tgisinternal
order by 1
""".strip().split("\n\n")


def run(url, script, schema="public"):
    """Execute a script in a schema, and commit."""
    with psycopg.connect(url) as connection:
        connection.execute(psycopg.sql.SQL("set search_path to {}").format(psycopg.sql.Identifier(schema)))
        connection.execute(script.encode())


def query(url, statement, *values):
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode(), values or None).fetchall()


def oban_tables(url, version=14, schema="public"):
    """Make the tables as Oban's own migrations leave them at a version."""
    states = [state for [state] in SAMPLE["enum"] if version >= 14 or state != "suspended"]
    columns = ", ".join(
        f"add column {name} {kind.removeprefix('_')}{'[]' if kind.startswith('_') else ''}"
        f"{' not null' if nullable == 'NO' else ''}{f' default {default}' if default else ''}"
        for name, kind, nullable, default in SAMPLE["columns"]
        if name != "id"
    )
    checks = ", ".join(f"add constraint {name} {check}" for name, check in SAMPLE["constraints"])
    indexes = "; ".join(
        sql
        for name, sql in SAMPLE["indexes"]
        if not name.endswith("_pkey") and (version >= 13 or name not in V13_INDEXES)
    )
    literal = ", ".join(f"'{state}'" for state in states)
    run(url, OBAN_ITSELF.format(states=literal, columns=columns, checks=checks, indexes=indexes), schema)
    if version < 12:
        run(url, BEFORE_V12, schema)
    run(url, f"comment on table oban_jobs is '{version}'", schema)


def say(url, comment):
    """Write what Oban keeps of its version; None is what a backup leaves of it."""
    run(url, f"comment on table oban_jobs is {'null' if comment is None else repr(comment)}")


def comment_of(url):
    return query(url, "select obj_description('oban_jobs'::regclass, 'pg_class')")[0][0]


def catalogue(url, schema="public"):
    """List all that a schema holds, but no rows."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            made = "select type, name, sql from sqlite_master where name <> 'sqlite_sequence' order by type, name"
            rows = connection.execute(made).fetchall()
            tables = [name for kind, name, _ in rows if kind == "table"]
            columns = {name: connection.execute(f"pragma table_info({name})").fetchall() for name in tables}
        return [row for row in rows if row[0] != "table"], columns
    quoted = '"' + schema.replace('"', '""') + '"'
    return [query(url, question, quoted) for question in CATALOGUE]


def rows_of(url):
    """Read the rows of Oban's own columns, as they are."""
    names = ", ".join(column[0] for column in SAMPLE["columns"])
    return query(url, f"select {names} from oban_jobs order by id")
