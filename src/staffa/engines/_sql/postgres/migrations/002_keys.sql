-- Who holds a unique key, and the rule it was taken by. `job_id` is null until the job is inserted. There is no
-- reference to oban_jobs: its rows are locked after keys, and Oban deletes them without knowing of us.
-- Room is left on each page, as every new key is written twice.
create table if not exists staffa_keys (
  key text primary key,
  job_id bigint,
  states text[] not null default '{suspended,available,scheduled,executing,retryable,completed}',
  period double precision,
  timestamp text not null default 'inserted_at',
  constraint positive_period check (period > 0),
  constraint known_timestamp check (timestamp in ('inserted_at', 'scheduled_at'))
) with (fillfactor = 70);
