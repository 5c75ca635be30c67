-- What we add to Oban's table. Indexes are our own and partial: an index that begins with `state` tempts the
-- planner away from the primary key as soon as statistics say that nothing is executing.

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
