-- Own version: one round trip does both halves. Ids are gathered in arrays so that no statistics can turn
-- the primary key look-up into a join over the whole table; the fence says `state::text` so that no partial
-- index can serve it. Those who took jobs before look behind them, past no dead entries. Jobs without an attempt left are discarded, not taken.
with acked as (
  update oban_jobs set state = 'completed', completed_at = coalesce(:now::timestamptz, now()) at time zone 'UTC'
  where id = any(array(
    select id from oban_jobs
    where id = any(:ids::bigint[])
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
    id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
    inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
)
select null::bigint as acked, taken.* from taken
union all
select count(*), null, null, null, null, null, null, null, null, null, null, null,
  null, null, null, null, null, null, null, null, null
from acked
