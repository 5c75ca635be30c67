-- Own version: PostgreSQL takes the time from its own clock and wakes listeners when the transaction commits.
-- A job alone, which most often is what a caller has, costs half of what a list does.
with stored as (
  insert into oban_jobs
    (state, queue, worker, args, meta, tags, priority, max_attempts, unique_key, inserted_at, scheduled_at)
  select
    cast(case when given.state = 'available' and due.at > clock.now then 'scheduled' else given.state end
      as oban_job_state),
    cast(:queue as text), cast(:worker as text), cast(:args as jsonb), cast(:meta as jsonb), cast(:tags as text[]),
    cast(:priority as integer), cast(:max_attempts as integer), cast(:unique_key as text),
    clock.now at time zone 'UTC', due.at at time zone 'UTC'
  from
    (select cast(:state as text) as state) as given
    cross join (select coalesce(cast(:now as timestamptz), clock_timestamp()) as now) as clock
    cross join lateral (
      select
        coalesce(
          cast(:scheduled_at as timestamptz),
          clock.now + cast(:seconds as double precision) * interval '1 second',
          clock.now) as at) as due
  returning id, state, queue, inserted_at, scheduled_at
)
select
  id, cast(state as text), inserted_at, scheduled_at,
  case when state = 'available' then pg_notify(cast(:channel as text), json_build_object('queue', queue)::text) end
from stored
