-- What we add to Oban's table: the fence, the key, our indexes, and the leases and producers that PostgreSQL
-- has too.

-- Ours: how often a job was taken, which fences late writes, and the key that makes it unique.
alter table oban_jobs add column take integer not null default 0;
alter table oban_jobs add column unique_key text;

create index if not exists staffa_jobs_available_index
  on oban_jobs (queue, priority, scheduled_at, id) where state = 'available';
create index if not exists staffa_jobs_due_index
  on oban_jobs (scheduled_at, id) where state in ('scheduled', 'retryable');
create index if not exists staffa_jobs_executing_index on oban_jobs (id) where state = 'executing';
create index if not exists staffa_jobs_completed_index on oban_jobs (completed_at) where state = 'completed';
create index if not exists staffa_jobs_discarded_index on oban_jobs (discarded_at) where state = 'discarded';
create index if not exists staffa_jobs_cancelled_index on oban_jobs (cancelled_at) where state = 'cancelled';

create table if not exists oban_peers (
  name text primary key,
  node text not null,
  started_at text not null,
  expires_at text not null
);

create table if not exists staffa_producers (
  id text primary key,
  node text not null,
  queue text not null,
  capacity integer not null,
  beat integer not null default 0,
  started_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
  beat_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
  expired_at text
);
