-- Oban's table as its migration V14 leaves it: the same columns, types and checks.
-- Indexes are our own and partial: an index that begins with `state` tempts the planner away from the
-- primary key as soon as statistics say that nothing is executing.
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

-- Ours: how often a job was taken, which fences late writes, and the key that makes it unique.
alter table oban_jobs add column if not exists take integer not null default 0;
alter table oban_jobs add column if not exists unique_key text;

create index if not exists staffa_jobs_available_index
  on oban_jobs (queue, priority, scheduled_at, id) where state = 'available';
create index if not exists staffa_jobs_due_index
  on oban_jobs (scheduled_at, id) where state in ('scheduled', 'retryable');
create index if not exists staffa_jobs_executing_index on oban_jobs (id) where state = 'executing';
create index if not exists staffa_jobs_completed_index on oban_jobs (completed_at) where state = 'completed';
create index if not exists staffa_jobs_discarded_index on oban_jobs (discarded_at) where state = 'discarded';
create index if not exists staffa_jobs_cancelled_index on oban_jobs (cancelled_at) where state = 'cancelled';

create unlogged table if not exists oban_peers (
  name text primary key,
  node text not null,
  started_at timestamp not null,
  expires_at timestamp not null
);

-- Logged, other than the leases: after a crash of the server the living must still be known.
create table if not exists staffa_producers (
  id text primary key,
  node text not null,
  queue text not null,
  capacity integer not null,
  beat bigint not null default 0,
  started_at timestamp not null default timezone('UTC', now()),
  beat_at timestamp not null default timezone('UTC', now()),
  expired_at timestamp
);

-- Oban reads its own version here, unless Oban wrote one before.
do $$
begin
  if obj_description('oban_jobs'::regclass, 'pg_class') is null then
    comment on table oban_jobs is '14';
  end if;
end
$$;
