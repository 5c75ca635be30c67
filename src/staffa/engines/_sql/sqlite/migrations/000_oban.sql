-- Oban's SQLite layout. Where Oban made the table before, it stays as it is; version 0 is only recorded where
-- it is ours, and so goes with the way back. Instants are text with six digits and Z, so that their order is the
-- order of time.
insert into staffa_schema (version)
select 0 where not exists (select 1 from sqlite_master where type = 'table' and name = 'oban_jobs');

create table if not exists oban_jobs (
  id integer primary key autoincrement,
  state text not null default 'available' check (state in
    ('available', 'suspended', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled')),
  queue text not null default 'default',
  worker text not null,
  args json not null default '{}',
  meta json not null default '{}',
  tags json not null default '[]',
  errors json not null default '[]',
  attempt integer not null default 0,
  max_attempts integer not null default 20,
  priority integer not null default 0,
  inserted_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
  scheduled_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
  attempted_at text,
  attempted_by json not null default '[]',
  cancelled_at text,
  completed_at text,
  discarded_at text
);

