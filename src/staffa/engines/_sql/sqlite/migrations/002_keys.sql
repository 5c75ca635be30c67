-- Who holds a unique key, and the rule it was taken by. `job_id` is null until the job is inserted.
create table if not exists staffa_keys (
  key text primary key,
  job_id integer,
  states json not null default '["suspended","available","scheduled","executing","retryable","completed"]',
  period real check (period > 0),
  timestamp text not null default 'inserted_at' check (timestamp in ('inserted_at', 'scheduled_at'))
) without rowid;
