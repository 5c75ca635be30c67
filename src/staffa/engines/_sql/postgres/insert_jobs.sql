-- Own version: PostgreSQL takes the time from its own clock and wakes listeners when the transaction commits.
insert into oban_jobs
  (state, queue, worker, args, meta, tags, priority, max_attempts, unique_key, inserted_at, scheduled_at)
select
  (case when given.state = 'available' and due.at > clock.now then 'scheduled' else given.state end)::oban_job_state,
  given.queue, given.worker, given.args, given.meta, given.tags, given.priority, given.max_attempts, given.unique_key,
  clock.now at time zone 'UTC', coalesce(due.at, clock.now) at time zone 'UTC'
from
  (select coalesce(cast(:now as timestamptz), clock_timestamp()) as now) as clock
  cross join json_to_recordset(cast(:jobs as json)) as given(
    position integer, state text, queue text, worker text, args jsonb, meta jsonb, tags text[],
    priority integer, max_attempts integer, unique_key text, scheduled_at timestamptz, seconds double precision)
  cross join lateral (
    select coalesce(given.scheduled_at, clock.now + given.seconds * interval '1 second') as at) as due
order by given.position
returning
  id, state, inserted_at, scheduled_at,
  case when state = 'available' then pg_notify(cast(:channel as text), json_build_object('queue', queue)::text) end
