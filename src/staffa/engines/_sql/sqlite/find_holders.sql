-- Own version: lists are JSON, and time is this machine's.
select
  :now as now,
  held.key, held.states, held.period, held.timestamp,
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from staffa_keys as held
left join oban_jobs on id = held.job_id and unique_key = held.key
where held.key in (select value from json_each(:keys))
