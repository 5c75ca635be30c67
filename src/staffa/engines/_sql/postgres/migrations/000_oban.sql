-- Oban's tables as its migration V14 leaves them: the same columns, types and checks. Where Oban made them
-- before, they stay as they are; version 0 is only recorded where they are ours, and so go with the way back.
insert into staffa_schema (version) select 0 where to_regclass($name$oban_jobs$name$) is null;

do $$
begin
  create type oban_job_state as enum
    ('available', 'suspended', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled');
exception when duplicate_object then null;
end
$$;

create table if not exists oban_jobs (
  id bigserial primary key,
  state oban_job_state not null default 'available',
  queue text not null default 'default',
  worker text not null,
  args jsonb not null default '{}',
  errors jsonb[] not null default array[]::jsonb[],
  attempt integer not null default 0,
  max_attempts integer not null default 20,
  inserted_at timestamp not null default timezone('UTC', now()),
  scheduled_at timestamp not null default timezone('UTC', now()),
  attempted_at timestamp,
  completed_at timestamp,
  attempted_by text[],
  discarded_at timestamp,
  priority integer not null default 0,
  tags text[] default array[]::text[],
  meta jsonb default '{}',
  cancelled_at timestamp,
  constraint attempt_range check (attempt between 0 and max_attempts),
  constraint positive_max_attempts check (max_attempts > 0),
  constraint non_negative_priority check (priority >= 0),
  constraint queue_length check (char_length(queue) > 0 and char_length(queue) < 128),
  constraint worker_length check (char_length(worker) > 0 and char_length(worker) < 128)
);

create unlogged table if not exists oban_peers (
  name text primary key,
  node text not null,
  started_at timestamp not null,
  expires_at timestamp not null
);

-- Oban reads its own version here.
do $$
begin
  if exists (select from staffa_schema where version = 0) then
    comment on table oban_jobs is '14';
  end if;
end
$$;
