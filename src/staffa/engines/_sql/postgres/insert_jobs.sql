-- Own version: PostgreSQL takes the time from its own clock and wakes listeners when the transaction commits.
-- What jobs have in common is written once, in :kinds. The names in :jobs say the kind of each job and, behind a
-- colon, its unique key; they may repeat. Each kind is answered as it was stored; the first one brings all ids,
-- eight bytes each, as a row for each job would cost more than the rest of its way back.
with kind as materialized (
  select
    number, queue, worker, meta, tags, priority, max_attempts,
    case when state = 'available' and at > now then 'scheduled' else state end as state,
    now at time zone 'UTC' as inserted_at, coalesce(at, now) at time zone 'UTC' as scheduled_at
  from
    (select coalesce(cast(:now as timestamptz), clock_timestamp()) as now) as clock
    cross join json_to_recordset(cast(:kinds as json)) as given(
      number integer, state text, queue text, worker text, meta jsonb, tags text[],
      priority integer, max_attempts integer, scheduled_at timestamptz, seconds double precision)
    cross join lateral (
      select coalesce(given.scheduled_at, clock.now + given.seconds * interval '1 second') as at) as due
),
stored as (
  insert into oban_jobs
    (state, queue, worker, args, meta, tags, priority, max_attempts, unique_key, inserted_at, scheduled_at)
  select
    kind.state::oban_job_state, kind.queue, kind.worker, given.value::jsonb, kind.meta, kind.tags, kind.priority,
    kind.max_attempts, case when strpos(given.key, ':') > 0 then substr(given.key, strpos(given.key, ':') + 1) end,
    kind.inserted_at, kind.scheduled_at
  from json_each(cast(:jobs as json)) with ordinality as given(key, value, position)
  join kind on kind.number = cast(split_part(given.key, ':', 1) as integer)
  order by given.position
  returning id
)
select
  case when number = 0 then (select string_agg(int8send(id), '') from stored) end,
  state, inserted_at, scheduled_at,
  case when state = 'available' then pg_notify(cast(:channel as text), json_build_object('queue', queue)::text) end
from kind
order by number
