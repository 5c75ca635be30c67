-- Own version: the database's clock is asked after the locks are held, and each holder is looked up by its id,
-- whatever statistics say.
select
  coalesce(cast(:now as timestamptz), clock_timestamp()) at time zone 'UTC' as now,
  held.key, held.states, held.period, held.timestamp, holder.*
from staffa_keys as held
left join lateral (
  select
    id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
    inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
  from oban_jobs
  where id = held.job_id and unique_key = held.key
  offset 0) as holder on true
where held.key = any(array(select json_array_elements_text(cast(:keys as json))))
