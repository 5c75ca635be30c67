-- Own version: the transaction that writes holds every row already.
select
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from oban_jobs
where id in (select value from json_each(:ids))
order by id
