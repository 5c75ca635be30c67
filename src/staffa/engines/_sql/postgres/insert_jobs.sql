-- Own version: PostgreSQL takes the time from its own clock and wakes listeners when the transaction commits.
-- What jobs have in common is written once, in :kinds. The names in :jobs say the kind of each job and, behind a
-- colon, its unique key; they may repeat.
insert into oban_jobs
  (state, queue, worker, args, meta, tags, priority, max_attempts, unique_key, inserted_at, scheduled_at)
select
  (case when kind.state = 'available' and due.at > clock.now then 'scheduled' else kind.state end)::oban_job_state,
  kind.queue, kind.worker, given.value::jsonb, kind.meta, kind.tags, kind.priority, kind.max_attempts,
  case when strpos(given.key, ':') > 0 then substr(given.key, strpos(given.key, ':') + 1) end,
  clock.now at time zone 'UTC', coalesce(due.at, clock.now) at time zone 'UTC'
from
  (select coalesce(cast(:now as timestamptz), clock_timestamp()) as now) as clock
  cross join json_each(cast(:jobs as json)) with ordinality as given(key, value, position)
  join json_to_recordset(cast(:kinds as json)) as kind(
    number integer, state text, queue text, worker text, meta jsonb, tags text[],
    priority integer, max_attempts integer, scheduled_at timestamptz, seconds double precision)
  on kind.number = cast(split_part(given.key, ':', 1) as integer)
  cross join lateral (
    select coalesce(kind.scheduled_at, clock.now + kind.seconds * interval '1 second') as at) as due
order by given.position
returning
  id, state::text, inserted_at, scheduled_at,
  case when state = 'available' then pg_notify(cast(:channel as text), json_build_object('queue', queue)::text) end
