-- Own version: one round trip does both halves. Ids are gathered in arrays so that no statistics can turn
-- the primary key look-up into a join over the whole table; the fence says `state::text` so that no partial
-- index can serve it. Those who took jobs before look behind them, past no dead entries. Jobs without an attempt
-- left are discarded, not taken. What all jobs share comes once, with the count; what is empty comes as null.
with acked as (
  update oban_jobs set state = 'completed', completed_at = coalesce(:now::timestamptz, now()) at time zone 'UTC'
  where id = any(array(
    select id from oban_jobs
    where id = any(array(select unnest(:fences::bigint[]) >> 20))
      and state::text = 'executing'
      and (id << 20) + take = any(:fences::bigint[])
      and attempted_by[2] = :producer
    for update skip locked))
  returning id
),
taken as (
  update oban_jobs set
    state = (case when attempt < max_attempts then 'executing' else 'discarded' end)::oban_job_state,
    discarded_at = case when attempt < max_attempts then null else coalesce(:now::timestamptz, now()) at time zone 'UTC' end,
    attempt = least(attempt + 1, max_attempts),
    take = take + 1,
    attempted_at = coalesce(:now::timestamptz, now()) at time zone 'UTC',
    attempted_by = array[:node, :producer]
  where id = any(array(
    select id from oban_jobs
    where state = 'available' and queue = :queue
      and (priority, scheduled_at, id) > (:after_priority::integer, :after_time::timestamptz at time zone 'UTC', :after_id::bigint)
      and exists (select from staffa_producers where id = :producer and expired_at is null)
    order by priority, scheduled_at, id
    limit :demand
    for update skip locked))
  returning
    state, id, worker, args, nullif(meta, '{}') as meta, nullif(tags, '{}') as tags, nullif(errors, '{}') as errors,
    attempt, max_attempts, priority, inserted_at, scheduled_at, completed_at, cancelled_at, take, unique_key
)
select
  count(*) as acked, :queue::text as queue, coalesce(:now::timestamptz, now()) at time zone 'UTC' as attempted_at,
  array[:node, :producer] as attempted_by, null::bigint as id, null as worker, null::jsonb as args, null::jsonb as meta,
  null::text[] as tags, null::jsonb[] as errors, null::integer as attempt, null::integer as max_attempts,
  null::integer as priority, null::timestamp as inserted_at, null::timestamp as scheduled_at,
  null::timestamp as completed_at, null::timestamp as cancelled_at, null::integer as take, null as unique_key
from acked
union all
select
  null, null, null, null, id, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, completed_at, cancelled_at, take, unique_key
from taken where state = 'executing'
